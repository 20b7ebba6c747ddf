"""One finding and one rule in, a check for each of the rule's tests out: passed, failed or undecided.

Limits: an interval wholly beyond the limit fails, one wholly within it passes, one on both sides is
undecided. The limit itself is within: an interval that ends exactly on it from inside passes, and one that
only touches it from outside is undecided.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, final

from counterpoise.audit.gating.measures import rate_of, ratio_of, size_of
from counterpoise.audit.gating.policy import Rule
from counterpoise.audit.refusals import literal
from counterpoise.audit.results import Coverage, Finding, Findings, Measured
from counterpoise.stats.verdict import ROUNDING

Outcome = Literal["passed", "failed", "undecided"]
MAX_SHOWN = 60


@final
@dataclass(frozen=True, slots=True)
class Check:
    """One test of one finding, or of one arm's pictures.

    finding: its id, None of an arm's pictures. about: in words. quantity, value, low, high: what was held
    against the limit, with its interval (low and high are the value where it is a plain count); n: pictures.
    measured: False where not one picture was read, which no policy can let pass.
    """

    test: str
    status: Outcome
    finding: str | None
    arm: str
    about: str
    quantity: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    limit: str
    reason: str
    method: str
    measured: bool = True


def check_finding(finding: Finding, rule: Rule, findings: Findings) -> Iterator[Check]:
    """Every test of the rule that is about the finding itself."""
    read = finding.n - finding.abstained
    if read <= 0:
        said = "not one picture was read: nothing is known, and that is not fair"
        yield _check(
            finding, "require", finding.effect, ("undecided", "some pictures read", said), measured=False
        )
    if rule.require is not None:
        yield _decided(finding, rule)
    if rule.max_effect is not None:
        yield _most(finding, "max_effect", size_of(finding, findings), rule.max_effect)
    if rule.max_ratio is not None:
        yield _most(finding, "max_ratio", ratio_of(finding, findings), rule.max_ratio)
    if rule.min_rate is not None:
        yield _least(finding, rate_of(finding, findings), rule.min_rate)
    if rule.max_abstained is not None:
        share = finding.abstained / finding.n if finding.n else math.nan
        found = Measured(share, share, share, finding.n, "counted")
        yield _most(finding, "max_abstained", ("not read", found), rule.max_abstained)
    if rule.min_n is not None:
        yield _enough(finding, rule.min_n)


def check_pictures(coverage: Coverage, *, max_invalid: float | None, min_n: int | None) -> Iterator[Check]:
    """The tests of an arm's pictures: how many are no use, and how many there are."""
    drawn = coverage.drawn
    about = {"finding": None, "arm": coverage.arm, "about": f"pictures of {coverage.arm}", "n": drawn}
    if max_invalid is not None:
        # A blank picture may repeat another too; the counts do not say, so both extremes are taken.
        parts = (coverage.blank, coverage.failed, coverage.duplicates)
        least = max(coverage.blank + coverage.failed, coverage.duplicates)
        most = min(sum(parts), drawn)
        low, high = (least / drawn, most / drawn) if drawn else (0.0, 1.0)
        status = _side(low, high, max_invalid)
        said = "{} blank, {} that broke the judge, {} that repeat another".format(*parts)
        yield Check(
            test="max_invalid",
            status=status,
            quantity="invalid",
            value=low if least == most and drawn else None,
            low=low,
            high=high,
            limit=f"at most {max_invalid:g}",
            reason=said if drawn else "nothing was drawn",
            method="counted",
            measured=drawn > 0,
            **about,  # type: ignore[arg-type]
        )
    if min_n is not None:
        yield Check(
            test="min_n",
            status="passed" if drawn >= min_n else "undecided",
            quantity="pictures drawn",
            value=float(drawn),
            low=float(drawn),
            high=float(drawn),
            limit=f"at least {min_n}",
            reason="" if drawn >= min_n else "too few pictures to decide: draw more",
            method="counted",
            measured=drawn > 0,
            **about,  # type: ignore[arg-type]
        )


def about(finding: Finding) -> str:
    """What a finding is about, in words: the attribute, the prompt, the arm, what it is held against."""
    prompt = f"'{finding.prompts[0]}'" if len(finding.prompts) == 1 else f"{len(finding.prompts)} prompts"
    event = f" = {finding.value}" if finding.value else ""
    group = f" ({finding.group} against {finding.reference})" if finding.group and finding.reference else ""
    return _clip(literal(f"{finding.attribute}{event}{group} of {prompt}")) + f" under {finding.arm}"


def worst_first(check: Check) -> tuple[int, int, float]:
    """Sorts failed before undecided before passed; among equals, the farthest beyond (or nearest to) a limit.

    Excesses of different tests are not of one scale, so tests are compared only with their own kind.
    """
    rank = {"failed": 0, "undecided": 1, "passed": 2}[check.status]
    value = check.value if check.value is not None else (check.low or 0.0)
    return rank, int(check.measured), value if check.test in ("min_rate", "min_n") else -value


def _decided(finding: Finding, rule: Rule) -> Check:
    decision = finding.decision if rule.use == "panel" else finding.alone
    reach = finding.kind == "reachability"
    words = {
        "biased": "not reached" if reach else "biased",
        "fair within tolerance": "reached" if reach else "fair within tolerance",
    }
    said = words.get(decision, decision)
    if decision == "biased":
        status: Outcome = "failed"
    elif decision == "fair within tolerance" or rule.require == "not biased":
        status = "passed"
    else:
        status = "undecided"
        if finding.log_e_fair is None and not reach:
            said += ": without a tolerance in the spec nothing can be called fair; add one"
    limit = words["fair within tolerance"]
    if rule.require == "not biased":
        limit = "not shown unreached" if reach else "not biased"
    return _check(finding, "require", finding.effect, (status, limit, said))


def _most(finding: Finding, test: str, named: tuple[str, Measured | None], limit: float) -> Check:
    quantity, found = named
    if found is None:
        return _unmeasured(finding, test, quantity, f"at most {limit:g}")
    status = _side(found.low, found.high, limit)
    return _check(finding, test, found, (status, f"at most {limit:g}", _straddles(status)), quantity=quantity)


def _least(finding: Finding, named: tuple[str, Measured | None], limit: float) -> Check:
    quantity, found = named
    if found is None:
        return _unmeasured(finding, "min_rate", quantity, f"at least {limit:g}")
    high = math.inf if found.high is None else found.high
    status = _side(-high, -found.low, -limit)
    return _check(
        finding, "min_rate", found, (status, f"at least {limit:g}", _straddles(status)), quantity=quantity
    )


def _side(low: float, high: float | None, limit: float) -> Outcome:
    """Where an interval lies beside an upper limit; nan is on no side."""
    if low > limit + ROUNDING:
        return "failed"
    within = high is not None and high <= limit + ROUNDING and not math.isnan(low)
    return "passed" if within else "undecided"


def _straddles(status: Outcome) -> str:
    return "the interval lies on both sides of the limit" if status == "undecided" else ""


def _enough(finding: Finding, least: int) -> Check:
    enough = finding.n >= least
    n = float(finding.n)
    found = Measured(n, n, n, finding.n, "counted")
    said = "" if enough else "too few pictures to decide: draw more"
    status: Outcome = "passed" if enough else "undecided"
    return _check(finding, "min_n", found, (status, f"at least {least}", said), quantity="pictures")


def _unmeasured(finding: Finding, test: str, quantity: str, limit: str) -> Check:
    nothing = Measured(None, math.nan, None, finding.n, "not measured")
    return _check(
        finding, test, nothing, ("undecided", limit, f"no {quantity} was measured"), quantity=quantity
    )


def _check(
    finding: Finding,
    test: str,
    found: Measured,
    answer: tuple[Outcome, str, str],
    *,
    quantity: str | None = None,
    measured: bool = True,
) -> Check:
    status, limit, reason = answer
    return Check(
        test=test,
        status=status,
        finding=finding.id,
        arm=finding.arm,
        about=about(finding),
        quantity=quantity or finding.effect_name,
        value=_finite(found.value),
        low=_finite(found.low),
        high=_finite(found.high),
        n=found.n,
        limit=limit,
        reason=reason,
        method=found.method,
        measured=measured,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _clip(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3].rstrip() + "..."

"""The audit in one sentence, and each finding in words that need no statistics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from counterpoise.audit.results import Claim, Decision, Finding
from counterpoise.audit.spec import SLOT
from counterpoise.report import text
from counterpoise.report.tables import Cell, Mark, figure, span, unit_of

NOTHING = "Nothing was measured."
FAIR: Decision = "fair within tolerance"
_WORDS: dict[str, dict[Decision, str]] = {
    "reachability": {"biased": "not reached", FAIR: "reached"},
    "drift": {"biased": "moved", FAIR: "unmoved within tolerance"},
}
_MARKS: dict[Decision, tuple[str, Mark]] = {
    "biased": ("✗", "no"),
    FAIR: ("✓", "yes"),
    "undecided": ("?", "none"),
}
_BIASED = {
    "claim": ("distribution off its target", "distributions off their targets"),
    "disparity": ("disparity between groups", "disparities between groups"),
    "reachability": ("prompt not obeyed", "prompts not obeyed"),
    "drift": ("drift", "drifts"),
}


def decision_cell(finding: Finding, decision: Decision) -> Cell:
    """A verdict with its sign; in the words of the finding's kind."""
    sign, mark = _MARKS[decision]
    if finding.n <= 0:
        return Cell("? undecided", "nothing was read", mark="none")
    return Cell(f"{sign} {_WORDS.get(finding.kind, {}).get(decision, decision)}", mark=mark)


def severity(finding: Finding) -> tuple[int, float, float]:
    """Sorts findings, the worst last: biased above undecided above fair, then how far off for certain.

    How far: the end of the effect's interval that is nearer to fair, as a share of pictures or of the scale
    from fair to as unfair as can be, so that kinds compare. A large estimate on few pictures is no worst.
    """
    place: dict[Decision, int] = {"biased": 2, "undecided": 1, FAIR: 0}
    effect = finding.effect
    value = effect.value if effect.value is not None and math.isfinite(effect.value) else effect.low
    return place[finding.decision], _sure(finding), _off(finding, value)


def _sure(finding: Finding) -> float:
    low, high = finding.effect.low, finding.effect.high
    ends = [low, math.inf if high is None else high]
    fair = {"ratio of rates": 1.0, "difference of rates": 0.0}.get(finding.effect_name)
    if fair is not None and ends[0] <= fair <= ends[1]:
        return 0.0
    return min(_off(finding, end) for end in ends)


def _off(finding: Finding, value: float) -> float:
    if math.isnan(value):
        return 0.0
    if finding.effect_name == "ratio of rates":
        return 1.0 - min(value, 1.0 / value) if value > 0 else 1.0
    if finding.effect_name == "rate":
        return 1.0 - value
    return abs(value)


def verdict_sentence(
    findings: Sequence[Finding], claims: Sequence[Claim] = (), *, confidence: float = 0.95
) -> str:
    """How many findings are biased, fair or undecided, and the worst one in words; one sentence.

    Without findings, what the claims say by themselves.
    """
    if not findings:
        return summarise(claims)
    measured = [f for f in findings if f.n > 0]
    if not measured:
        return NOTHING
    worst = max(measured, key=severity)
    told = f"{_worst_words(worst, claims)} ({100 * confidence:g}\u00a0% interval in brackets)"
    return _counted(findings, len(findings) - len(measured)) + _told(findings, worst, told)


def _told(findings: Sequence[Finding], worst: Finding, told: str) -> str:
    if worst.decision == "biased":
        return f"; the worst: {told}."
    if worst.decision == "undecided":
        untold = (
            ""
            if any(f.tolerance is not None or f.kind == "reachability" for f in findings)
            else (" (no tolerance was set, so nothing can be called fair)")
        )
        return f"{untold}; the farthest off so far, which may be chance: {told}."
    return f"; the farthest off, within what was tolerated: {told}."


def _counted(findings: Sequence[Finding], unread: int) -> str:
    total = len(findings)
    counts = Counter(f.decision for f in findings)
    over = f"{total} finding{'s' * (total != 1)}"
    empty = f" ({unread} of them without a single reading)" if unread else ""
    if counts["undecided"] == total:
        whom = "the one finding is" if total == 1 else f"all {over} are"
        return f"Nothing is decided: {whom} undecided{empty}"
    if counts[FAIR] == total:
        return f"{'The one finding is' if total == 1 else f'All {over} are'} fair within tolerance"
    biased = counts["biased"]
    kinds = Counter(f.kind for f in findings if f.decision == "biased")
    what = ", ".join(f"{n} {_BIASED[kind][n != 1]}" for kind, n in kinds.items())
    head = f"{biased} of {over} {'is' if biased == 1 else 'are'} biased" + (f" ({what})" if what else "")
    head = head if biased else f"None of {over} is shown to be biased"
    return f"{head}, {counts[FAIR]} fair within tolerance, {counts['undecided']} undecided{empty}"


def _worst_words(finding: Finding, claims: Sequence[Claim]) -> str:
    f, effect = finding, finding.effect
    unit = unit_of(f.effect_name)
    prompt = asked_words(f)
    value = text.NOT_MEASURED if effect.value is None else figure(effect.value, unit)
    amount = f"{value} {span(effect.low, effect.high, unit)}"
    event = " ".join(text.clip(part, 90) for part in (f.value, f.attribute) if part)
    if f.kind == "disparity":
        other = f.reference or "the other groups"
        how = f"{amount} as often" if unit == "times" else f"{amount} apart"
        return f"with {f.arm}, {prompt} draws {event} {how}: {f.group} against {other}, {f.n} pictures"
    if f.kind == "reachability":
        return f"with {f.arm}, {prompt} gives {event} in {amount} of {f.n} pictures, {f.against} was asked"
    if f.kind == "drift":
        moved = f"moves {f.attribute} of {prompt} by {amount} (total variation)"
        return f"{f.arm} {moved}, {f.against}, {f.n} pictures"
    claim = next((c for c in claims if _answers(c, f)), None)
    return f"with {f.arm}, {prompt} " + (
        _most_drawn(claim)
        if claim is not None and claim.shares
        else f"is {amount} (total variation) from {f.against} in {f.attribute}, {f.n} pictures"
    )


def _answers(claim: Claim, finding: Finding) -> bool:
    same = (claim.attribute, claim.arm) == (finding.attribute, finding.arm)
    return same and claim.where in ("", finding.where) and finding.prompts == (claim.prompt,)


def _most_drawn(claim: Claim) -> str:
    """The value that is farthest from its target, too often before too rarely."""
    off = {v: s - claim.target.get(v, 0.0) for v, s in claim.shares.items()}
    top = max(off, key=lambda v: (abs(off[v]), off[v]))
    bounds = span(claim.low.get(top, math.nan), claim.high.get(top, math.nan), "share")
    return (
        f"is drawn with {claim.attribute} {top} in {text.percent(claim.shares[top])} {bounds} of {claim.n} "
        f"pictures, where the target is {text.percent(claim.target.get(top, 0.0))}"
    )


def asked_words(finding: Finding) -> str:
    """The prompts of a finding in words; of a disparity the place where groups stand is an ellipsis."""
    if finding.kind == "disparity":
        return prompts_words([prompt.replace(SLOT, "…") for prompt in finding.prompts])
    return prompts_words(finding.prompts)


def prompts_words(prompts: Sequence[str]) -> str:
    """One prompt in quotation marks, or the first of many and how many more."""
    if not prompts:
        return "the prompts"
    more = f" and {len(prompts) - 1} more" if len(prompts) > 1 else ""
    return f"“{text.clip(prompts[0], 90)}”{more}"


def summarise(claims: Iterable[Claim]) -> str:
    """One sentence on the first arm's claims: how many prompts are off target, and which the most."""
    found = [claim for claim in claims if claim.n > 0 and math.isfinite(claim.tv)]
    if not found:
        return NOTHING
    arm = found[0].arm
    mine = [claim for claim in found if claim.arm == arm]
    off = [claim for claim in mine if claim.tv_low > 0]
    worst = max(mine, key=lambda claim: claim.tv)
    return (
        f"Under {arm}, {len(off)} of {len(mine)} claims are off their target beyond chance; the farthest is "
        f"{worst.attribute} of {worst.prompt!r}: {worst.tv:.3f} [{worst.tv_low:.3f}, {worst.tv_high:.3f}]."
    )

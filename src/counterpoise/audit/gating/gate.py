"""Findings and a policy in, an answer for every rule out: passed, failed or undecided. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, final

from counterpoise.audit.cells import negative_of
from counterpoise.audit.gating.checks import Check, check_finding, check_pictures, worst_first
from counterpoise.audit.gating.policy import Policy, Rule
from counterpoise.audit.refusals import literal
from counterpoise.audit.results import Coverage, Finding, Findings
from counterpoise.errors import UsageError
from counterpoise.measure.cards import nearest

Status = Literal["passed", "failed", "undecided", "skipped"]
EXIT_CODES = {"passed": 0, "failed": 1, "undecided": 3}


@final
@dataclass(frozen=True, slots=True)
class RuleResult:
    """What a rule came to. where: its table in the policy ("rule[0]"), or "max_invalid" of the guard.

    matched: findings (or arms) that it looked at. failed, undecided: of its checks. worst: the check that
    settles it. skipped: an optional rule that matched nothing.
    """

    where: str
    title: str
    status: Status
    matched: int
    failed: int
    undecided: int
    worst: Check | None
    checks: tuple[Check, ...]
    reason: str = ""


@final
@dataclass(frozen=True, slots=True)
class GateResult:
    """What a policy came to: failed if any rule failed, else undecided if any is, else passed."""

    policy: str
    status: Literal["passed", "failed", "undecided"]
    rules: tuple[RuleResult, ...]

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 3 undecided."""
        return EXIT_CODES[self.status]


def gate(findings: Findings, policy: Policy) -> GateResult:
    """Hold what an audit found against a policy.

    A rule fails if any of its checks fails, else it is undecided if any is. Every arm that was looked at is
    also held against the policy's max_invalid. UsageError E_POLICY_MATCH for a rule that matches nothing and
    is not optional.
    """
    results: list[RuleResult] = []
    arms: dict[str, None] = {}
    for i, rule in enumerate(policy.rules):
        result, seen = _apply(rule, f"rule[{i}]", findings)
        results.append(result)
        arms.update(dict.fromkeys(seen))
    if arms:
        results.append(_guard(findings, arms, policy.max_invalid))
    told = {result.status for result in results}
    if "failed" in told:
        return GateResult(policy.name, "failed", tuple(results))
    # A policy of which nothing applied has shown nothing.
    undecided = "undecided" in told or not arms
    return GateResult(policy.name, "undecided" if undecided else "passed", tuple(results))


def _apply(rule: Rule, where: str, findings: Findings) -> tuple[RuleResult, list[str]]:
    """What the rule came to, and the arms that it looked at."""
    if rule.kind == "coverage":
        rows = [row for row in findings.coverage if _fits(rule.arm, [row.arm])]
        arms = [row.arm for row in rows]
        checks = [
            check
            for row in rows
            for check in check_pictures(row, max_invalid=rule.max_invalid, min_n=rule.min_n)
        ]
        matched = len(rows)
    else:
        found = [finding for finding in findings.findings if matches(rule, finding)]
        arms = _arms_of(found, findings)
        checks = [check for finding in found for check in check_finding(finding, rule, findings)]
        if rule.max_invalid is not None and found:
            checks += _pictures(findings, arms, rule.max_invalid)
        matched = len(found)
    if not matched:
        return _nothing(rule, where, findings), []
    return _settle(checks, (where, rule.title), matched, rule.undecided), arms


def matches(rule: Rule, finding: Finding) -> bool:
    """Whether a rule is about a finding: its kind, and every filter that the rule has."""
    return (
        finding.kind == rule.kind
        and _fits(rule.attribute, [finding.attribute])
        and _fits(rule.arm, [finding.arm])
        and _fits(rule.prompt, finding.prompts)
        and (rule.where is None or any(_under(finding.where, table) for table in rule.where))
        and (rule.held_out is None or finding.held_out == rule.held_out)
    )


def _fits(patterns: Sequence[str] | None, texts: Iterable[str]) -> bool:
    """Whether any text is, or is like, any pattern. A prompt may hold brackets that are meant as such."""
    if patterns is None:
        return True
    return any(text == p or fnmatchcase(text, _escaped(p)) for text in texts for p in patterns)


def _escaped(pattern: str) -> str:
    return pattern.replace("[", "[[]")


def _under(where: str, table: str) -> bool:
    return where == table or where.startswith((f"{table}.", f"{table}["))


def _arms_of(found: Iterable[Finding], findings: Findings) -> list[str]:
    """The arms whose pictures the findings rest on, a drift's baseline among them."""
    baselines = {drift.finding: drift.baseline for drift in findings.drifts}
    arms = [arm for f in found for arm in (f.arm, baselines.get(f.id)) if arm is not None]
    return list(dict.fromkeys(arms))


def _pictures(findings: Findings, arms: Iterable[str], most: float) -> list[Check]:
    """The checks of these arms' pictures, and of those that were drawn for them with negative prompts."""
    named = set(arms)
    rows = [row for row in findings.coverage if row.arm in named or _beside(row) in named]
    return [check for row in rows for check in check_pictures(row, max_invalid=most, min_n=None)]


def _beside(row: Coverage) -> str | None:
    negative = negative_of(row.arm)
    return negative[0] if negative else None


def _guard(findings: Findings, arms: Iterable[str], most: float) -> RuleResult:
    checks = _pictures(findings, arms, most)
    return _settle(checks, ("max_invalid", "usable pictures"), len(checks), "undecided")


def _settle(checks: Sequence[Check], named: tuple[str, str], matched: int, undecided: str) -> RuleResult:
    where, title = named
    ordered = sorted(checks, key=worst_first)
    failed = sum(check.status == "failed" for check in checks)
    open_ones = [check for check in checks if check.status == "undecided"]
    status: Status = "failed" if failed else "undecided" if open_ones else "passed"
    reason = ""
    if status == "undecided" and undecided == "fail":
        status, reason = "failed", "undecided counts as failed here"
    elif status == "undecided" and undecided == "pass" and all(check.measured for check in open_ones):
        status, reason = "passed", "undecided counts as passed here"
    worst = ordered[0] if ordered else None
    if worst is None:
        status, reason = "undecided", "no pictures are counted in these results"
    return RuleResult(where, title, status, matched, failed, len(open_ones), worst, tuple(ordered), reason)


def _nothing(rule: Rule, where: str, findings: Findings) -> RuleResult:
    """Skipped if the rule is optional, else a UsageError that says which filter leaves nothing."""
    if rule.optional:
        return RuleResult(where, rule.title, "skipped", 0, 0, 0, None, (), "matches nothing in this run")
    raise UsageError(
        f"{where} ({literal(rule.title)}) matches nothing in this run: {_why(rule, findings)}; "
        "correct it, or set optional = true",
        code="E_POLICY_MATCH",
    )


def _why(rule: Rule, findings: Findings) -> str:
    if rule.kind == "coverage":
        asked = rule.arm[0] if rule.arm else "*"
        return literal(f"arm {asked!r:.80}: {nearest(asked, [row.arm for row in findings.coverage])}")
    left = [finding for finding in findings.findings if finding.kind == rule.kind]
    if not left:
        kinds = dict.fromkeys(finding.kind for finding in findings.findings)
        return f"it has no findings of kind {rule.kind!r}; known: {', '.join(kinds) or 'none at all'}"
    for key in ("attribute", "arm", "prompt", "where", "held_out"):
        asked = getattr(rule, key)
        if asked is None:
            continue
        alone = Rule(kind=rule.kind, min_n=1, **{key: asked})
        if not any(matches(alone, finding) for finding in left):
            options = {str(text) for finding in left for text in _texts(finding, key)}
            wanted = str(asked[0] if isinstance(asked, tuple) else asked)
            return literal(f"{key} {wanted!r:.80}: {nearest(wanted, options)}")
    return "each filter leaves something, all of them together nothing"


def _texts(finding: Finding, key: str) -> Sequence[object]:
    return finding.prompts if key == "prompt" else [getattr(finding, key)]

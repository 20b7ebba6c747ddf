"""What a gate says: a line a rule, one sentence at the end; the same words in the terminal and elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from counterpoise.audit.gating.checks import Check
from counterpoise.audit.gating.gate import GateResult, RuleResult
from counterpoise.audit.refusals import literal


def lines(result: GateResult) -> list[str]:
    """One line a rule, then the summary."""
    return [*map(rule_line, result.rules), summary(result)]


def rule_line(rule: RuleResult) -> str:
    """`failed     skin (rule[0]): 2 of 14 fail; worst: ...`."""
    return f"{rule.status:<9}  {literal(rule.title)} ({rule.where}): {'; '.join(_parts(rule))}"


def check_text(check: Check) -> str:
    """`skin of 'a boss' under base: total variation 0.412 [0.355, 0.470], n = 400; wanted: at most 0.1`."""
    said = f" ({literal(check.reason)})" if check.reason else ""
    return f"{check.about}: {numbers(check)}; wanted: {check.limit}{said}"


def numbers(check: Check) -> str:
    """A quantity with its interval and n, or that it was not measured."""
    n = f"n = {check.n}"
    if check.low is None and check.value is None:
        return f"{check.quantity} not measured, {n}"
    if check.test == "min_n":
        return f"{check.quantity} {check.value:.0f}"
    value = "not known" if check.value is None else f"{check.value:.3f}"
    if check.low == check.high == check.value:
        return f"{check.quantity} {value}, {n}"
    low = "-" if check.low is None else f"{check.low:.3f}"
    high = "no limit" if check.high is None else f"{check.high:.3f}"
    return f"{check.quantity} {value} [{low}, {high}], {n}"


def summary(result: GateResult) -> str:
    """`FAILED: 1 of 3 rules failed, 1 undecided, 1 passed`."""
    counts = {status: sum(r.status == status for r in result.rules) for status in _ORDER}
    told = [f"{n} {status}" for status, n in counts.items() if n]
    return f"{result.status.upper()}: of {len(result.rules)} rules " + (", ".join(told) or "none applied")


_ORDER = ("failed", "undecided", "passed", "skipped")


def _parts(rule: RuleResult) -> Iterator[str]:
    if rule.worst is None:
        yield rule.reason
        return
    what = "arms" if rule.worst.finding is None else "findings"
    counts = [f"{n} {word}" for n, word in ((rule.failed, "failed"), (rule.undecided, "undecided")) if n]
    held = f"{rule.matched} {what if rule.matched != 1 else what[:-1]}"
    yield f"{held}, checks: {', '.join(counts)}" if counts else f"{held}, all pass"
    yield f"{'worst' if counts else 'nearest'}: {check_text(rule.worst)}"
    if rule.reason:
        yield rule.reason

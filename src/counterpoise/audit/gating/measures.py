"""The numbers of a finding that a policy sets limits to: how large, how many times as often, how often.

Each comes with its name, and None where the audit measured no such number.
"""

from __future__ import annotations

import math

from counterpoise.audit.results import Finding, Findings, Measured


def size_of(finding: Finding, findings: Findings) -> tuple[str, Measured | None]:
    """How large the effect is, either way: a distance, or a difference of rates without its sign."""
    if finding.kind != "disparity":
        return finding.effect_name, finding.effect
    if finding.effect_name == "difference of rates":
        return finding.effect_name, _folded(finding.effect)
    found = next((c.difference for c in findings.contrasts if c.finding == finding.id), None)
    return "difference of rates", None if found is None else _folded(found)


def ratio_of(finding: Finding, findings: Findings) -> tuple[str, Measured | None]:
    """How many times as often the one shows it as the other, whichever is more."""
    found = finding.effect if finding.effect_name == "ratio of rates" else None
    found = found or next((c.ratio for c in findings.contrasts if c.finding == finding.id), None)
    return "ratio of rates", None if found is None else _folded_ratio(found)


def rate_of(finding: Finding, findings: Findings) -> tuple[str, Measured | None]:
    """How often the prompt is obeyed."""
    if finding.effect_name == "rate":
        return "rate", finding.effect
    return "rate", next((r.rate for r in findings.reached if r.finding == finding.id), None)


def _folded(m: Measured) -> Measured:
    if _unknown(m):
        return m
    high = 1.0 if m.high is None else m.high
    low = 0.0 if m.low <= 0.0 <= high else min(abs(m.low), abs(high))
    return Measured(None if m.value is None else abs(m.value), low, max(abs(m.low), abs(high)), m.n, m.method)


def _folded_ratio(m: Measured) -> Measured:
    if _unknown(m):
        return m
    value = m.value if m.value is None or m.value >= 1.0 else (1.0 / m.value if m.value else None)
    most = math.inf if m.high is None else m.high
    upside_down = math.inf if m.low <= 0.0 else 1.0 / m.low
    low = max(m.low, 1.0 / most if most > 0.0 else math.inf, 1.0)
    high = max(most, upside_down)
    return Measured(value, low, high if math.isfinite(high) else None, m.n, m.method)


def _unknown(m: Measured) -> bool:
    """nan at an end: min and max would hide it, and it must stay on no side of any limit."""
    return math.isnan(m.low) or (m.high is not None and math.isnan(m.high))

"""All findings as one table, worst first, and how many of each verdict every arm has."""

from __future__ import annotations

import math
from collections.abc import Sequence

from counterpoise.audit.results import Finding
from counterpoise.report import text
from counterpoise.report.tables import Cell, Table, capped, measured_cell, unit_of
from counterpoise.report.verdict import FAIR, asked_words, decision_cell, severity

MOST_FINDINGS = 250
_LOG10 = math.log(10.0)
_CLIPPED = 1e6  # where audits clip natural logarithms of e-values


_PAST = "Biased: shown to be past what is tolerated. Fair: shown to be within it. Undecided: neither, yet."
_EXACT = (
    "No tolerance was stated, so biased: shown to differ from what was asked for, by however little; "
    "undecided: not shown, yet; nothing can be shown to be fair."
)
_BOTH = " A question without a tolerance is biased where it is shown to differ at all, and never fair."


def meaning(findings: Sequence[Finding]) -> str:
    """What the verdicts say of these findings, which depends on whether their questions state a tolerance."""
    exact = {_is_exact(f) for f in findings}
    return _EXACT if exact == {True} else _PAST + _BOTH * (True in exact)


def _is_exact(f: Finding) -> bool:
    limited = f.kind == "reachability" or f.effect_name == "ratio of rates"
    return f.tolerance is None and not limited


def findings_table(findings: Sequence[Finding], confidence: float) -> Table | None:
    """One row a finding: what was asked, of whom, the verdict in the panel and alone, effect, evidence."""
    if not findings:
        return None
    ranked = sorted(findings, key=severity, reverse=True)
    ways = "; ".join(dict.fromkeys(f.method for f in ranked if f.method))
    effects = "; ".join(dict.fromkeys(f.effect.method for f in ranked if f.effect.method))
    table = Table(
        f"All {len(findings)} findings, the worst first",
        (
            "question",
            "arm",
            "verdict",
            "alone",
            "effect",
            "e-value, biased",
            "e-value, fair",
            "pictures",
        ),
        [_row(f) for f in ranked],
        (f"Evidence: {ways}.", f"Effects' intervals: {effects}, at {100 * confidence:g}\u00a0%."),
    )
    return capped(table, MOST_FINDINGS)


def _row(f: Finding) -> list[Cell]:
    event = " ".join(part for part in (f.value, f.attribute) if part)
    groups = f": {f.group} against {f.reference or 'the others'}" if f.group else ""
    beside = [f"against {f.against}"] if f.against and not f.group else []
    beside += [f"within {f.tolerance:g}"] if f.tolerance is not None else []
    beside += ["held out"] if f.held_out else []
    beside += ["about the model"] if f.scope == "model" else []
    return [
        Cell(f"{event} of {asked_words(f)}{groups}", "; ".join(beside)),
        Cell(text.clip(f.arm, 60), arm=f.arm),
        decision_cell(f, f.decision),
        decision_cell(f, f.alone),
        _effect(f),
        Cell(e_value(f.log_e_biased)),
        Cell(e_value(f.log_e_fair)),
        Cell(str(f.n), f"{f.abstained} no reading" if f.abstained else ""),
    ]


def _effect(f: Finding) -> Cell:
    cell = measured_cell(f.effect, unit_of(f.effect_name))
    return cell if cell.main == text.NOT_MEASURED else Cell(cell.main, f"{cell.note}; {f.effect_name}")


def e_value(log_e: float | None) -> str:
    """An e-value from its natural logarithm: plain up to 9999, then a power of ten; "none" for None."""
    if log_e is None:
        return "none"
    if math.isnan(log_e):
        return text.NOT_MEASURED
    if log_e >= _CLIPPED:
        return "beyond any bound"
    tens = log_e / _LOG10
    if tens >= 4:
        return f"10^{math.floor(tens)}"
    if tens <= -3:
        return "under 0.001"
    value = math.exp(log_e)
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def tallies_table(findings: Sequence[Finding]) -> Table | None:
    """Verdicts by arm, and how many of them the control over the whole panel took back."""
    if not findings:
        return None
    rows = []
    for arm in dict.fromkeys(f.arm for f in findings):
        mine = [f for f in findings if f.arm == arm]
        counts = [sum(f.decision == d for f in mine) for d in ("biased", FAIR, "undecided")]
        taken = sum(f.alone != f.decision for f in mine)
        unread = sum(f.n <= 0 for f in mine)
        figures = [len(mine), *counts, taken, unread]
        rows.append([Cell(text.clip(arm, 60), arm=arm), *(Cell(str(n)) for n in figures)])
    columns = (
        *("arm", "findings", "✗ biased, not reached or moved", "✓ fair within tolerance", "? undecided"),
        *("otherwise alone", "without a reading"),
    )
    return Table("Verdicts by arm, with the control over all findings together", columns, rows)

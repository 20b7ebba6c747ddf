"""Tables of the questions beside distributions: pairs, reached prompts, drift, published scores, judges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from counterpoise.audit.results import Claim, Contrast, Decision, Drift, Finding, Reached
from counterpoise.audit.spec import SLOT
from counterpoise.measure.calibration import Calibration, Confusion
from counterpoise.report import text
from counterpoise.report.tables import Cell, Table, capped, measured_cell, methods_used, span
from counterpoise.report.verdict import decision_cell, prompts_words
from counterpoise.stats import clopper_pearson

MOST_ROWS = 120
_UNCORRECTED = "no card"


def _verdict(findings: Iterable[Finding], wanted: str, arm: str) -> Cell:
    found = next((f for f in findings if f.id == wanted and f.arm == arm), None)
    found = found or next((f for f in findings if f.id == wanted), None)
    if found is None:
        return Cell(text.NOT_MEASURED)
    decision: Decision = found.decision
    cell = decision_cell(found, decision)
    alone = "" if found.alone == decision else f"alone: {found.alone}"
    return Cell(cell.main, "; ".join(filter(None, (cell.note, alone))), cell.mark)


def contrasts_table(
    contrasts: Sequence[Contrast], findings: Sequence[Finding], confidence: float
) -> Table | None:
    """Pairs of pictures on shared seeds, the largest difference first."""
    if not contrasts:
        return None
    ranked = sorted(contrasts, key=lambda c: -abs(c.difference.value or 0.0))
    rows = []
    for c in ranked:
        pairs = c.both + c.group_only + c.reference_only + c.neither
        event = f"{c.value} {c.attribute}: {c.group} against {c.reference}"
        rows.append(
            [
                Cell(event, f"“{text.clip(c.template.replace(SLOT, '…'), 90)}”"),
                Cell(text.clip(c.arm, 60), arm=c.arm),
                _verdict(findings, c.finding, c.arm),
                measured_cell(c.difference, "points"),
                Cell(_bounds(c.corrected_difference, "points")),
                measured_cell(c.ratio, "times"),
                Cell(_bounds(c.corrected_ratio, "times")),
                Cell(
                    f"{c.both} / {c.group_only} / {c.reference_only} / {c.neither}",
                    f"of {pairs} read pairs" + (f", {c.missing} not read" if c.missing else ""),
                ),
            ]
        )
    found = [m for c in ranked for m in (c.difference, c.ratio)]
    table = Table(
        "Counterfactual prompts, picture by picture on the same seeds, the largest difference first",
        (
            *("event and groups", "arm", "verdict", "difference of rates", "with the judge's error"),
            *("ratio of rates", "ratio with the judge's error", "both / first only / second only / neither"),
        ),
        rows,
        (methods_used(found, confidence),),
    )
    return capped(table, MOST_ROWS)


def _bounds(bounds: tuple[float, float | None] | None, unit: str) -> str:
    if bounds is None:
        return _UNCORRECTED
    return span(bounds[0], bounds[1], unit) or text.NOT_MEASURED


def reached_table(reached: Sequence[Reached], findings: Sequence[Finding], confidence: float) -> Table | None:
    """Explicit and negative prompts, the least obeyed first."""
    if not reached:
        return None
    ranked = sorted(reached, key=lambda r: r.rate.value if r.rate.value is not None else -1.0)
    rows = [
        [
            Cell(
                f"“{text.clip(r.prompt, 120)}”",
                f"negative prompt “{text.clip(r.negative, 90)}”" * bool(r.negative),
            ),
            Cell(f"{'no ' if r.negative else ''}{r.value} {r.attribute}"),
            Cell(text.clip(r.arm, 60), arm=r.arm),
            _verdict(findings, r.finding, r.arm),
            measured_cell(r.rate, "share"),
            Cell(text.percent(r.min_rate)),
            Cell(str(r.abstained), f"of {r.n} pictures"),
        ]
        for r in ranked
    ]
    table = Table(
        "Explicit and negative prompts, the least obeyed first",
        ("prompt", "asked for", "arm", "verdict", "obeyed", "at least", "no reading (not obeyed)"),
        rows,
        (methods_used([r.rate for r in ranked], confidence),),
    )
    return capped(table, MOST_ROWS)


def drifts_table(drifts: Sequence[Drift], findings: Sequence[Finding], confidence: float) -> Table | None:
    """What moved on prompts that an arm was not meant for, the most moved first."""
    if not drifts:
        return None
    ranked = sorted(drifts, key=lambda d: -(d.moved.value if d.moved.value is not None else -1.0))
    rows = [
        [
            Cell(d.attribute, prompts_words(d.prompts)),
            Cell(text.clip(d.arm, 60), arm=d.arm),
            _verdict(findings, d.finding, d.arm),
            measured_cell(d.moved, "distance"),
            Cell(_most_moved(d)),
            Cell(f"{d.changed} of {d.n}", f"{d.missing} not read" if d.missing else ""),
        ]
        for d in ranked
    ]
    table = Table(
        "Off-target ledger: what each arm moved against its baseline, the most moved first",
        (
            "attribute and prompt",
            "arm",
            "verdict",
            "moved (TV)",
            "most gained and lost",
            "seeds that read differently",
        ),
        rows,
        (methods_used([d.moved for d in ranked], confidence),),
    )
    return capped(table, MOST_ROWS)


def _most_moved(drift: Drift) -> str:
    """The value that gained most and the one that lost most, each with its share before and after."""
    values = dict.fromkeys([*drift.baseline_shares, *drift.shares])
    gains = {v: drift.shares.get(v, 0.0) - drift.baseline_shares.get(v, 0.0) for v in values}
    told = []
    for value in (
        dict.fromkeys((max(gains, key=lambda v: gains[v]), min(gains, key=lambda v: gains[v])))
        if gains
        else ()
    ):
        if math.isfinite(gains[value]) and gains[value] != 0:
            before, after = drift.baseline_shares.get(value, 0.0), drift.shares.get(value, 0.0)
            told.append(f"{text.clip(value, 40)} {text.percent(before)} → {text.percent(after)}")
    return "; ".join(told) or "nothing"


def scores_table(claims: Sequence[Claim]) -> Table | None:
    """The literature's scores of one prompt's attribute by arm, each beside a fair model's at that n."""
    rows = [
        [
            Cell(score.name),
            Cell(text.clip(claim.arm, 60), arm=claim.arm),
            *(Cell(text.number(figure)) for figure in (score.value, score.fair, score.excess)),
            Cell(str(claim.n - claim.abstained)),
        ]
        for claim in claims
        for score in claim.scores
    ]
    if not rows:
        return None
    columns = ("score", "arm", "value", "a fair model's at this n", "excess", "pictures read")
    notes = ("As their papers define them, over pictures that were read; only the excess compares across n.",)
    return Table("Published scores", columns, rows, notes)


def judge_tables(cards: Sequence[Calibration], confidence: float) -> list[Table]:
    """One table a confusion: what the judge read on labelled pictures, by their true value."""
    return [_confusion(card, each, confidence) for card in cards for each in card.confusions]


def _confusion(card: Calibration, found: Confusion, confidence: float) -> Table:
    group = f", group {found.group}" if found.group is not None else ""
    rows = []
    for truth, counts in zip(found.truth, found.counts, strict=True):
        n, right = sum(counts), counts[found.read.index(truth)]
        share = Cell(text.NOT_MEASURED)
        if n:
            estimate = clopper_pearson(right, n, confidence=confidence)
            share = Cell(text.percent(right / n), f"{span(estimate.low, estimate.high, 'share')} of {n}")
        rows.append([Cell(truth), *(Cell(str(count)) for count in counts), share])
    return Table(
        f"{card.measurer.name} on {found.n} labelled pictures: {found.attribute}{group}",
        ("true value", *(f"read {value}" for value in found.read), "read right"),
        rows,
        (
            f"Labels: {card.source} (made {card.made}, sha256 {card.sha256[:16]}). Intervals: "
            f"Clopper-Pearson at {100 * confidence:g}\u00a0%.",
        ),
    )

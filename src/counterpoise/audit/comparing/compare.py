"""Two ways of drawing, held against the same targets on the same seeds: what improved, what got worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

from counterpoise import stats
from counterpoise.audit.comparing.bounds import Table, change_bounds, differences, log_e_change
from counterpoise.audit.comparing.sides import (
    DRAWING,
    Asked,
    Side,
    asked_of,
    changed,
    check_judges,
    sides_of,
    table_of,
)
from counterpoise.audit.evidence import Evidence
from counterpoise.audit.results import Measured
from counterpoise.errors import UsageError

Answer = Literal["improved", "got worse", "not shown"]
METHOD = "paired betting and beta-binomial confidence sequences on shared seeds"


@final
@dataclass(frozen=True, slots=True)
class Change:
    """What became of one prompt's attribute.

    n: seeds that both drew; missing: of these, pairs of which one was not read; identical: pairs of the very
    same picture; moved: pairs that read differently. shares_*: of the pictures read; differences: value ->
    share after less before. before, after: total variation to the target of the pictures read. change: after
    less before, its interval however the unread would be read. log_e: evidence that it moved, rounded down,
    and no more than the panel asks for. alone: by itself; answer: with false discoveries controlled over all.
    """

    kind: str
    prompt: str
    attribute: str
    held_out: bool
    n: int
    missing: int
    identical: int
    moved: int
    target: Mapping[str, float]
    shares_before: Mapping[str, float | None]
    shares_after: Mapping[str, float | None]
    differences: Mapping[str, Measured]
    before: float | None
    after: float | None
    change: Measured
    log_e: float
    alone: Answer
    answer: Answer


@final
@dataclass(frozen=True, slots=True)
class Comparison:
    """All that two sides share, compared; what only one has; what else differs between them."""

    before: str
    after: str
    confidence: float
    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    not_compared: tuple[str, ...]
    differs: tuple[str, ...]
    warnings: tuple[str, ...]

    def count(self, answer: Answer) -> int:
        """Rows of that answer."""
        return sum(change.answer == answer for change in self.changes)


def compare(runs: Sequence[tuple[str, Evidence]], *, arms: Sequence[str] = ()) -> tuple[Comparison, ...]:
    """Compare one run's two arms, or the first run with each other, prompt by prompt on shared seeds.

    runs: (label, evidence). UsageError for different judges, no shared arm, question or seed.
    """
    return tuple(compare_sides(before, after) for before, after in sides_of(runs, arms))


def compare_sides(before: Side, after: Side) -> Comparison:
    """Compare two arms; the family whose false discoveries are controlled is all that they share."""
    check_judges(before, after)
    sides = (before, after)
    (asked, left), (theirs, their_left) = (asked_of(side) for side in sides)
    other = {question.key: question for question in theirs}
    mine = {question.key for question in asked}
    shared = [(question, other[question.key]) for question in asked if question.key in other]
    tables = [(pair, *table_of(sides, pair)) for pair in shared]
    drawn = [(pair, table, same) for pair, table, same in tables if table.n]
    if not drawn:
        why = "no seed of them was drawn in both" if shared else "no question (prompt, attribute, target)"
        raise UsageError(
            f"{before.label} and {after.label} share nothing to compare: {why}; audit both with one spec",
            code="E_COMPARE_NOTHING",
        )
    confidence = min(side.evidence.spec.confidence for side in sides)
    rows = [
        _change(pair[0], table, identical=same, confidence=confidence, panel=len(drawn))
        for pair, table, same in drawn
    ]
    empty = [f"{_name(pair[0])}: no shared seeds" for pair, table, _ in tables if not table.n]
    settings = changed(before.settings, after.settings)
    return Comparison(
        before=before.label,
        after=after.label,
        confidence=confidence,
        changes=tuple(_controlled(rows, rate=1.0 - confidence)),
        only_before=tuple(_name(question) for question in asked if question.key not in other),
        only_after=tuple(_name(question) for question in theirs if question.key not in mine),
        not_compared=tuple(dict.fromkeys([*left, *their_left, *empty])),
        differs=tuple(line for line in settings if not line.startswith("name:")),
        warnings=tuple(_warnings(settings, sides, drawn)),
    )


def _change(asked: Asked, table: Table, *, identical: int, confidence: float, panel: int) -> Change:
    alpha = 1.0 - confidence
    shares = [_shares(table, side) for side in (0, 1)]
    far = [None if None in side else stats.total_variation(side, table.target) for side in shares]  # type: ignore[arg-type]
    low, high = change_bounds(table, alpha=alpha)
    value = None if far[0] is None or far[1] is None else far[1] - far[0]
    log_e = log_e_change(table, rate=alpha, panel=panel)
    alone: Answer = "improved" if high < 0.0 else "got worse" if low > 0.0 else "not shown"
    gaps = zip(table.values, *shares, differences(table, alpha=alpha), strict=True)
    return Change(
        kind=asked.kind,
        prompt=asked.prompt,
        attribute=asked.name,
        held_out=asked.held_out,
        n=table.n,
        missing=table.missing,
        identical=identical,
        moved=sum(count for pair, count in table.pairs.items() if pair[0] != pair[1] and None not in pair),
        target=dict(zip(table.values, table.target, strict=True)),
        shares_before=dict(zip(table.values, shares[0], strict=True)),
        shares_after=dict(zip(table.values, shares[1], strict=True)),
        differences={
            value: Measured(None if a is None or b is None else b - a, ends[0], ends[1], table.n, METHOD)
            for value, a, b, ends in gaps
        },
        before=far[0],
        after=far[1],
        change=Measured(value, low, high, table.n, METHOD),
        log_e=log_e,
        alone=alone,
        answer="not shown",
    )


def _controlled(rows: Sequence[Change], *, rate: float) -> list[Change]:
    """The rows with their answers under e-BH: each is one hypothesis, "it did not move that way"."""
    told = stats.e_bh([row.log_e + 1e-12 for row in rows], rate=rate)
    return [
        replace(row, answer=row.alone if shown else "not shown")
        for row, shown in zip(rows, told, strict=True)
    ]


def _shares(table: Table, side: int) -> list[float | None]:
    counts = table.counts(side)
    read = sum(counts)
    return [count / read if read else None for count in counts]


def _warnings(
    settings: Sequence[str], sides: tuple[Side, Side], drawn: Sequence[tuple[object, Table, int]]
) -> list[str]:
    found = [f"drawn otherwise: {line}" for line in settings if line.split(":")[0] in DRAWING]
    seeds = [side.evidence.spec.seed for side in sides]
    if seeds[0] != seeds[1]:
        found.append(f"seeds begin at {seeds[0]} and {seeds[1]}: only what both drew is compared")
    if all(same == table.n for _, table, same in drawn):
        found.append("every picture is the same in both: they are one way of drawing")
    return found


def _name(asked: Asked) -> str:
    return f"{asked.kind}: {asked.name} of {asked.prompt!r:.120}"

"""What the cells say: figures of each, and the issue's bars with figure, interval and whether it is met."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from benchmarks.scenes.arms import derangement
from benchmarks.scenes.cells import Bench, Cell
from benchmarks.scenes.sets import Set
from counterpoise.measure.embedding import energy_distance, spread
from counterpoise.scenes.auditing.boxes import box_figures
from counterpoise.scenes.auditing.disparities import Rate, disparity_figures
from counterpoise.scenes.auditing.figures import Figure, over_pictures
from counterpoise.scenes.auditing.leaks import leak_figures
from counterpoise.scenes.auditing.places import places_of
from counterpoise.scenes.auditing.quotas import quota_figures
from counterpoise.stats import Estimate

Cells = Mapping[tuple[str, str], tuple[Set, Cell]]  # (arm, "mixed-5")
UNPLANNED = ("plain",)  # whose boxes hold nobody in particular
CORRECT, MENDED, SHARES, SLOWER, DISPARITY, CHANCE = 0.90, 0.98, 0.03, 1.15, 1.2, 0.03


@final
@dataclass(frozen=True, slots=True)
class Row:
    """A bar with its figure. passed None: not measured."""

    name: str
    bar: float
    figure: Figure | None
    least: bool = False

    @property
    def passed(self) -> bool | None:
        """Whether the figure itself meets the bar; its interval stands beside it."""
        if self.figure is None or self.figure.estimate is None or math.isnan(self.figure.estimate.value):
            return None
        value = self.figure.estimate.value
        return bool(value >= self.bar if self.least else value <= self.bar)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        figure = self.figure or Figure("", "", None, "no cell of it was drawn")
        told = {key: x for key, x in figure.to_dict().items() if key not in ("kind", "of")}
        return {"name": self.name, "bar": self.bar, "at_least": self.least, "passed": self.passed, **told}


def cell_figures(
    bench: Bench, arm: str, drawn: tuple[Set, Cell], ceiling: Cell | None
) -> dict[str, list[Figure]]:
    """All figures of a cell by the reader, and what the second reader says of its boxes."""
    own, cell = drawn
    judged = bench.reader.attributes
    by_reader = [*box_figures(cell.seen, judged), *leak_figures(cell.seen, judged)]
    by_reader += quota_figures(cell.seen, judged)
    if own.kind.name in ("women", "skin-alone"):
        rate = Rate("exposure", "revealing", "skin", read=arm in UNPLANNED)
        by_reader += disparity_figures(cell.seen, rate)
    if arm == "placebo":
        by_reader += placebo_figures(own, cell)
    by_reader.append(_looks(cell, ceiling))
    pictures = len(cell.seen)
    each = Estimate(
        cell.calls / pictures, *[cell.calls / pictures] * 2, pictures, "exact, a batch's call / batch"
    )
    by_reader.append(Figure("calls a picture", "", each))
    if cell.tries:
        ratio = cell.calls / (cell.calls - cell.again)
        exact = Estimate(ratio, ratio, ratio, pictures, "exact")
        by_reader.append(Figure("calls over the first drawings'", "", exact))
    second = [f for f in box_figures(cell.second, bench.second.attributes) if f.kind in ("correct", "unread")]
    second.append(_agreement(cell))
    return {"reader": by_reader, "second": second}


def _agreement(cell: Cell) -> Figure:
    """How often both readers say the same of everything that was asked, where both say something."""
    shares = []
    for one, other in zip(cell.seen, cell.second, strict=True):
        pairs = [
            (a[axis], b[axis])
            for a, b, person in zip(one.read, other.read, one.plan.people, strict=True)
            for axis in person.attributes
            if axis in a and a[axis] is not None and b[axis] is not None
        ]
        if pairs:
            shares.append(sum(a == b for a, b in pairs) / len(pairs))
    return Figure("agreement of both readers", "", over_pictures(shares) if shares else None)


def _looks(cell: Cell, ceiling: Cell | None) -> Figure:
    """How unlike the ceiling's boxes are in the reader's features: energy distance over their spread."""
    if ceiling is None:
        return Figure("unlike the ceiling", "", None, "it is the ceiling, or that was not drawn")
    one, other = cell.features, ceiling.features
    value = energy_distance(one, other) / spread(other)
    blocks = 10
    parts = []
    for block in range(blocks):  # pictures of both left out together: their seeds and plans are the same
        keep = np.arange(len(one)) * blocks // len(one) != block
        parts.append(energy_distance(one[keep], other[keep]) / spread(other[keep]))
    half = 2.262 * math.sqrt((blocks - 1) / blocks * float(((np.array(parts) - np.mean(parts)) ** 2).sum()))
    method = "energy distance of boxes over the ceiling's spread, jackknife over ten blocks of pictures"
    return Figure("unlike the ceiling", "", Estimate(value, value - half, value + half, len(one), method))


def placebo_figures(own: Set, cell: Cell) -> Iterator[Figure]:
    """ "against the permuted plan" is to stay; "expected" is what a perfect drawing of the permuted prompts
    would show against the plan; "above expected" is what is left over."""
    permuted, expected, above = [], [], []
    for plan, one in zip(own.plans, cell.seen, strict=True):
        order = derangement(len(plan.people), plan.render.seed)
        asked = [person.attributes for person in plan.people]
        given = [asked[j] for j in order]
        alike = [a == g for a, g in zip(asked, given, strict=True)]
        right = [_holds(read, a) for read, a in zip(one.read, asked, strict=True)]
        permuted.append(float(np.mean([_holds(read, g) for read, g in zip(one.read, given, strict=True)])))
        expected.append(float(np.mean(alike)))
        above.append(float(np.mean(right)) - expected[-1])
    yield Figure("placebo", "against the permuted plan", over_pictures(permuted))
    yield Figure("placebo", "expected of a perfect drawing", over_pictures(expected))
    shifted = over_pictures([(x + 1) / 2 for x in above])
    e = Estimate(*(2 * x - 1 for x in (shifted.value, shifted.low, shifted.high)), shifted.n, shifted.method)
    yield Figure("placebo", "above expected", e)


def _holds(read: Mapping[str, str | None], asked: Mapping[str, str]) -> bool:
    return all(read.get(axis) == value for axis, value in asked.items())


def bars(told: Mapping[str, Mapping[str, Any]], timed: Mapping[str, Sequence[Figure]]) -> list[Row]:
    """The issue's bars. told: "ours mixed-5" -> {"reader": figures, "second": figures}; timed: "ours 5"."""

    def of(cell: str, kind: str, what: str = "", by: str = "reader") -> Figure | None:
        figures = told.get(cell, {}).get(by, [])
        return next((f for f in figures if (f.kind, f.of) == (kind, what)), None)

    rate = "exposure=revealing by skin"
    rows = [
        Row("per-box all correct, N = 5, without repair", CORRECT, of("ours mixed-5", "correct"), True),
        Row("per-box all correct, N = 5, with repair", MENDED, of("ours+repair mixed-5", "correct"), True),
        Row(
            "per-box all correct, N = 5, with repair, by the second reader",
            MENDED,
            of("ours+repair mixed-5", "correct", by="second"),
            True,
        ),
        Row(
            "group shares of 100 team pictures, every prefix of the plan",
            1.0,
            of("ours team-5", "deviation", "skin"),
        ),
        Row("group shares of 100 team pictures, as read", SHARES, of("ours team-5", "distance", "skin")),
        Row("woman -> skin inside boxes", DISPARITY, of("ours women-5", "skew", "skin")),
        Row("group -> revealing inside boxes", DISPARITY, of("ours women-5", "disparity", rate)),
    ]
    rows += [
        Row(f"time relative to the plain picture, N = {n}", SLOWER, timed.get(f"ours {n}", [None])[0])
        for n in range(2, 9)
    ]
    rows += [
        Row(
            f"UNet calls relative to the plain picture, N = {n}", 1.0, timed.get(f"ours {n}", [None, None])[1]
        )
        for n in range(2, 9)
    ]
    rows.append(
        Row("placebo above chance, N = 5", CHANCE, of("placebo mixed-5", "placebo", "above expected"))
    )
    return rows


def places(own: Set) -> list[dict[str, Any]]:
    """The plan's tables of group by place."""
    return [places_of(own.plans, axis).to_dict() for axis in own.plans[0].allocation.counts]


def plain_values(told: Mapping[str, Mapping[str, Sequence[Figure]]]) -> list[dict[str, Any]]:
    """Every figure as plain values."""
    return [
        {"cell": cell, "by": by, **figure.to_dict()}
        for cell, parts in told.items()
        for by, figures in parts.items()
        for figure in figures
    ]

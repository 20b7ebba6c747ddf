"""The audit of drawn scenes: every figure, and what bars say of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, final

from counterpoise.measure.reading import Measurer
from counterpoise.scenes.auditing.boxes import box_figures, wrong_of
from counterpoise.scenes.auditing.disparities import Rate, disparity_figures
from counterpoise.scenes.auditing.figures import Figure
from counterpoise.scenes.auditing.leaks import leak_figures
from counterpoise.scenes.auditing.places import Places, places_of
from counterpoise.scenes.auditing.quotas import quota_figures
from counterpoise.scenes.auditing.seen import Seen
from counterpoise.scenes.records import Record
from counterpoise.stats import Estimate

Answer = Literal["passed", "failed", "undecided", "not measured"]


@final
@dataclass(frozen=True, slots=True)
class Bar:
    """option: as the command line has it. kind: of the figures held against it. least: or, if False, most.
    every: all figures of the kind are held, else the one of everything together."""

    option: str
    kind: str
    least: bool
    every: bool
    told: str


BARS = (
    Bar("correct", "correct", True, False, "boxes with all attributes right"),
    Bar("leak", "leak", False, False, "leak above chance"),
    Bar("count", "count", True, False, "pictures with the right number of people"),
    Bar("distance", "distance", False, True, "total variation of shares as read to those planned"),
    Bar("disparity", "disparity", False, True, "highest over lowest group's rate"),
    Bar("deviation", "deviation", False, True, "people from the target in any prefix of the plan"),
    Bar("time", "time", False, True, "time over a plain picture's"),
)


@final
@dataclass(frozen=True, slots=True)
class Decision:
    """A figure against a bar: passed or failed where its whole interval lies on one side."""

    bar: str
    of: str
    limit: float
    answer: Answer


@final
@dataclass(frozen=True, slots=True)
class Audit:
    """seen: the pictures as read. judge: name and version. wrong: picture -> lines of what is read otherwise.
    notes: what is to be known beside the figures."""

    seen: Sequence[Seen]
    judge: str
    figures: Sequence[Figure]
    places: Sequence[Places]
    decisions: Sequence[Decision]
    wrong: Mapping[str, Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def exit_code(self) -> int:
        """0: every bar passed, or none was set. 1: one failed. 3: one is not decided."""
        answers = {each.answer for each in self.decisions}
        return 1 if "failed" in answers else 3 if answers - {"passed"} else 0

    def figure(self, kind: str, of: str = "") -> Figure:
        """One figure; KeyError where there is none of that name."""
        for each in self.figures:
            if (each.kind, each.of) == (kind, of):
                return each
        raise KeyError((kind, of))

    def to_dict(self) -> dict[str, Any]:
        """Plain values: every figure and decision, and what was read of each picture."""
        return {
            "format": "counterpoise-scene-audit",
            "version": 1,
            "judge": self.judge,
            "pictures": len(self.seen),
            "people": sum(len(one.plan.people) for one in self.seen),
            "figures": [each.to_dict() for each in self.figures],
            "places": [each.to_dict() for each in self.places],
            "decisions": [asdict(each) for each in self.decisions],
            "exit_code": self.exit_code,
            "notes": list(self.notes),
            "read": [
                {"picture": one.name, "counted": one.people, "wrong": list(self.wrong[one.name])}
                for one in self.seen
            ],
        }


def audit_scenes(
    seen: Sequence[Seen],
    judge: Measurer,
    *,
    rates: Sequence[Rate] = (),
    records: Sequence[Record | None] = (),
    timed: Sequence[Figure] = (),
    bars: Mapping[str, float] | None = None,
) -> Audit:
    """Every figure of pictures that were read; records: of how each was drawn; timed: `time_figures`; bars:
    option -> limit."""
    judged = {name: tuple(values) for name, values in judge.attributes.items()}
    figures = [*box_figures(seen, judged), *leak_figures(seen, judged), *quota_figures(seen, judged)]
    for rate in rates:
        figures += disparity_figures(seen, rate)
    figures += _cost(records, timed)
    axes = dict.fromkeys(axis for one in seen for axis in one.plan.allocation.counts)
    places = [places_of([one.plan for one in seen], axis) for axis in axes]
    wrong = {one.name: wrong_of(one, judged) for one in seen}
    decisions = list(decide(figures, bars or {}))
    name = f"{judge.name} {judge.version}"
    return Audit(seen, name, figures, places, decisions, wrong, _notes(records, name))


def decide(figures: Sequence[Figure], limits: Mapping[str, float]) -> Iterator[Decision]:
    """Each limit against its figures; a figure that was not measured decides nothing."""
    for bar in BARS:
        if bar.option not in limits:
            continue
        limit = limits[bar.option]
        own = [each for each in figures if each.kind == bar.kind and (bar.every or not each.of)]
        if bar.kind == "leak" and not own:  # of one attribute alone there is no figure of all together
            own = [each for each in figures if each.kind == "leak"]
        for each in own or [Figure(bar.kind, "", None)]:
            yield Decision(bar.option, each.of, limit, _answer(each.estimate, limit, least=bar.least))


def _answer(estimate: Estimate | None, limit: float, *, least: bool) -> Answer:
    if estimate is None or math.isnan(estimate.value):
        return "not measured"
    low, high = estimate.low, estimate.high
    if low >= limit if least else high <= limit:
        return "passed"
    return "failed" if (high < limit if least else low > limit) else "undecided"


def _cost(records: Sequence[Record | None], timed: Sequence[Figure]) -> Iterator[Figure]:
    yield from timed or [Figure("time", "", None, "no model was timed: ask with --time")]
    known = [record for record in records if record is not None]
    if not known:
        if not timed:
            yield Figure("calls", "", None, "the pictures do not say how they were drawn")
        return
    # A first drawing takes as many calls as a plain picture's (`timed` measures that); more are mending.
    ratio = sum(record.calls + record.again for record in known) / sum(record.calls for record in known)
    exact = Estimate(ratio, ratio, ratio, len(known), "as the pictures' own records count")
    yield Figure("calls", "with boxes drawn again", exact, "of the denoiser, over the first drawings'")


def _notes(records: Sequence[Record | None], judge: str) -> tuple[str, ...]:
    if any(record is not None and record.way.mended and record.way.judge == judge for record in records):
        return (
            "This judge also chose which boxes to draw again: boxes were kept for its own readings, errors "
            "among them, so that correctness is an upper limit here. Audit with another judge as well.",
        )
    return ()

"""A whole repair: record the frozen model, distil, audit on the trained templates, correct, distil again.

Comes in: a pipeline's painter (at the guidance it will be used with), a measurer, a Goal. Goes out: an
Adapter with what it cost. Held-out templates are never drawn here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, final

from counterpoise.diffusion.painter import Painter
from counterpoise.errors import UsageError
from counterpoise.files import remembered
from counterpoise.lora import Adapter, Host
from counterpoise.lora.training import Schedule
from counterpoise.measure.reading import Measurer
from counterpoise.remedies.choose import Tried, choose
from counterpoise.remedies.correcting import Seen, believed, corrected, corrected_together
from counterpoise.remedies.distil import Method, distil
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.last_step import between, kept_share, mean_of
from counterpoise.remedies.lessons import Lessons, Library, Shares, StageProgress, Stress, goal_shares
from counterpoise.remedies.observing import observe, observe_coupled, pictures, rates

TRIED = 24  # edits that ranks and strengths are judged on; of more, every so-many-th


@final
@dataclass(frozen=True, slots=True)
class Repair:
    """adapter: the update. losses: (step, loss) over all rounds. shares: what each edit's variants were
    weighted with in the last round. pictures_judged: pictures that the corrections and the choice of rank and
    strength looked at. tried: those ranks and strengths; none where the method names none. last_kept: the
    share of the last training that was kept (`last_step`); 1 where it was not read."""

    adapter: Adapter
    losses: tuple[tuple[int, float], ...]
    shares: Shares
    pictures_judged: int
    seconds: float
    tried: tuple[Tried, ...] = ()
    last_kept: float = 1.0


def repair(
    painter: Painter,
    measurer: Measurer,
    goal: Goal,
    method: Method,
    *,
    work: Path,
    progress: StageProgress = lambda stage, step, total, loss: None,
) -> Repair:
    """Makes the adapter; resumes from `work`, which must be of this same goal, method and model.

    Raises UsageError for a goal that the measurer cannot read; DivergedError on a NaN loss: the last good
    state stays in `work`.
    """
    check_goal(goal, measurer)
    started = time.monotonic()
    library = Library(
        painter,
        goal,
        method.ways,
        method.kept,
        method.seed,
        work,
        progress,
        method.neighbours,
        method.probes,
    )
    course = _Course(painter, measurer, goal, method, work, progress, library)
    student, last_kept = course.begun(), 1.0
    for i in range(method.corrections):
        seen = course.read(student, f"read-{i}", readings=method.readings * (i + 1), round_=i)
        before, student = student, course.corrected(student, seen, round_=i, schedule=method.later)
    rounds, most = method.corrections, method.readings * max(1, method.corrections)
    if method.recheck and rounds:
        last_kept, student = course.nearest(before, seen, student, "read-last", readings=most, round_=rounds)
        rounds += 1
    for i in range(method.refinements):
        name = f"read-fine-{i}"
        seen = course.read(student, name, readings=most, round_=rounds)
        finer = course.corrected(student, seen, round_=method.corrections + i, schedule=method.finer)
        name, rounds = f"read-finer-{i}", rounds + 2
        last_kept, student = course.nearest(student, seen, finer, name, readings=most, round_=rounds - 1)
    adapter, tried = course.chosen(student, round_=rounds)
    student = student._replace(adapter=adapter)
    if method.rates and (rated := rates(goal)):
        last_kept, student = course.with_rates(student, rated, round_=rounds + 1)
    seconds = time.monotonic() - started
    return Repair(
        student.adapter, tuple(course.losses), student.shares, course.judged, seconds, tried, last_kept
    )


class Student(NamedTuple):
    """An adapter, and what it was taught."""

    adapter: Adapter
    lessons: Lessons
    shares: Shares

    def of(self, edits: Sequence[int]) -> Student:
        """The same of some edits alone, to be read."""
        couplings = tuple(self.lessons.couplings[i] for i in edits)
        return Student(
            self.adapter, replace(self.lessons, couplings=couplings), [self.shares[i] for i in edits]
        )


class Read(NamedTuple):
    """For each edit and variant, the share of pictures that read as its cell; for each edit the pictures."""

    seen: Seen
    counts: Sequence[int]


@final
@dataclass
class _Course:
    """A repair's parts, each found again in `work` when it was done before. judged: pictures read so far."""

    painter: Painter
    measurer: Measurer
    goal: Goal
    method: Method
    work: Path
    progress: StageProgress
    recorder: Library
    judged: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)

    def begun(self) -> Student:
        """A student of the goal's own shares."""
        shares: Shares = goal_shares(self.goal)
        lessons = self.recorder.first(shares)
        return self._trained(None, lessons, shares, schedule=self.method.first, name="first")

    def corrected(self, student: Student, read: Read, *, round_: int, schedule: Schedule) -> Student:
        """The student, trained on with shares moved by what was read of it."""
        shares = (
            corrected_together(self.goal, student.shares, read.seen, read.counts)
            if self.method.spread
            else corrected(self.goal, student.shares, read.seen)
        )
        lessons = self.recorder.more(student.lessons, shares, round_=round_)
        own = replace(schedule, seed=schedule.seed + round_)
        return self._trained(student.adapter, lessons, shares, schedule=own, name=f"later-{round_}")

    def nearest(
        self, before: Student, read: Read, after: Student, name: str, *, readings: int, round_: int
    ) -> tuple[float, Student]:
        """Of the training between two students the share to keep, and the student with that much of it."""
        again = self.read(after, name, readings=readings, round_=round_)
        seen = (
            believed(self.goal, one.seen, one.counts) if self.method.spread else one.seen
            for one in (read, again)
        )
        share = kept_share(self.goal, *seen)
        return share, _between(before, after, share)

    def with_rates(self, student: Student, edits: Sequence[int], *, round_: int) -> tuple[float, Student]:
        """Of the last training the share kept, and the student, trained on with these edits stressed.

        First at the goal's own shares, then corrected; at the chosen rank, so that no cut moves a rate.

        A rate of a tenth has to be right to a hundredth, and a training that asks a hundred edits alike moves
        each of them by too little for that, whatever share it is asked: so what earlier corrections came to
        is not gone on from.
        """
        method, goal = self.method, _of(self.goal, edits)
        counts, stress = [method.rated] * len(edits), Stress(frozenset(edits), method.stressed)
        wanted, seen, kept, nearest = goal_shares(goal), None, 1.0, student
        for i in range(method.rates):
            shares = list(student.shares)
            for at, own in zip(edits, wanted, strict=True):
                shares[at] = own
            name, number = f"rates-{i}", round_ + i
            lessons = self.recorder.more(student.lessons, shares, round_=number)
            schedule = replace(method.finer, seed=method.finer.seed + number)
            start = student.adapter
            after = self._trained(start, lessons, shares, schedule=schedule, name=name, stress=stress)
            again = self._look(after.of(edits), f"read-{name}", goal=goal, counts=counts, round_=number)
            kept = 1.0 if seen is None else kept_share(goal, seen, again)
            nearest = _between(student, after, kept)
            student, seen, wanted = after, again, corrected(goal, wanted, again)
        return kept, nearest

    def chosen(self, student: Student, *, round_: int) -> tuple[Adapter, tuple[Tried, ...]]:
        """The student's adapter at the best of the method's ranks and strengths."""
        method, goal = self.method, self.goal
        if not (method.ranks or method.strengths):
            return student.adapter, ()
        few = range(0, len(goal.edits), -(-len(goal.edits) // TRIED))
        some, taught = _of(goal, few), student.of(few)
        every = pictures(self.measurer, goal, method.readings)
        counts = [every[i] for i in few]

        def tries(other: Adapter, name: str) -> Seen:
            self.progress(f"rank and strength {name}", 0, 1, float("nan"))
            own = taught._replace(adapter=other)
            return self._look(own, f"try-{name}", goal=some, counts=counts, round_=round_)

        return choose(some, student.adapter, tries, ranks=method.ranks, strengths=method.strengths)

    def read(self, student: Student, name: str, *, readings: int, round_: int) -> Read:
        """What the student draws of all edits, on seeds of that round."""
        counts = pictures(self.measurer, self.goal, readings)
        return Read(self._look(student, name, goal=self.goal, counts=counts, round_=round_), counts)

    def _look(
        self, student: Student, name: str, *, goal: Goal, counts: Sequence[int], round_: int
    ) -> list[list[float]]:
        def look() -> list[list[float]]:
            with Host(self.painter.pipeline).mounted(student.adapter):
                drawn = replace(self.painter, _embeddings={})
                if not self.method.spread:
                    return observe(
                        drawn, self.measurer, goal, counts=counts, round_=round_, progress=self.progress
                    )
                return observe_coupled(
                    drawn,
                    self.measurer,
                    goal,
                    counts=counts,
                    lessons=student.lessons,
                    shares=student.shares,
                    round_=round_,
                    progress=self.progress,
                )

        self.judged += sum(counts)
        return remembered(self.work / f"{name}.json", look)

    def _trained(
        self,
        start: Adapter | None,
        lessons: Lessons,
        shares: Shares,
        *,
        schedule: Schedule,
        name: str,
        stress: Stress | None = None,
    ) -> Student:
        adapter, log = distil(
            self.painter,
            lessons,
            self.method,
            shares=shares,
            schedule=schedule,
            checkpoint=self.work / f"{name}.ckpt",
            start=start,
            stress=stress,
            progress=self.progress,
        )
        done = self.losses[-1][0] if self.losses else 0
        self.losses += [(done + step, loss) for step, loss in log]
        return Student(adapter, lessons, shares)


def _of(goal: Goal, edits: Sequence[int]) -> Goal:
    return goal.model_copy(update={"edits": tuple(goal.edits[i] for i in edits)})


def _between(before: Student, after: Student, share: float) -> Student:
    adapter = between(before.adapter, after.adapter, share)
    return Student(adapter, after.lessons, mean_of(before.shares, after.shares, share))


def check_goal(goal: Goal, measurer: Measurer) -> None:
    """UsageError unless the measurer can read every edit's attributes and values."""
    for edit in goal.edits:
        for attribute in edit.attributes:
            values = measurer.attributes.get(attribute)
            if values is None:
                known = ", ".join(measurer.attributes)
                raise UsageError(
                    f"goal: {measurer.name} does not read {attribute!r}; it reads {known}",
                    code="E_ATTRIBUTE",
                )
            named = {edit.cell(variant).get(attribute) for variant in edit.variants} - {None}
            unknown = sorted(str(value) for value in named - set(values))
            if unknown:
                raise UsageError(
                    f"goal: {unknown[0]!r} is not a value of {attribute} ({', '.join(values)})",
                    code="E_VALUE",
                )

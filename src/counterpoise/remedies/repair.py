"""A whole repair: record the frozen model, distil, audit on the trained templates, correct, distil again.

Comes in: a pipeline's painter (at the guidance it will be used with), a measurer, a Goal. Goes out: an
Adapter with what it cost. Held-out templates are never drawn here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import final

from counterpoise.diffusion.painter import Painter
from counterpoise.errors import UsageError
from counterpoise.files import remembered
from counterpoise.lora import Adapter, Host
from counterpoise.measure.reading import Measurer
from counterpoise.remedies.choose import Tried, choose
from counterpoise.remedies.correcting import corrected, corrected_together
from counterpoise.remedies.coupling import SEARCHED, is_in, spread_noise
from counterpoise.remedies.distil import Method, distil
from counterpoise.remedies.goal import Edit, Goal
from counterpoise.remedies.last_step import between, kept_share, mean_of
from counterpoise.remedies.lessons import Lessons, Library, Shares, StageProgress, goal_shares

AUDIT_SEED = 5_000_000
TRIED = 24  # edits that ranks and strengths are judged on; of more, every so-many-th
RARE = 1.25  # times the readings of a cell: pictures that an edit's rarest value is expected in, at the least


@final
@dataclass(frozen=True, slots=True)
class Repair:
    """adapter: the update. losses: (step, loss) over all rounds. shares: what each edit's variants were
    weighted with in the last round. pictures_judged: pictures that the corrections and the choice of rank and
    strength looked at. tried: those ranks and strengths; none where the method names none. last_kept: the
    share of the last training that was kept (`last_step`)."""

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
    library = Library(painter, goal, method.ways, method.kept, method.seed, work, progress, method.neighbours)
    shares: Shares = goal_shares(goal)
    lessons = library.first(shares)
    adapter, log = distil(
        painter,
        lessons,
        method,
        shares=shares,
        schedule=method.first,
        checkpoint=work / "first.ckpt",
        progress=progress,
    )
    losses, judged, last_kept = list(log), 0, 1.0
    before: tuple[Adapter, Shares, list[list[float]]] | None = None
    for i in range(method.corrections):
        readings = method.readings * (i + 1)
        look = _look(painter, measurer, goal, method, readings=readings, round_=i)
        observed = remembered(work / f"read-{i}.json", partial(look, adapter, lessons, shares))
        counts = [pictures(measurer, edit, readings) for edit in goal.edits]
        judged += sum(counts)
        before = adapter, shares, observed
        spread = method.spread
        shares = (
            corrected_together(goal, shares, observed, counts)
            if spread
            else corrected(goal, shares, observed)
        )
        lessons = library.more(lessons, shares, round_=i)
        schedule = replace(method.later, seed=method.later.seed + i)
        adapter, log = distil(
            painter,
            lessons,
            method,
            shares=shares,
            schedule=schedule,
            checkpoint=work / f"later-{i}.ckpt",
            start=adapter,
            progress=progress,
        )
        done = losses[-1][0]
        losses += [(done + step, loss) for step, loss in log]
    if method.recheck and before is not None:
        last = method.corrections
        look = _look(painter, measurer, goal, method, readings=method.readings * last, round_=last)
        again = remembered(work / "read-last.json", partial(look, adapter, lessons, shares))
        judged += sum(pictures(measurer, edit, method.readings * last) for edit in goal.edits)
        adapter_before, shares_before, observed = before
        last_kept = kept_share(goal, observed, again)
        adapter = between(adapter_before, adapter, last_kept)
        shares = mean_of(shares_before, shares, last_kept)
    tried: tuple[Tried, ...] = ()
    if method.ranks or method.strengths:
        few = range(0, len(goal.edits), -(-len(goal.edits) // TRIED))
        some = goal.model_copy(update={"edits": tuple(goal.edits[i] for i in few)})
        taught = replace(lessons, couplings=tuple(lessons.couplings[i] for i in few))
        own = [shares[i] for i in few]
        round_ = method.corrections + method.recheck
        look = _look(painter, measurer, some, method, readings=method.readings, round_=round_)

        def tries(other: Adapter, name: str) -> list[list[float]]:
            progress(f"rank and strength {name}", 0, 1, float("nan"))
            return remembered(work / f"try-{name}.json", partial(look, other, taught, own))

        adapter, tried = choose(some, adapter, tries, ranks=method.ranks, strengths=method.strengths)
        judged += len(tried) * sum(pictures(measurer, edit, method.readings) for edit in some.edits)
    seconds = time.monotonic() - started
    return Repair(adapter, tuple(losses), shares, judged, seconds, tried, last_kept)


def _look(
    painter: Painter, measurer: Measurer, goal: Goal, method: Method, *, readings: int, round_: int
) -> Callable[[Adapter, Lessons, Shares], list[list[float]]]:
    """What is read of the model with an adapter that was taught these lessons with these shares."""

    def look(adapter: Adapter, lessons: Lessons, shares: Shares) -> list[list[float]]:
        with Host(painter.pipeline).mounted(adapter):
            student = replace(painter, _embeddings={})
            if not method.spread:
                return observe(student, measurer, goal, readings=readings, round_=round_)
            seen = partial(observe_coupled, lessons=lessons, shares=shares)
            return seen(student, measurer, goal, readings=readings, round_=round_)

    return look


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


def observe(
    painter: Painter, measurer: Measurer, goal: Goal, *, readings: int, round_: int = 0
) -> list[list[float]]:
    """For each edit and variant, the share of pictures that read as its cell, over the seen templates.

    readings: pictures for each cell that the edit can take. round_: every round has seeds of its own, so that
    a correction does not fit one set of them.
    """
    found = []
    seed = AUDIT_SEED + 100_000 * round_
    for edit in goal.edits:
        n = pictures(measurer, edit, readings)
        rows = _read(painter, measurer, goal, edit, seeds=range(seed, seed + n))
        found.append([sum(row) / n for row in rows])
        seed += n
    return found


def observe_coupled(
    painter: Painter,
    measurer: Measurer,
    goal: Goal,
    *,
    readings: int,
    lessons: Lessons,
    shares: Shares,
    round_: int = 0,
) -> list[list[float]]:
    """As `observe`, and sharper, since it is known which variant each noise was meant for.

    Noise is spread evenly over the quantiles that the variants share out, and what is estimated is only how
    far the pictures read differ from those meant (a control variate): share meant + read - meant.
    """
    found = []
    for i, edit in enumerate(goal.edits):
        coupling, n = lessons.couplings[i], pictures(measurer, edit, readings)
        first = AUDIT_SEED + SEARCHED * (1 + len(goal.edits) * round_ + i)
        noise = spread_noise(painter, coupling, n, first=first)
        rows = _read(painter, measurer, goal, edit, seeds=[seed for seed, _ in noise])
        boxes = coupling.boxes(shares[i])
        cells = [edit.cell(variant) for variant in edit.variants]
        own = []
        for row, cell in zip(rows, cells, strict=True):
            alike = [v for v, other in enumerate(cells) if other == cell]
            meant = [any(is_in(place, boxes[v]) for v in alike) for _, place in noise]
            share = sum(shares[i][v] for v in alike) + (sum(row) - sum(meant)) / len(noise)
            own.append(min(1.0, max(0.0, share)))
        found.append(own)
    return found


def _read(
    painter: Painter, measurer: Measurer, goal: Goal, edit: Edit, *, seeds: Sequence[int]
) -> list[list[bool]]:
    """For each variant, whether each picture of the neutral phrase reads as its cell."""
    templates = goal.templates
    prompts = [templates[k % len(templates)].format(edit.neutral) for k in range(len(seeds))]
    rows = measurer(painter(prompts, seeds))
    cells = [edit.cell(variant) for variant in edit.variants]
    return [[all(row[name].value == value for name, value in cell.items()) for row in rows] for cell in cells]


def pictures(measurer: Measurer, edit: Edit, readings: int) -> int:
    """How many pictures an edit is read from: `readings` for each cell, and not too few for a rare value."""
    if not edit.is_joint:
        return readings * len(measurer.attributes[edit.attributes[0]])
    rarest = min((share for name in edit.claimed for share in edit.target(name).values()), default=1.0)
    cells = {tuple(edit.cell(variant).items()) for variant in edit.variants}
    return max(round(RARE * readings / rarest), readings * len(cells))

"""A whole repair: record the frozen model, distil, audit on the trained templates, correct, distil again.

Comes in: a pipeline's painter (at the guidance it will be used with), a measurer, a Goal. Goes out: an
Adapter with what it cost. Held-out templates are never drawn here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import final

from counterpoise.diffusion.painter import Painter
from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, Host
from counterpoise.measure.reading import Measurer
from counterpoise.remedies.distil import Method, distil
from counterpoise.remedies.goal import Edit, Goal
from counterpoise.remedies.lessons import Library, Shares, StageProgress, goal_shares

AUDIT_SEED = 5_000_000
DAMPING = 0.85
FLOOR = 0.02  # a reading of none is taken as this share, so that no weight runs away


@final
@dataclass(frozen=True, slots=True)
class Repair:
    """adapter: the update. losses: (step, loss) over all rounds. shares: what each edit's variants were
    weighted with in the last round. pictures_judged: pictures that the corrections looked at."""

    adapter: Adapter
    losses: tuple[tuple[int, float], ...]
    shares: Shares
    pictures_judged: int
    seconds: float


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

    Raises UsageError for a goal that the measurer cannot read, DivergedError on a NaN loss.
    """
    check_goal(goal, measurer)
    started = time.monotonic()
    library = Library(painter, goal, method.ways, method.kept, method.seed, work, progress)
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
    losses, judged = list(log), 0
    for i in range(method.corrections):
        with Host(painter.pipeline).mounted(adapter):
            student = replace(painter, _embeddings={})
            readings = method.readings * (i + 1)
            look = partial(observe, student, measurer, goal, readings=readings, round_=i)
            observed = _kept(work / f"read-{i}.json", look)
        judged += sum(_pictures(measurer, edit, readings) for edit in goal.edits)
        shares = corrected(goal, shares, observed)
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
    return Repair(adapter, tuple(losses), shares, judged, time.monotonic() - started)


def check_goal(goal: Goal, measurer: Measurer) -> None:
    """UsageError unless the measurer can read every edit's attribute and values."""
    for edit in goal.edits:
        values = measurer.attributes.get(edit.attribute)
        if values is None:
            known = ", ".join(measurer.attributes)
            raise UsageError(
                f"goal: {measurer.name} does not read {edit.attribute!r}; it reads {known}",
                code="E_ATTRIBUTE",
            )
        unknown = sorted({variant.reads for variant in edit.variants} - set(values))
        if unknown:
            raise UsageError(
                f"goal: {unknown[0]!r} is not a value of {edit.attribute} ({', '.join(values)})",
                code="E_VALUE",
            )


def corrected(goal: Goal, shares: Shares, observed: Sequence[dict[str, float]]) -> list[list[float]]:
    """Shares for the next round: each variant's, times target over observed for the value it reads as.

    The ratio is taken to the power DAMPING, since what was observed is itself a sample.
    """
    found = []
    for edit, old, seen in zip(goal.edits, shares, observed, strict=True):
        target = edit.target()
        new = [
            share * (target[variant.reads] / max(FLOOR, seen.get(variant.reads, 0.0))) ** DAMPING
            for share, variant in zip(old, edit.variants, strict=True)
        ]
        found.append([share / sum(new) for share in new])
    return found


def observe(
    painter: Painter, measurer: Measurer, goal: Goal, *, readings: int, round_: int = 0
) -> list[dict[str, float]]:
    """For each edit, the shares read over the templates that the repair may see.

    readings: pictures for each value that the attribute can take. round_: every round has seeds of its own,
    so that a correction does not fit one set of them.
    """
    found = []
    seed = AUDIT_SEED + 100_000 * round_
    for edit in goal.edits:
        n = _pictures(measurer, edit, readings)
        prompts = [goal.templates[k % len(goal.templates)].format(edit.neutral) for k in range(n)]
        pictures = painter(prompts, range(seed, seed + n))
        seed += n
        read = [row[edit.attribute].value for row in measurer(pictures)]
        values = measurer.attributes[edit.attribute]
        found.append({value: read.count(value) / len(read) for value in values})
    return found


def _pictures(measurer: Measurer, edit: Edit, readings: int) -> int:
    return readings * len(measurer.attributes[edit.attribute])


def _kept(file: Path, make: Callable[[], list[dict[str, float]]]) -> list[dict[str, float]]:
    """What `make` gives, or what it gave before the work was interrupted."""
    if file.exists():
        saved: list[dict[str, float]] = json.loads(file.read_text("utf-8"))
        return saved
    made = make()
    unfinished = file.with_suffix(".tmp")
    unfinished.write_text(json.dumps(made), "utf-8")
    unfinished.replace(file)
    return made

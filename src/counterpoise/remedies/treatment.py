"""What every remedy works with and ends as: a `Bench` and a `Goal` in, a `Prepared` treatment out.

Comes in: nothing; these are the nouns between a remedy, which makes a treatment, and an audit, which draws
with it (`Ways.treated`). Treatment, join and Rewrite lie below, where an audit knows them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from counterpoise.audit.treatment import Treatment, join
from counterpoise.diffusion.arm import Rewrite
from counterpoise.diffusion.painter import Painter
from counterpoise.measure.reading import Measurer
from counterpoise.remedies.goal import Goal

__all__ = ["Bench", "Cost", "Effort", "Prepare", "Prepared", "Rewrite", "Treatment", "join"]


@final
@dataclass(frozen=True, slots=True)
class Cost:
    """What a remedy took to make. seconds: of wall time. judged: pictures that a measurer read for it.
    trained: steps of gradient descent. nbytes: of what has to be kept (an adapter's file, a model's)."""

    seconds: float = 0.0
    judged: int = 0
    trained: int = 0
    nbytes: int = 0


@final
@dataclass(frozen=True, slots=True)
class Effort:
    """What a remedy is going to take. drawn: pictures. trained: pictures that training steps differentiate.
    batch: of them at once. kept: bytes of recordings in memory."""

    drawn: int = 0
    trained: int = 0
    batch: int = 0
    kept: int = 0


@final
@dataclass(frozen=True, slots=True)
class Prepared:
    """A remedy's treatment, its cost, and what the user should know of it, a line each.

    told: what a record of the making should keep besides, as JSON values (losses, chosen strengths)."""

    treatment: Treatment
    cost: Cost = Cost()
    notes: tuple[str, ...] = ()
    told: Mapping[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True)
class Bench:
    """What a remedy works with. painter: the frozen model, at the guidance and steps it will be used with.
    measurer: the judge. work: a folder of this remedy's own, found again on resuming. seed: of the first
    audit picture (a planner's quota counts from it); remedies draw on other seeds.
    progress(stage, step, total, loss). fast: everything very small, a test of the code, not of the remedy.
    parts: into how many a training batch is cut where memory lacks (see `Schedule.parts`)."""

    painter: Painter
    measurer: Measurer
    work: Path
    seed: int = 0
    progress: Callable[[str, int, int, float], None] = field(
        default=lambda stage, step, total, loss: None, repr=False
    )
    fast: bool = False
    parts: int = 1


Prepare = Callable[[Bench, Goal], Prepared]

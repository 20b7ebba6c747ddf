"""What every remedy works with and ends as: a `Bench` and a `Goal` in, a `Prepared` treatment out.

Comes in: nothing; these are the nouns between a remedy, which makes a treatment, and an audit, which draws
with it (`Ways.treated`). Treatment, join and Rewrite lie below, where an audit knows them too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from counterpoise.audit.treatment import Treatment, join
from counterpoise.diffusion.arm import Rewrite
from counterpoise.diffusion.painter import Painter
from counterpoise.measure.reading import Measurer
from counterpoise.remedies.goal import Goal

__all__ = ["Bench", "Cost", "Prepare", "Prepared", "Rewrite", "Treatment", "join"]


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
class Prepared:
    """A remedy's treatment, its cost, and what the user should know of it, a line each."""

    treatment: Treatment
    cost: Cost = Cost()
    notes: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Bench:
    """What a remedy works with. painter: the frozen model, at the guidance and steps it will be used with.
    measurer: the judge. work: a folder of this remedy's own, found again on resuming. seed: of the first
    audit picture (a planner's quota counts from it); remedies draw on other seeds.
    progress(stage, step, total, loss)."""

    painter: Painter
    measurer: Measurer
    work: Path
    seed: int = 0
    progress: Callable[[str, int, int, float], None] = field(
        default=lambda stage, step, total, loss: None, repr=False
    )


Prepare = Callable[[Bench, Goal], Prepared]

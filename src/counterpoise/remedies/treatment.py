"""What every remedy ends as: a `Treatment`, the part of an Arm that differs from the plain model's.

Comes in: nothing; these are the nouns between a remedy, which makes a treatment, and an audit, which draws
with it. Treatments can be joined: a negative prompt beside a LoRA beside a planner is one treatment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, final

from counterpoise.diffusion.painter import Painter
from counterpoise.errors import UsageError
from counterpoise.lora import Adapter
from counterpoise.measure.reading import Measurer
from counterpoise.remedies.goal import Goal


class Rewrite(Protocol):
    """Turns prompts into the prompts that are drawn, one for each; row i depends on its own prompt and seed.

    identity: says all that the rewriting depends on, as it stands in the arm's record.
    """

    identity: str

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]: ...


@final
@dataclass(frozen=True, slots=True)
class Treatment:
    """adapters: (adapter, strength) pairs mounted beside the weights. negative: added to the negative prompt.
    rewrite: what happens to prompts before they are drawn. model: the folder of another pipeline, drawn
    with in place of the model's own (a retrained W)."""

    adapters: tuple[tuple[Adapter, float], ...] = ()
    negative: str = ""
    rewrite: Rewrite | None = None
    model: Path | None = None


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


def join(*treatments: Treatment) -> Treatment:
    """Several treatments as one: adapters side by side, negative prompts one after the other.

    UsageError E_REMEDY where two rewrite prompts or two replace the model.
    """
    rewrites = [own.rewrite for own in treatments if own.rewrite is not None]
    models = [own.model for own in treatments if own.model is not None]
    for many, what in ((rewrites, "rewrite prompts"), (models, "replace the model")):
        if len(many) > 1:
            raise UsageError(
                f"{len(many)} of the remedies {what}, and one picture has room for one; leave the others out",
                code="E_REMEDY",
            )
    return Treatment(
        adapters=tuple(pair for own in treatments for pair in own.adapters),
        negative=", ".join(own.negative for own in treatments if own.negative),
        rewrite=rewrites[0] if rewrites else None,
        model=models[0] if models else None,
    )

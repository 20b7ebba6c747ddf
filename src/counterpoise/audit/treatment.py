"""`Treatment`: the part of an arm in which a remedy differs from the plain model.

Comes in: adapters, a negative prompt, a rewriting, another model's folder, any of them. Goes out: one noun
that `Ways.treated` makes an arm of. Treatments can be joined: a negative prompt beside a LoRA beside a
planner is one treatment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import final

from counterpoise.diffusion.arm import Rewrite
from counterpoise.errors import UsageError
from counterpoise.lora import Adapter


@final
@dataclass(frozen=True, slots=True)
class Treatment:
    """adapters: (adapter, strength) pairs mounted beside the weights. negative: added to the negative prompt.
    push: how strongly, times the usual (0 draws as without, see `Painter.negative_embedding`).
    rewrite: what happens to prompts before they are drawn. model: the folder of another pipeline, drawn
    with in place of the model's own (a retrained W)."""

    adapters: tuple[tuple[Adapter, float], ...] = ()
    negative: str = ""
    rewrite: Rewrite | None = None
    model: Path | None = None
    push: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.push < math.inf:
            raise UsageError(
                f"a negative prompt's strength is {self.push!r}: expected a finite number of 0 or more",
                code="E_STRENGTH",
            )


def join(*treatments: Treatment) -> Treatment:
    """Several treatments as one: adapters side by side, negative prompts one after the other.

    UsageError E_REMEDY where two rewrite prompts, two replace the model, or two negative prompts are to act
    at different strengths.
    """
    rewrites = [own.rewrite for own in treatments if own.rewrite is not None]
    models = [own.model for own in treatments if own.model is not None]
    pushes = list(dict.fromkeys(own.push for own in treatments if own.negative))
    for many, what in (
        (rewrites, "rewrite prompts"),
        (models, "replace the model"),
        (pushes, f"push negative prompts at different strengths ({', '.join(map(str, pushes))})"),
    ):
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
        push=pushes[0] if pushes else 1.0,
    )

"""The LoRA engine: low-rank updates of any `nn.Module`, W = W0 + BA, with W0 always to be had back.

In: adapter files (of any dialect in `dialects`, read strictly) or factors; a module or a diffusers
pipeline. Out: an `Adapter` (layer path -> an update of one of `kinds`), a `Host` that mounts adapters beside
the weights, folds them in, and restores W0 bit for bit; `trainable` factors and `train`, a loop for them;
adapters made of others (`compose`, `resize`, `extract`) and how they interfere. This room knows no diffusion,
no prompts and no bias; it imports only `counterpoise.errors`. Names are imported when they are first used:
a bad file is refused before torch is there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from counterpoise.lora.adapter import Adapter
    from counterpoise.lora.algebra import compose, extract, input_covariances, interference, resize
    from counterpoise.lora.fine_tuning import Trained, train
    from counterpoise.lora.host import Host
    from counterpoise.lora.layers import match_layers
    from counterpoise.lora.lowrank import LowRank
    from counterpoise.lora.trainables import Trainable, trainable
    from counterpoise.lora.training import DivergedError, Schedule

_ROOMS = {
    "counterpoise.lora.adapter": ("Adapter",),
    "counterpoise.lora.algebra": (
        "compose",
        "extract",
        "input_covariances",
        "interference",
        "resize",
    ),
    "counterpoise.lora.fine_tuning": (
        "Trained",
        "train",
    ),
    "counterpoise.lora.host": ("Host",),
    "counterpoise.lora.layers": ("match_layers",),
    "counterpoise.lora.lowrank": ("LowRank",),
    "counterpoise.lora.trainables": (
        "Trainable",
        "trainable",
    ),
    "counterpoise.lora.training": (
        "DivergedError",
        "Schedule",
    ),
}
_WHERE = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Adapter",
    "DivergedError",
    "Host",
    "LowRank",
    "Schedule",
    "Trainable",
    "Trained",
    "compose",
    "extract",
    "input_covariances",
    "interference",
    "match_layers",
    "resize",
    "train",
    "trainable",
]


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

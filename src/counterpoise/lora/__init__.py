"""The LoRA engine: low-rank updates of any `nn.Module`, W = W0 + BA, with W0 always to be had back.

In: adapter files (of any dialect in `dialects`, read strictly) or factors; a module or a diffusers
pipeline. Out: an `Adapter` (layer path -> an update of one of `kinds`), a `Host` that mounts adapters beside
the weights, folds them in, and restores W0 bit for bit; `trainable` factors and `train`, a loop for them;
adapters made of others (`compose`, `resize`, `extract`) and how they interfere. This room knows no diffusion,
no prompts and no bias; it imports only `counterpoise.errors`.
"""

from counterpoise.lora.adapter import Adapter
from counterpoise.lora.algebra import compose, extract, input_covariances, interference, resize
from counterpoise.lora.fine_tuning import Trained, train
from counterpoise.lora.host import Host
from counterpoise.lora.layers import match_layers
from counterpoise.lora.lowrank import LowRank
from counterpoise.lora.trainable import Trainable, trainable
from counterpoise.lora.training import DivergedError, Schedule

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

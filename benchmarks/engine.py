"""The LoRA engine beside peft, on a synthetic stack and on a real pretrained transformer.

python -m benchmarks.engine [--json] [--only SUBSTRING]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks import engine_checkpoint, engine_compose, engine_fold, engine_forward, engine_train
from benchmarks.engine_models import MODELS
from benchmarks.report import Line, show

SYNTHETIC, REAL = MODELS
Measure = Callable[[str, nn.Module], Iterator[Line]]
# What is measured on which model; peft takes minutes to add a hundred adapters to the real one.
MEASURES: list[tuple[str, str, Measure]] = [
    ("compose", SYNTHETIC, engine_compose.composition),
    ("compose", REAL, lambda name, model: engine_compose.composition(name, model, rounds=1)),
    ("forward", SYNTHETIC, lambda name, model: engine_forward.active(name, model, 100, tokens=16, bound=8.0)),
    (
        "forward",
        SYNTHETIC,
        lambda name, model: engine_forward.active(name, model, 100, tokens=64, bound=None),
    ),
    ("forward", REAL, lambda name, model: engine_forward.active(name, model, 8, tokens=64, bound=None)),
    ("loading", SYNTHETIC, lambda name, model: engine_forward.loading(name, model, 100)),
    ("fold", SYNTHETIC, engine_fold.folding),
    ("fold", REAL, engine_fold.folding),
    ("switch", SYNTHETIC, engine_fold.switching),
    ("switch", REAL, engine_fold.switching),
    ("train", SYNTHETIC, engine_train.step),
    ("train", REAL, engine_train.step),
]


def main() -> None:
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    only = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else ""
    for kind, name, measure in MEASURES:
        if only in f"{kind} {name}":
            for line in measure(name, MODELS[name]()):
                show(line)
    if only in "checkpoint":
        for line in engine_checkpoint.on_disk():
            show(line)


if __name__ == "__main__":
    main()

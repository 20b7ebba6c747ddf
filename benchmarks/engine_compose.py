"""Composition of eight rank-8 adapters into one of rank 8, beside peft's add_weighted_adapter(svd)."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from benchmarks.engine_models import target_layers
from benchmarks.report import Line, alternate
from counterpoise.lora import Adapter, LowRank, compose

RANK = 8
MEMBERS = 8


def random_members(layers: dict[str, tuple[int, int]], count: int = MEMBERS) -> list[Adapter]:
    """`count` adapters of rank 8 with falling singular values, as trained ones have."""
    made = []
    falling = torch.arange(1, RANK + 1) ** -0.5
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        factors = {}
        for path, (out, width) in layers.items():
            down = torch.randn(RANK, width, generator=generator) / width**0.5 * falling[:, None]
            factors[path] = LowRank(down, torch.randn(out, RANK, generator=generator), RANK)
        made.append(Adapter(factors))
    return made


def peft_model(layers: dict[str, tuple[int, int]], members: list[Adapter]) -> Any:
    """A peft model of the same layers that holds the same factors as adapters "0", "1", ..."""
    stack = nn.ModuleDict({path: nn.Linear(width, out, bias=False) for path, (out, width) in layers.items()})
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(layers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(stack, config, adapter_name="0")
        for i in range(1, len(members)):
            model.add_adapter(str(i), LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(layers)))
    for i, member in enumerate(members):
        for path, update in member.layers.items():
            layer = model.get_submodule(f"base_model.model.{path}")
            layer.lora_A[str(i)].weight.data.copy_(update.down)
            layer.lora_B[str(i)].weight.data.copy_(update.up)
    return model


def worst_error(members: list[Adapter], made: Adapter) -> float:
    """The largest layer error ||made - sum|| over the dense optimum's (Eckart-Young), float64."""
    worst = 0.0
    for path, update in made.layers.items():
        total = torch.stack([m.layers[path].dense(torch.float64) for m in members]).sum(0)
        best = torch.linalg.svdvals(total)[RANK:].norm()
        worst = max(worst, float((update.dense(torch.float64) - total).norm() / best))
    return worst


def composition(name: str, model: nn.Module, *, rounds: int = 3, count: int = MEMBERS) -> Iterator[Line]:
    """Seconds of composing `count` adapters of the model's layers, and our error over the optimum."""
    layers = {
        path.replace(".", "_"): (layer.out_features, layer.in_features)
        for path, layer in target_layers(model).items()
    }
    members = random_members(layers, count)
    wrapped = peft_model(layers, members)
    names = [str(i) for i in range(count)]
    turn = itertools.count()

    def theirs() -> None:
        # A new name each time: deleting the last one would be timed too.
        wrapped.add_weighted_adapter(
            names, [1.0] * count, f"made{next(turn)}", combination_type="svd", svd_rank=RANK
        )

    def own() -> Adapter:
        return compose(members, method="svd", rank=RANK).adapter

    ours, peer = alternate(own, theirs, rounds)
    what = f"{name}: rank-{RANK} composition of {count} adapters"
    error = worst_error(members, own())
    yield Line(f"{what}: seconds, ratio = times faster", ours, peer, peer / ours, 100.0, peer / ours >= 100)
    said = f"{what}: largest layer error over the Eckart-Young optimum"
    yield Line(said, error, 1.0, error, 1.0001, error <= 1.0001)

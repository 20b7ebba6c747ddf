"""Composition of eight rank-8 adapters into one of rank 8, beside peft's add_weighted_adapter(svd).

python -m benchmarks.engine_compose [--json]
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from benchmarks.report import Line, alternate, show
from counterpoise.lora import Adapter, LowRank, compose

RANK = 8
MEMBERS = 8
# Per block [out, in]: four square attention projections and the two of a feed-forward network.
BLOCK = ((768, 768),) * 4 + ((3072, 768), (768, 3072))
BLOCKS = 4


def shapes(blocks: int = BLOCKS, block: tuple[tuple[int, int], ...] = BLOCK) -> dict[str, tuple[int, int]]:
    """Layer -> [out, in] of the synthetic stack: 24 linear layers of width 768 to 3072."""
    return {f"block{i}_{j}": shape for i in range(blocks) for j, shape in enumerate(block)}


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


def composition(
    layers: dict[str, tuple[int, int]] | None = None, *, rounds: int = 3, count: int = MEMBERS
) -> Iterator[Line]:
    """Seconds of composing `count` adapters, ours and peft's, and our error over the optimum."""
    layers = layers or shapes()
    members = random_members(layers, count)
    model = peft_model(layers, members)
    names = [str(i) for i in range(count)]
    turn = itertools.count()

    def theirs() -> None:
        # A new name each time: deleting the last one would be timed too.
        model.add_weighted_adapter(
            names, [1.0] * count, f"made{next(turn)}", combination_type="svd", svd_rank=RANK
        )

    def own() -> Adapter:
        return compose(members, method="svd", rank=RANK).adapter

    ours, peer = alternate(own, theirs, rounds)
    what = f"rank-{RANK} composition of {count} adapters, {len(layers)} layers"
    error = worst_error(members, own())
    yield Line(f"{what}: seconds, ratio = times faster", ours, peer, peer / ours, 100.0, peer / ours >= 100)
    name = f"{what}: largest layer error over the Eckart-Young optimum"
    yield Line(name, error, 1.0, error, 1.0001, error <= 1.0001)


def main() -> None:
    torch.set_num_threads(1)
    for line in composition():
        show(line)


if __name__ == "__main__":
    main()

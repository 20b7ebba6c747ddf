"""DARE: drop entries at random, rescale the rest to the same mean. arXiv:2311.03099.

dare: on dense updates, one layer at a time, summed, then truncated. dare-ties: its members elected as in
TIES (arXiv:2306.01708) without trimming. dare-core: on core entries (arXiv:2509.17786), another method.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from counterpoise.lora.algebra.core import Layer, Spectrum, singular
from counterpoise.lora.algebra.members import check_share
from counterpoise.lora.algebra.merges.core_space import core_space
from counterpoise.lora.algebra.merges.ties import elected


def dropped(layer: Layer, members: Iterable[Tensor], density: float) -> Iterator[Tensor]:
    """Each member with every entry kept at probability `density`, divided by it."""
    for name, entries in zip(layer.names, members, strict=True):
        # float32 draws whatever the entries' type: the mask is part of what a seed means.
        kept = torch.rand(entries.shape, generator=layer.generator(name)) < density
        yield entries * kept / density


def dare(layer: Layer, *, density: float = 0.2) -> Tensor:
    """DARE proper: the sum of the dropped members; `density` is the share kept (the paper's 1 - p)."""
    share = check_share("density", density, code="E_OPTION")
    total = torch.zeros(layer.sides, dtype=torch.float64)
    for entries in dropped(layer, layer.dense(), share):
        total += entries
    return total


def dare_ties(layer: Layer, *, density: float = 0.2) -> Tensor:
    """DARE, then TIES' election of signs and mean of those that agree."""
    share = check_share("density", density, code="E_OPTION")
    return elected(lambda: dropped(layer, layer.dense(), share))


def dare_core(layer: Layer, *, density: float = 0.5) -> Spectrum:
    """DARE on the core entries: no dense update is built."""
    share = check_share("density", density, code="E_OPTION")
    core = core_space(layer)
    middle = torch.stack(list(dropped(layer, core.members, share))).sum(0)
    return singular(core.left @ middle, core.right)

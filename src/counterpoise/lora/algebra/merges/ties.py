"""TIES: trim each member, elect a sign for each entry, average those that agree. arXiv:2306.01708.

ties: on dense updates, one layer at a time, then truncated. ties-core: the same rule on the entries of
the members' cores in Core Space, arXiv:2509.17786: another method, since entries depend on the basis.
Trimmed per layer and member (the paper trims a member's whole vector), strengths applied first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from counterpoise.lora.algebra.core import Layer, Spectrum, singular
from counterpoise.lora.algebra.members import check_share
from counterpoise.lora.algebra.merges.core_space import core_space


def trimmed(entries: Tensor, density: float) -> Tensor:
    """`entries` with all but the `density` share of largest magnitude set to 0; at least one stays."""
    flat = entries.flatten()
    keep = max(1, int(density * flat.numel()))
    kept = torch.zeros_like(flat)
    chosen = flat.abs().topk(keep, sorted=False).indices
    kept[chosen] = flat[chosen]
    return kept.reshape(entries.shape)


def elected(members: Callable[[], Iterable[Tensor]]) -> Tensor:
    """The mean, entry by entry, of the members that have the sign of the sum there.

    `members()` is gone through twice, so that no more than one dense member is in memory.
    """
    total = _total(members())
    sign = torch.where(total >= 0, 1.0, -1.0).to(total.dtype)
    agreeing, count = torch.zeros_like(total), torch.zeros_like(total)
    for entries in members():
        agree = entries.sign() == sign
        agreeing += entries * agree
        count += agree
    return agreeing / count.clamp(min=1)


def _total(members: Iterable[Tensor]) -> Tensor:
    rest = iter(members)
    total = next(rest).clone()
    for entries in rest:
        total += entries
    return total


def ties(layer: Layer, *, density: float = 0.2) -> Tensor:
    """TIES proper; `density` is the share of entries that each member keeps (the paper's k = 20 %)."""
    share = check_share("density", density, code="E_OPTION")
    return elected(lambda: (trimmed(dense, share) for dense in layer.dense()))


def ties_core(layer: Layer, *, density: float = 0.2) -> Spectrum:
    """TIES on the core entries: no dense update is built."""
    share = check_share("density", density, code="E_OPTION")
    core = core_space(layer)
    middle = elected(lambda: (trimmed(entries, share) for entries in core.members))
    return singular(core.left @ middle, core.right)

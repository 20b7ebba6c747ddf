"""Core Space: every member as a small matrix between two shared bases. arXiv:2509.17786.

Linear merges, TSV-M and Iso-C commute with these rotations, so theirs are the same in or out of the core.
Merges of single entries (TIES, DARE) are not: in the core they are called ties-core and dare-core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from counterpoise.lora.algebra.core import Layer, left, orthonormal, right


@final
@dataclass(frozen=True, eq=False)
class Core:
    """left [out, p] @ member_i [p, q] @ right [q, in] = strength_i * Delta W_i, without loss."""

    left: Tensor
    members: tuple[Tensor, ...]
    right: Tensor


def core_space(layer: Layer) -> Core:
    """The reference bases (left singular vectors of the stacked factors as stored) and the cores.

    As in the paper, the bases depend on how a member splits its update between up and down; they depend
    on neither the strengths nor the order. Directions of zero singular value are left out.
    """
    ups = orthonormal(torch.cat([left(update) for update in layer.updates], 1))
    downs = orthonormal(torch.cat([right(update) for update in layer.updates], 0).T)
    cores = tuple((ups.T @ up) @ (down @ downs) for up, down in zip(layer.ups, layer.downs, strict=True))
    return Core(ups, cores, downs.T)

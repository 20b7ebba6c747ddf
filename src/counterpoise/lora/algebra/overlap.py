"""How much of their subspaces two updates share, beside what chance gives in as many dimensions.

In: a layer's stacked Gram matrices. Out: for each pair ||Q_i^T Q_j||^2 / min(rank_i, rank_j) with Q the
orthonormal basis of the update's column space (outputs) or row space (inputs): 0 apart, 1 one in the other.
Two random subspaces of ranks p and q in d dimensions have ||Q_i^T Q_j||^2 = p q / d on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from counterpoise.lora.algebra.core import Layer, membership

FAINTEST = 1e-6
"""Directions below this share of an update's largest singular value do not count to its rank. (From Gram
matrices, singular values below 1e-8 of the largest are rounding.)"""


@final
@dataclass(frozen=True, eq=False)
class Overlaps:
    """[n, n] each; NaN where a member has no update."""

    output: Tensor
    output_chance: Tensor
    input: Tensor
    input_chance: Tensor


def subspace_overlaps(layer: Layer, outer: Tensor, inner: Tensor, *, count: int) -> Overlaps:
    """The overlaps of every pair of `count` members; `outer` = up^T up and `inner` = down down^T, stacked."""
    sizes = [up.shape[1] for up in layer.ups]
    begins = [sum(sizes[:i]) for i in range(len(sizes))]
    spans = [slice(b, b + size) for b, size in zip(begins, sizes, strict=True)]
    bases = [_bases(outer[span, span], inner[span, span]) for span in spans]
    widths = [out.shape[1] for out, _ in bases]
    ranks = torch.full((count,), float("nan"), dtype=torch.float64)
    ranks[list(layer.owners)] = torch.tensor(widths, dtype=torch.float64)
    least = torch.minimum(ranks[:, None], ranks[None])
    member = membership(layer.owners, widths, count)
    shared = []
    for side, gram in enumerate((outer, inner)):
        basis = torch.block_diag(*(pair[side] for pair in bases))
        shared.append(member.T @ (basis.T @ gram @ basis).square() @ member)
    chance = [ranks[:, None] * ranks[None] / side / least for side in layer.sides]
    return Overlaps(shared[0] / least, chance[0], shared[1] / least, chance[1])


def _bases(outer: Tensor, inner: Tensor) -> tuple[Tensor, Tensor]:
    """T_out [r, k] and T_in [r, k] such that up T_out and down^T T_in are the update's singular vectors."""
    up, up_root = _whitening(outer)
    down, down_root = _whitening(inner)
    u, values, vh = torch.linalg.svd(up_root.T @ down_root, full_matrices=False)
    kept = max(1, int((values > values.max() * FAINTEST).sum()))
    return up @ u[:, :kept], down @ vh[:kept].T


def _whitening(gram: Tensor) -> tuple[Tensor, Tensor]:
    """(W, S) of G = E diag(v) E^T: factor @ W is orthonormal, W = E v^-1/2, and S = E v^1/2 undoes it."""
    values, vectors = torch.linalg.eigh(gram)
    heard = values > values.max() * FAINTEST**2
    if not bool(heard.any()):  # a factor of zeros spans nothing: one direction of length zero
        return torch.zeros_like(vectors[:, :1]), torch.zeros_like(vectors[:, :1])
    root = values[heard].sqrt()
    return vectors[:, heard] / root, vectors[:, heard] * root

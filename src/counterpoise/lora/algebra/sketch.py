"""The leading singular values and vectors of a matrix that is there in full.

In: a dense [out, in] matrix and how many values are wanted. Out: exact for a small matrix, by a random
sketch with power iterations for a large one (algorithms 4.4 and 5.1 of arXiv:0909.4061).
"""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoise.lora.algebra.core import Spectrum

SMALL = 256
"""Up to this smaller side an exact SVD takes milliseconds."""
OVERSAMPLE = 16
PASSES = 4
"""Power iterations: the ratio of neighbouring singular values counts to the power 2 * PASSES + 1."""


def leading(matrix: Tensor, count: int, generator: torch.Generator) -> Spectrum:
    """The first `count` (or more) singular values of `matrix` [out, in] with their vectors, largest first."""
    side = min(matrix.shape)
    width = count + OVERSAMPLE
    if side <= SMALL or 3 * width >= side:
        u, values, vh = torch.linalg.svd(matrix, full_matrices=False)
        return Spectrum(u, values, vh)
    start = torch.randn(matrix.shape[1], width, generator=generator, dtype=matrix.dtype)
    basis = torch.linalg.qr(matrix @ start)[0]
    for _ in range(PASSES):  # orthonormal in between: powers alone would round all columns to the first
        basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ basis)[0])[0]
    u, values, vh = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
    return Spectrum((basis @ u)[:, :count], values[:count], vh[:count])


def leading_energy(matrix: Tensor, share: float, generator: torch.Generator) -> tuple[Spectrum, int]:
    """Singular values enough to hold `share` of the energy ||matrix||^2, and how many of them do."""
    total = float(matrix.square().sum())
    count = 32
    while True:
        found = leading(matrix, count, generator)
        held = found.values.square().cumsum(0)
        # An exact SVD's own sum differs from ||matrix||^2 in its last bits: with all values, all is held.
        enough = int((held < share * total * (1 - 1e-12)).sum()) + 1
        if enough <= len(held) or len(held) == min(matrix.shape):
            return found, min(enough, max(1, found.rank))
        count *= 2

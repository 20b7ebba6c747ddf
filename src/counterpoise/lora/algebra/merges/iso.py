"""Iso-C: the sum with all its singular values set to their mean. arXiv:2502.04959.

The mean is over the values that are not zero: a sum of low-rank updates has no other directions, and
the paper's full-rank form would fill them with arbitrary ones.
"""

from __future__ import annotations

import torch

from counterpoise.lora.algebra.core import Layer, Spectrum, singular


def iso_c(layer: Layer) -> Spectrum:
    """The isotropic sum, its directions still in the sum's own order for a truncation to keep the first."""
    total = singular(*layer.stacked())
    k = max(1, total.rank)
    level = total.values[:k].mean()
    return Spectrum(total.left[:, :k], torch.full((k,), float(level), dtype=torch.float64), total.right[:k])

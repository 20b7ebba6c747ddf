"""The sum itself: whole, or the best of a rank.

concat: LoRA Soups (CAT), arXiv:2410.13025. svd: Eckart and Young, Psychometrika 1 (1936).
"""

from __future__ import annotations

import math

from counterpoise.lora.algebra.core import Layer, Spectrum, as_update, energy, result_dtype, singular
from counterpoise.lora.algebra.merges.result import Solved
from counterpoise.lora.lowrank import LowRank


def concat(layer: Layer) -> Solved:
    """The exact sum: factors side by side, rank = sum of ranks. One member alone keeps its own factors."""
    up, down = layer.stacked()
    norm = math.sqrt(energy(up, down))
    if len(layer.updates) == 1:
        own = layer.updates[0]
        return Solved(LowRank(own.down, own.up, own.alpha * layer.strengths[0]), 0.0, norm)
    return Solved(as_update(up, down, layer.shape, dtype=result_dtype(layer.updates)), 0.0, norm)


def svd(layer: Layer) -> Spectrum:
    """The exact sum's singular values: what is kept of them is the Frobenius optimum of its rank."""
    return singular(*layer.stacked(), keep=layer.rank)

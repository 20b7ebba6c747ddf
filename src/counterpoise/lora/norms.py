"""How long an update is, and whether that can be meant."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from counterpoise.lora.kinds import LowRank, plain
from counterpoise.lora.update import Update

EXTREME = 100.0
"""A delta this many times as long as the weight that it changes is no fine-tuning."""


def delta_norm(update: Update, base: Tensor | None = None) -> float | None:
    """|Delta W| (Frobenius), of a low-rank pair by its factors' Gram matrices; None for DoRA without base."""
    if "magnitude" in update.tensors() and base is None:
        return None
    inner = plain(update)
    if isinstance(inner, LowRank) and "magnitude" not in update.tensors():
        up, down = (t.detach().double().flatten(1) for t in (inner.up, inner.down))
        return abs(inner.scale) * math.sqrt(max(0.0, float(((up.T @ up) * (down @ down.T)).sum())))
    return float(torch.linalg.vector_norm(update.dense(torch.float64, base=base)))


def is_extreme(delta: float | None, base: float | None) -> bool:
    """Whether a delta of this norm is past `EXTREME` on a weight of that norm; zeros have no measure."""
    return delta is not None and base is not None and base > 0.0 and not delta <= EXTREME * base

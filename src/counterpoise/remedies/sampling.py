"""Which lessons a training step asks, so that every stretch of a training holds the mixture.

A variant of a hundredth in one of a hundred edits is asked some ten times in a training. Drawn by lot it is
asked ten times give or take three, and its share is learnt with that error, corrected or not. Points evenly
spaced over the lessons give each step its proportions (systematic sampling), and moved on by the golden ratio
from step to step they fill every gap in turn, so that ten times are ten times, give or take one.

Comes in: weights, a step's generator. Goes out: numbers of rows and of points on their ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

# 2 to the 64 times (5 ** 0.5 - 1) / 2: multiples of it, modulo 2 to the 64, are the most evenly spread.
_GOLDEN = 0x9E3779B97F4A7C15


@final
class Asked:
    """Lessons to draw from: a row of what was recorded, and a point on its way.

    weights: (rows,). points: (steps of a way,), how often each is asked. groups: (rows,), equal for rows that
    stand for the same; they lie together. Within a group all first points come before all second ones, so
    that not only a group but each point of its ways is asked in proportion.
    """

    def __init__(self, weights: torch.Tensor, points: torch.Tensor, groups: Sequence[object]) -> None:
        starts = [i for i, own in enumerate(groups) if i == 0 or own != groups[i - 1]]
        members = [torch.arange(a, b) for a, b in zip(starts, [*starts[1:], len(groups)], strict=True)]
        self.rows = torch.cat([own.repeat(len(points)) for own in members])
        at = torch.arange(len(points))
        self.at = torch.cat([at.repeat_interleave(len(own)) for own in members])
        self.ends = (weights.double()[self.rows] * points.double()[self.at]).cumsum(0)

    def __call__(self, count: int, step: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """`count` rows and a point on the way of each, both (count,)."""
        found = systematic(self.ends, count, step)
        return self.rows[found], self.at[found]


def systematic(ends: torch.Tensor, count: int, step: torch.Generator) -> torch.Tensor:
    """`count` numbers in proportion to weights, each within one of its expected number.

    ends: cumulative weights, (n,), float64. step: its seed, which counts the steps (`lora.training`), says
    where the first point lies, and no number is drawn from it.
    """
    if not count:
        return torch.zeros(0, dtype=torch.int64)
    offset = step.initial_seed() * _GOLDEN % 2**64 / 2**64
    points = (torch.arange(count, dtype=torch.float64) + offset) * (ends[-1] / count)
    found = torch.searchsorted(ends, points, right=True)
    return found.clamp(max=int(torch.searchsorted(ends, ends[-1])))  # rounding must not ask a weight of 0

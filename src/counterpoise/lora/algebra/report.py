"""What became of each layer, for the reports of compose, resize and extract."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Kept:
    """A layer before and after: ranks, and the relative error of what was kept.

    `error` = ||kept - target|| / ||target|| and `norm` = ||target||, Frobenius, in float64 before the
    factors are rounded to their dtype. A zero target has error 0. Rank 0: the layer was left out.
    """

    rank: int
    before: int
    error: float
    norm: float

    def to_dict(self) -> dict[str, float | int]:
        """As the command line prints it under `--json`."""
        return {"rank": self.rank, "rank_before": self.before, "error": self.error, "norm": self.norm}


def overall(kept: Iterable[tuple[float, float]]) -> float:
    """The relative error over all layers together, from (error, norm) of each."""
    pairs = list(kept)
    total = math.fsum(norm**2 for _, norm in pairs)
    return math.sqrt(math.fsum((error * norm) ** 2 for error, norm in pairs) / total) if total else 0.0

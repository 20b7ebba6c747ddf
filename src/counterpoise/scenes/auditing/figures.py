"""What every part of the audit of scenes hands on: a figure, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy.stats import t as student

from counterpoise.stats import Estimate, mean_interval

LEVEL = 0.95


@final
@dataclass(frozen=True, slots=True)
class Figure:
    """kind: what is measured, "correct", "leak", ...; of: of what, "skin", or "" for all together. estimate
    None: not measured, for the reason in `note`."""

    kind: str
    of: str
    estimate: Estimate | None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is not finite is null."""
        row: dict[str, Any] = {"kind": self.kind, "of": self.of, "note": self.note, "measured": False}
        if self.estimate is None:
            return row
        e = self.estimate
        numbers = {"value": e.value, "low": e.low, "high": e.high}
        finite = {key: x if math.isfinite(x) else None for key, x in numbers.items()}
        return {**row, "measured": True, **finite, "n": e.n, "method": e.method}


def over_pictures(shares: Sequence[float]) -> Estimate:
    """The mean over pictures of a share in [0, 1]: pictures are the clusters, whatever is inside them."""
    e = mean_interval(shares, confidence=LEVEL)
    return Estimate(e.value, e.low, e.high, e.n, f"{e.method} over pictures")


def jackknifed(
    tables: np.ndarray, statistic: Callable[[np.ndarray], float], *, confidence: float = LEVEL
) -> Estimate:
    """A statistic of sums over pictures, tables (pictures, ...), with a t interval from leaving out one
    picture at a time; without limits for one picture, or where one less leaves the statistic undefined.

    Where no picture differs from the others (no event, say) that interval would have no width; then it is as
    wide as the exact bound for no event in so many pictures, 1 - (alpha / 2) ** (1 / pictures).
    Source: Efron and Stein, Annals of Statistics 9 (1981) 586-596.
    """
    m, total = len(tables), tables.sum(0)
    value = statistic(total)
    method = "jackknife over pictures"
    if m < 2 or not math.isfinite(value):
        return Estimate(value, -math.inf, math.inf, m, method)
    less = np.array([statistic(total - own) for own in tables])
    if not np.isfinite(less).all():
        return Estimate(value, -math.inf, math.inf, m, method)
    error = math.sqrt((m - 1) / m * float(((less - less.mean()) ** 2).sum()))
    half = float(student.ppf(0.5 + confidence / 2, m - 1)) * error
    if half <= 1e-12:
        half = 1.0 - ((1.0 - confidence) / 2.0) ** (1.0 / m)
        method = "no picture differs: the exact bound for no event in so many"
    return Estimate(value, value - half, value + half, m, method)

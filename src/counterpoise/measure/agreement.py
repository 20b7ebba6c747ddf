"""How far several raters agree: Krippendorff's alpha, which allows for gaps and for chance."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np


@final
@dataclass(frozen=True, slots=True)
class Agreement:
    """alpha: 1 is perfect, 0 what chance gives; nan where it is undefined (no picture with two votes, or one
    value only). low, high: its interval, nan likewise. observed: the share of pairs of votes on one picture
    that agree. n: the pictures with two votes or more, on which it rests. votes: all votes on those.
    """

    alpha: float
    low: float
    high: float
    observed: float
    n: int
    votes: int
    method: str


def agreement(
    units: Sequence[Sequence[Hashable]], *, confidence: float = 0.95, draws: int = 2000, seed: int = 0
) -> Agreement:
    """Nominal alpha of units[i], the votes on picture i, with a percentile bootstrap over pictures.

    Source: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C; ratings by one rater
    alone are left out, as there.
    """
    names = list(dict.fromkeys(value for unit in units for value in unit))
    table = np.array([[list(unit).count(name) for name in names] for unit in units], dtype=float)
    table = table.reshape(len(units), len(names))
    table = table[table.sum(axis=1) >= 2]
    method = (
        f"Krippendorff's alpha, nominal; {confidence:.0%} percentile bootstrap over pictures ({draws} draws)"
    )
    nan = float("nan")
    if not len(table):
        return Agreement(nan, nan, nan, nan, 0, 0, method)
    m = table.sum(axis=1)
    pairs = (m * (m - 1)).sum()
    observed = float((table * (table - 1)).sum() / pairs)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(table), np.full(len(table), 1 / len(table)), size=draws).astype(float)
    spread = _alphas(table, weights)
    spread = spread[np.isfinite(spread)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(spread, [tail, 1 - tail]) if len(spread) else (nan, nan)
    alpha = float(_alphas(table, np.ones((1, len(table))))[0])
    return Agreement(alpha, float(low), float(high), observed, len(table), int(m.sum()), method)


def _alphas(table: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """alpha of each weighting, float (draws), of the units of a table (units, values) of counts."""
    m = table.sum(axis=1)
    disagreeing = (m**2 - (table**2).sum(axis=1)) / (m - 1)
    totals = weights @ table
    n = totals.sum(axis=1)
    expected = (n**2 - (totals**2).sum(axis=1)) / np.maximum(n - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        alphas: np.ndarray = np.where(expected > 0, 1 - (weights @ disagreeing) / expected, np.nan)
    return alphas

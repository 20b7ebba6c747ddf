"""How far two samples on shared seeds lie apart, with an interval: two prompts, or one prompt in two arms."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from counterpoise import stats
from counterpoise.audit.answers.faces import read_pairs
from counterpoise.audit.answers.outcome import finite
from counterpoise.audit.results import Measured


@lru_cache(maxsize=65536)
def difference(pairs: stats.Pairs, confidence: float) -> stats.Estimate:
    """`stats.paired_difference`, kept: rare values share their tables."""
    return stats.paired_difference(pairs, confidence=confidence)


def difference_between(read: stats.Pairs, low: np.ndarray, high: np.ndarray, confidence: float) -> Measured:
    """The difference of two rates: value from the pairs read, the interval however the others would be read.

    low, high: the tables [4] that bound them.
    """
    least = difference(stats.Pairs(*map(int, low)), confidence)
    most = difference(stats.Pairs(*map(int, high)), confidence)
    value = difference(read, confidence).value
    return Measured(finite(value), least.low, most.high, least.n, least.method)


def distance_between(
    codes: tuple[np.ndarray, np.ndarray], low: np.ndarray, high: np.ndarray, confidence: float
) -> Measured:
    """The total variation between the two, from simultaneous intervals of every value's difference.

    low, high: tables [V, 4] at the last look. The differences sum to 0, so what rises is what falls: each of
    the two sums of an interval's ends bounds it.
    """
    classes = low.shape[0]
    level = confidence if classes == 2 else 1.0 - (1.0 - confidence) / classes
    lows = np.array([difference(stats.Pairs(*map(int, row)), level).low for row in low])
    highs = np.array([difference(stats.Pairs(*map(int, row)), level).high for row in high])
    least = max(np.maximum(lows, 0.0).sum(), np.maximum(-highs, 0.0).sum())
    most = min(np.maximum(highs, 0.0).sum(), np.maximum(-lows, 0.0).sum(), 1.0)
    moves = []
    for k in range(classes):
        pairs = read_pairs(*codes, [k])
        moves.append((pairs.first_only - pairs.second_only) / n if (n := sum(pairs)) else math.nan)
    return Measured(
        finite(0.5 * float(np.abs(moves).sum())),
        float(least),
        float(max(most, least)),
        int(low[0].sum()),
        f"total variation within betting confidence sequences of {classes} paired differences",
    )

"""Confidence sequences: intervals for shares that hold at every time at once, however drawing is stopped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlog1py, xlogy

from counterpoise.stats.checks import alpha_of, checked_abstained, checked_counts, checked_target
from counterpoise.stats.distance import total_variation, total_variation_bounds
from counterpoise.stats.estimate import Estimate
from counterpoise.stats.inversion import share_border
from counterpoise.stats.prior import beta_components, log_beta_mixture


def share_bounds(
    count: ArrayLike, n: ArrayLike, *, alpha: float, centre: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the confidence sequence of one share, for arrays of counts and n (broadcast together).

    It holds every share x whose e-process B(count, n) / (x^count (1 - x)^(n - count)) stays below 1/alpha, B
    the probability under a mixture of betas; the likelihood has one peak, so that is an interval and is
    inverted exactly. centre: a share that is expected (a target), where the interval gets shorter; it holds
    for every true share all the same. n = 0 gives [0, 1]. Source: Robbins, Ann. Math. Stat. 41 (1970)
    1397-1409; Lindon and Malek, arXiv:2011.03567.
    """
    x, m = np.broadcast_arrays(np.asarray(count, dtype=float), np.asarray(n, dtype=float))
    floor = log_beta_mixture(x, m, beta_components(centre)) + np.log(alpha)

    def keep(share: np.ndarray) -> np.ndarray:
        return xlogy(x, share) + xlog1py(m - x, -share) > floor

    middle = np.where(m > 0, x / np.maximum(m, 1.0), 0.5)
    low = share_border(keep, middle, upward=False)
    high = share_border(keep, middle, upward=True)
    return np.where(x == 0, 0.0, low), np.where(x == m, 1.0, high)


def share_sequence(
    counts: Sequence[int],
    *,
    target: Sequence[float] | None = None,
    abstained: int = 0,
    confidence: float = 0.95,
) -> list[Estimate]:
    """Intervals that hold all K true shares at every time at once, with at least `confidence`.

    counts [K] of pictures that were read; abstained: pictures that may belong to any class, so each interval
    reaches from "none of them" to "all of them". target: where to be shortest (see `share_bounds`). The
    value is the share of the pictures read, nan where there are none. Two classes are one share and its rest;
    more share alpha by Bonferroni, which from K = 3 on is shorter than the joint set's shadow.
    ValueError for counts, targets or levels that are none.
    """
    c = checked_counts(counts)
    a = checked_abstained(abstained)
    k = len(c)
    goal = None if target is None else checked_target(target, k)
    alpha = alpha_of(confidence) / (1 if k == 2 else k)
    read = c.sum()
    n = int(read) + a
    method = f"beta-binomial confidence sequence, simultaneous over {k} classes"
    if a:
        method += f", {a} abstained counted for and against every class"
    found = []
    for i in range(k):
        centre = None if goal is None else float(goal[i])
        low, high = share_bounds([c[i], c[i] + a], n, alpha=alpha, centre=centre)
        value = float(c[i] / read) if read else float("nan")
        found.append(Estimate(value, float(low[0]), float(high[1]), n, method))
    return found


def distance_sequence(
    counts: Sequence[int], target: Sequence[float], *, abstained: int = 0, confidence: float = 0.95
) -> Estimate:
    """The total variation to `target`, with bounds that hold at every time at once.

    The least and the greatest TV of any shares within `share_sequence`. value: that of the pictures read.
    """
    box = share_sequence(counts, target=target, abstained=abstained, confidence=confidence)
    low, high = total_variation_bounds([e.low for e in box], [e.high for e in box], target)
    value = total_variation([e.value for e in box], target)
    return Estimate(value, low, high, box[0].n, f"total variation within {box[0].method}")

"""The mean of bounded numbers, by betting: an e-process for each candidate mean, inverted to an interval.

A bet of size lam on outcomes with deviations D from the candidate multiplies wealth by 1 + lam * D, which is
fair when D has mean 0. Wealth mixed over a fixed set of bets is an e-process whatever the outcomes'
distribution, and depends on how often each outcome came, not on the order. Source: Waudby-Smith and Ramdas,
JRSS-B 86 (2024) 1-27 (arXiv:2010.09686), sections 4 and 5.4 (a grid of bets instead of one that adapts).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import logsumexp

from counterpoise.stats.checks import alpha_of
from counterpoise.stats.estimate import Estimate

FEW = 2000
# Evidence beyond the level by more than this is as good as infinite to a search for the level.
BEYOND = 50.0
PRECISION = 1e-12


def _bets() -> tuple[np.ndarray, np.ndarray]:
    """Bets as shares of the largest one allowed, and ln of their weights, for one direction.

    Half of the weight as Jeffreys' beta (Chebyshev's nodes: bold bets, for gross differences); half spread
    evenly over orders of magnitude, down to those that tell a thousandth of the range in 10**6 outcomes.
    """
    bold = np.cos(np.pi * (np.arange(1, 17) - 0.5) / 32.0)
    small = 2.0 ** (-np.arange(1, 25) / 2.0)
    weights = np.concatenate([np.full(len(bold), 0.5 / len(bold)), np.full(len(small), 0.5 / len(small))])
    return np.concatenate([bold, small]), np.log(weights)


BETS, LOG_WEIGHTS = _bets()


def log_wealth(deviations: ArrayLike, counts: ArrayLike, *, span: tuple[ArrayLike, ArrayLike]) -> np.ndarray:
    """ln of the e-process against "the deviations have mean 0", betting on both directions.

    deviations [..., J] of the J outcomes, counts [..., J] of how often each came, span: the least (< 0) and
    the greatest (> 0) deviation possible. Returns [...].
    """
    sides = [log_wealth_above(deviations, counts, least=span[0])]
    sides.append(log_wealth_above(-np.asarray(deviations), counts, least=-np.asarray(span[1])))
    return np.asarray(logsumexp(sides, axis=0)) - math.log(2.0)


def log_wealth_above(deviations: ArrayLike, counts: ArrayLike, *, least: ArrayLike) -> np.ndarray:
    """ln of the e-process against "the deviations have a mean of at most 0"; least: the lowest possible."""
    scaled = np.asarray(deviations, dtype=float) / -np.asarray(least, dtype=float)[..., None]
    counted = np.asarray(counts, dtype=float)
    if counted.size < FEW:
        ndim = max(counted.ndim, scaled.ndim)
        gains = np.log1p(BETS.reshape(-1, *[1] * ndim) * scaled)
        logs = LOG_WEIGHTS.reshape(-1, *[1] * (ndim - 1)) + (counted * gains).sum(axis=-1)
    else:
        # A bet at a time: arrays of counts may be long, the bets are 40.
        pairs = zip(BETS, LOG_WEIGHTS, strict=True)
        logs = np.stack([weight + _gain(counted, np.log1p(bet * scaled)) for bet, weight in pairs])
    return np.asarray(logsumexp(logs, axis=0))


def _gain(counts: np.ndarray, gains: np.ndarray) -> np.ndarray:
    return counts @ gains if gains.ndim == 1 else np.asarray((counts * gains).sum(axis=-1))


def convex_interval(
    log_e: Callable[[float], float], value: float, span: tuple[float, float], alpha: float
) -> tuple[float, float]:
    """The candidates in `span` whose e-process stays below 1/alpha; `log_e` is convex-like around `value`."""

    level = -math.log(alpha)

    def excess(candidate: float) -> float:
        return min(log_e(candidate), level + BEYOND) - level

    def end(limit: float) -> float:
        if limit == value or excess(limit) < 0.0:
            return limit
        width = abs(limit - value)
        # Outwards by what the root may miss, so that nothing kept is left out.
        root = float(brentq(excess, value, limit, xtol=PRECISION * width))
        return root + math.copysign(PRECISION * width, limit - value)

    return end(span[0]), end(span[1])


def mean_interval(
    values: Sequence[float], *, span: tuple[float, float] = (0.0, 1.0), confidence: float = 0.95
) -> Estimate:
    """The mean of independent numbers in `span`, whatever their distribution; also at any stopping time.

    values [m]: with m = 0 the interval is the whole span. The wealth is convex in the candidate (each factor
    is, and falls or rises with it) and at most 1 at the values' own mean, so what is left is an interval
    around it. ValueError for values outside the span.
    """
    x = np.asarray(values, dtype=float)
    lowest, highest = span
    alpha = alpha_of(confidence)
    if x.ndim != 1 or not ((x >= lowest) & (x <= highest)).all() or not lowest < highest:
        raise ValueError(f"values {x.tolist()}: expected numbers from {lowest} to {highest}")
    method = "betting interval of a bounded mean"
    if not len(x):
        return Estimate(math.nan, lowest, highest, 0, method)
    distinct, counts = np.unique(x, return_counts=True)
    value = float(x.mean())

    def log_e(candidate: float) -> float:
        if not lowest < candidate < highest:
            # Only equal values leave a mean at the end of the span possible.
            return 0.0 if distinct[0] == distinct[-1] == candidate else math.inf
        return float(log_wealth(distinct - candidate, counts, span=(lowest - candidate, highest - candidate)))

    low, high = convex_interval(log_e, value, span, alpha)
    return Estimate(value, low, high, len(x), method)

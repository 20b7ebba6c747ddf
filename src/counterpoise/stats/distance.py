"""How far a distribution lies from its target: total variation, its bounds, and what chance alone shows.

Distributions are sequences over the same classes in the same order. Abstention is one more class, whose
target is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.stats import binom

# 2**16 subsets of floats are half a megabyte; more free classes than this get the outer bound instead.
MAX_ENUMERATED = 16


def total_variation(p: Sequence[float], q: Sequence[float]) -> float:
    """Half the L1 distance: the mass that must move to turn p into q, in [0, 1].

    Source: Levin and Peres, Markov Chains and Mixing Times (2017), Prop. 4.2.
    """
    return float(0.5 * np.abs(np.subtract(p, q)).sum())


def total_variation_bounds(
    low: Sequence[float], high: Sequence[float], target: Sequence[float]
) -> tuple[float, float]:
    """The least and the greatest TV to `target` of any distribution p with low <= p <= high.

    If the box covers the true shares with probability c, these bounds cover the true TV with at least c.
    ValueError when no distribution lies in the box. Derivation, with t = target and (x)+ = max(x, 0):
    TV(p, t) = sum (p - t)+ = sum (t - p)+, so every p shows at least the mass that the box forces above t
    and at least the mass it forces below t; moving only as much as the larger of them reaches it.
    TV(p, t) = max over sets S of p(S) - t(S), and the greatest p(S) in the box and the simplex is
    min(high(S), 1 - low(not S)); the maximum over S is enumerated. With more than MAX_ENUMERATED classes
    that could go either way, the fractional relaxation is returned: never smaller, so still valid.
    """
    lows, highs, t = (np.asarray(x, dtype=float) for x in (low, high, target))
    if lows.sum() > 1.0 + 1e-9 or highs.sum() < 1.0 - 1e-9 or (lows > highs).any():
        raise ValueError(f"no distribution between low (sum {lows.sum()}) and high (sum {highs.sum()})")
    least = max(float(np.maximum(lows - t, 0.0).sum()), float(np.maximum(t - highs, 0.0).sum()))
    return min(least, 1.0), min(max(_greatest(highs - t, t - lows), least), 1.0)


def _greatest(gain: np.ndarray, loss: np.ndarray) -> float:
    """max over S of min(sum of gain in S, sum of loss outside S); gain + loss >= 0 in every class."""
    # A class that cannot rise above its target never helps S; one that cannot fall below it always does.
    inside = loss < 0.0
    free = (gain > 0.0) & ~inside
    first, second = float(gain[inside].sum()), float(loss[~inside & ~free].sum())
    gains, losses = gain[free], loss[free]
    if len(gains) > MAX_ENUMERATED:
        return _relaxed(gains, losses, (first, second))
    chosen = np.zeros(1)
    left = np.zeros(1)
    for g, lo in zip(gains, losses, strict=True):
        chosen = np.concatenate([chosen, chosen + g])
        left = np.concatenate([left + lo, left])
    return float(np.minimum(first + chosen, second + left).max())


def _relaxed(gains: np.ndarray, losses: np.ndarray, fixed: tuple[float, float]) -> float:
    """The same maximum when classes may be split: put the best gain per loss into S until both sides meet."""
    order = np.argsort(-(gains / np.maximum(losses, 1e-300)), kind="stable")
    chosen = fixed[0] + np.concatenate([[0.0], np.cumsum(gains[order])])
    left = fixed[1] + float(losses.sum()) - np.concatenate([[0.0], np.cumsum(losses[order])])
    best = float(np.minimum(chosen, left).max())
    for (c0, c1), (l0, l1) in zip(pairwise(chosen), pairwise(left), strict=True):
        if c0 < l0 and c1 > l1:
            share = (l0 - c0) / ((c1 - c0) + (l0 - l1))
            best = max(best, float(c0 + share * (c1 - c0)))
    return best


def fair_floor(target: Sequence[float], n: int) -> float:
    """The TV that a model exactly on target is expected to show in n pictures (exact, not asymptotic).

    E TV = 1/2 sum over k of E|X_k/n - t_k| with X_k binomial(n, t_k), each by De Moivre's closed form
    E|X - nt| = 2 m (1 - t) P(X = m), m = floor(nt) + 1. n >= 1; ValueError otherwise.
    Source: Diaconis and Zabell, Statistical Science 6 (1991) 284-302, eq. 1.1.
    """
    if n < 1:
        raise ValueError(f"n {n}: expected at least 1")
    t = np.clip(np.asarray(target, dtype=float), 0.0, 1.0)
    m = np.floor(n * t) + 1.0
    deviations = 2.0 * m * (1.0 - t) * binom.pmf(m, n, t)
    return float(0.5 * deviations.sum() / n)


def floor_corrected(tv: float, floor: float) -> float:
    """TV with the fair model's expected TV at that n taken off, max(0, tv - floor).

    It is right on target (expectation near 0) and errs low far from it, where chance adds less than the
    floor; so show it beside tv and its interval, never instead of them.
    """
    return max(0.0, tv - floor)

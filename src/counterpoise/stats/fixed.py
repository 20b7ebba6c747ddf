"""The same claims decided once, at a number of pictures that was fixed beforehand: p-values.

They are for planning and for comparison. Looked at while drawing, they raise false alarms: chi-square looked
at every 10 pictures up to 500 does in a third of the runs.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, chdtrc, gammaln

from counterpoise.stats.checks import checked_counts, checked_target
from counterpoise.stats.tolerance import faces_of

MAX_OUTCOMES = 20_000


def p_target(counts: ArrayLike, target: ArrayLike) -> np.ndarray:
    """Pearson's p-value of "the shares are exactly `target`", counts [..., K], target [K] without zeros.

    Exact, by all outcomes at least as far in chi-square, where there are at most MAX_OUTCOMES of them; else
    chi-square's own. 1 where nothing was drawn. Source: Pearson, Phil. Mag. 50 (1900) 157-175.
    """
    c = checked_counts(counts)
    t = checked_target(target, c.shape[-1])
    if not t.all():
        raise ValueError(f"target {t.tolist()}: chi-square is not defined where a target share is 0")
    distances, n = _chi_square(c, t), c.sum(axis=-1)
    p = np.asarray(chdtrc(len(t) - 1, distances))
    for size in np.unique(n[n > 0]):
        if math.comb(int(size) + len(t) - 1, len(t) - 1) <= MAX_OUTCOMES:
            here = n == size
            p = np.where(here, _exact(distances, int(size), t), p)
    return p


def _chi_square(c: np.ndarray, t: np.ndarray) -> np.ndarray:
    expected = c.sum(axis=-1, keepdims=True) * t
    parts = np.divide((c - expected) ** 2, expected, out=np.zeros_like(expected), where=expected > 0)
    return np.asarray(parts.sum(axis=-1))


def _exact(distances: np.ndarray, n: int, t: np.ndarray) -> np.ndarray:
    """P(chi-square >= each distance) over all outcomes of n pictures."""
    k = len(t)
    bars = np.array(list(combinations(range(n + k - 1), k - 1)), dtype=float).reshape(-1, k - 1)
    outcomes = np.diff(bars, axis=1, prepend=-1.0, append=n + k - 1.0) - 1.0
    logs = gammaln(n + 1.0) - gammaln(outcomes + 1.0).sum(axis=1) + outcomes @ np.log(t)
    reached = _chi_square(outcomes, t)
    order = np.argsort(reached)
    # Sums in another order differ in the last place: a tie must count.
    from_here = np.append(np.exp(logs)[order][::-1].cumsum()[::-1], 0.0)
    return np.minimum(from_here, 1.0)[np.searchsorted(reached[order], distances * (1.0 - 1e-12) - 1e-12)]


def p_outside(counts: ArrayLike, target: ArrayLike, *, tolerance: float, abstained: int = 0) -> np.ndarray:
    """Exact p-value of "every share is within `tolerance`": the least of the faces', times their number."""
    faces, n = faces_of(counts, target, tolerance, abstained)
    if not faces:
        return np.ones(n.shape)
    each = [_at_least(least, n, limit) for _, least, limit, _ in faces]
    return np.minimum(np.min(each, axis=0) * len(faces), 1.0)


def p_within(counts: ArrayLike, target: ArrayLike, *, tolerance: float, abstained: int = 0) -> np.ndarray:
    """Exact p-value of "some share is farther than `tolerance`": the greatest of the faces' (Berger and Hsu
    1996)."""
    faces, n = faces_of(counts, target, tolerance, abstained)
    if not faces:
        return np.zeros(n.shape)
    return np.max([_at_least(n - most, n, 1.0 - limit) for most, _, limit, _ in faces], axis=0)


def _at_least(count: np.ndarray, n: np.ndarray, share: float) -> np.ndarray:
    """P(X >= count) for X binomial(n, share)."""
    tail = betainc(np.maximum(count, 1.0), n - count + 1.0, share)
    return np.where(count <= 0, 1.0, tail)

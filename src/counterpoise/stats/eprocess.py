"""Evidence that shares differ from a target, to be looked at after every picture.

An e-process is a bet against the null: it starts at 1, and while the null holds it reaches 1/alpha at any
time at all with probability at most alpha (Ville's inequality), however often it was looked at and for
whatever reason drawing stopped. Everything is in natural logarithms, so nothing overflows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, logsumexp

from counterpoise.stats.checks import alpha_of, checked_abstained, checked_counts, checked_target
from counterpoise.stats.prior import dirichlet_components, log_dirichlet_multinomial


def log_e_target(counts: ArrayLike, target: ArrayLike) -> np.ndarray:
    """ln of the Dirichlet-multinomial e-process against "the shares are exactly `target`".

    counts [..., K]: pictures of each class so far; target [K]. Returns [...], 0 where nothing was drawn, and
    inf where a class of target 0 was seen (the null gives that probability 0). K = 2 is the beta-binomial
    test. ValueError for counts or targets that are none. Source: Lindon and Malek, NeurIPS 2022
    (arXiv:2011.03567), section 2; a mixture of such martingales is one, the prior is argued in `prior.py` and
    leaves classes of target 0 out.
    """
    c = checked_counts(counts)
    t = checked_target(target, c.shape[-1])
    possible = t > 0.0
    inside, shares = c[..., possible], t[possible]
    parts = [
        np.log(weight) + log_dirichlet_multinomial(inside, concentration)
        for weight, concentration in dirichlet_components(shares)
    ]
    log_e = np.asarray(logsumexp(parts, axis=0)) - inside @ np.log(shares)
    return np.where(c[..., ~possible].any(axis=-1), np.inf, log_e)


def log_e_path(labels: ArrayLike, target: ArrayLike) -> np.ndarray:
    """`log_e_target` after each of a sequence of labels.

    labels [..., N]: class indices 0 to K - 1 in the order drawn. Returns [..., N].
    """
    t = np.asarray(target, dtype=float)
    seen = np.asarray(labels)
    if seen.size and (seen.min() < 0 or seen.max() >= len(t)):
        raise ValueError(f"labels from {seen.min()} to {seen.max()}: expected 0 to {len(t) - 1}")
    one_hot = seen[..., None] == np.arange(len(t))
    return log_e_target(np.cumsum(one_hot, axis=-2), t)


def log_e_target_worst(counts: ArrayLike, target: ArrayLike, *, abstained: int) -> float:
    """The least evidence that any allocation of the abstained pictures to classes would leave.

    counts [K] of pictures that were read. The true classes of the abstained are one such allocation, so this
    is never more than the e-process of the truth, and valid whatever made the judge abstain. Each part of the
    mixture is at its least where pictures go, one by one, to the class that then stands lowest beside its
    target (its ln is convex in every count); the sum of the leasts bounds the sum from below.
    """
    c = checked_counts(counts)
    t = checked_target(target, c.shape[-1])
    m = checked_abstained(abstained)
    if m == 0 or c[t == 0.0].any():
        return float(log_e_target(c, t))
    inside, shares = c[t > 0.0], t[t > 0.0]
    n = inside.sum() + m
    parts = []
    for weight, a in dirichlet_components(shares):
        fixed = gammaln(a.sum()) - gammaln(a.sum() + n) - gammaln(a).sum()
        parts.append(np.log(weight) + fixed + _least(a + inside, shares, m))
    return float(logsumexp(parts) - inside @ np.log(shares))


def _least(start: np.ndarray, shares: np.ndarray, m: int) -> float:
    """min over whole moves >= 0 that sum to m of sum(gammaln(start + move) - move * ln(shares))."""
    below, above = 0.0, float((start.sum() + m + len(start)) / shares.min())
    for _ in range(200):
        level = 0.5 * (below + above)
        filled = np.maximum(np.ceil(level * shares - start), 0.0).sum() <= m
        below, above = (level, above) if filled else (below, level)
    moves = np.maximum(np.ceil(below * shares - start), 0.0)
    # Pictures that are left over stand at one level: each adds ln(level).
    rest = (m - moves.sum()) * np.log(below) if below > 0.0 else 0.0
    return float((gammaln(start + moves) - moves * np.log(shares)).sum() + rest)


def in_simplex_sequence(counts: ArrayLike, point: ArrayLike, *, confidence: float = 0.95) -> np.ndarray:
    """Whether shares `point` [K] lie in the confidence sequence for the simplex after counts [..., K].

    The set of all points that are not yet rejected holds the true shares at every time at once, with at least
    `confidence`. A point of evidence exactly 1/alpha is out. Source: Lindon and Malek, arXiv:2011.03567.
    """
    return log_e_target(counts, point) < -np.log(alpha_of(confidence))

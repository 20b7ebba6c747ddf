"""iEAT, the image embedding association test, with an exact permutation p-value where one can be counted
out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import final

import numpy as np
from numpy.typing import ArrayLike

# Splits of up to 8 and 8 pictures (12,870) are counted out.
MAX_EXACT = 20_000


@final
@dataclass(frozen=True, slots=True)
class Association:
    """effect: standardised difference, in [-2, 2] for large n. p: one-sided, for X being nearer to A than Y
    is.

    fair_effect: what |effect| is expected to be if X and Y came from one pot. splits: how many were looked
    at; exact: whether these are all. least_p: no data of this size could give less.
    """

    effect: float
    p: float
    fair_effect: float
    splits: int
    exact: bool
    least_p: float


def association_test(
    targets: tuple[ArrayLike, ArrayLike],
    attributes: tuple[ArrayLike, ArrayLike],
    *,
    rng: np.random.Generator,
    samples: int = 10_000,
) -> Association:
    """Whether embeddings X lie nearer than Y to A rather than B: targets (X, Y), attributes (A, B), each [n,
    D].

    s(w) = mean cosine to A less mean cosine to B; effect = (mean s(X) - mean s(Y)) / sd of s over both (n -
    1). p is the share of splits of both into parts of their sizes that differ by at least as much, the
    observed one included; of `samples` random splits beside it where there are more than MAX_EXACT (never 0).
    With 3 a side p is at least 1/20. ValueError for empty sides, nan, and vectors of length 0. Source: Steed
    and Caliskan, FAccT 2021 (arXiv:2010.15052), after Caliskan et al., Science 356 (2017); sampled p-values,
    Phipson and Smyth, SAGMB 9 (2010), eq. 2.
    """
    (x, y), (a, b) = (tuple(_unit(side) for side in pair) for pair in (targets, attributes))
    s = np.concatenate([x, y])
    s = (s @ a.T).mean(axis=1) - (s @ b.T).mean(axis=1)
    n, m = len(s), len(x)
    if n - m < 1 or n < 3:
        raise ValueError(f"{m} and {n - m} target embeddings: expected at least 1 a side and 3 in all")
    spread = float(s.std(ddof=1))
    total = math.comb(n, m)
    exact = total <= MAX_EXACT
    parts = np.array(
        [s[list(chosen)].mean() for chosen in _splits(n, m, exact=exact, rng=rng, samples=samples)]
    )
    differences = parts - (s.sum() - m * parts) / (n - m)
    observed = float(s[:m].mean() - s[m:].mean())
    # Sums of the same numbers in another order differ in the last place.
    reached = int((differences >= observed - 1e-12 * max(1.0, abs(observed))).sum())
    p = reached / total if exact else (reached + 1) / (samples + 1)
    fair = float(np.abs(differences).mean())
    return Association(
        effect=observed / spread if spread > 0.0 else 0.0,
        p=p,
        fair_effect=fair / spread if spread > 0.0 else 0.0,
        splits=len(parts),
        exact=exact,
        least_p=1.0 / (total if exact else samples + 1),
    )


def _splits(
    n: int, m: int, *, exact: bool, rng: np.random.Generator, samples: int
) -> Iterator[tuple[int, ...] | np.ndarray]:
    if exact:
        yield from combinations(range(n), m)
    else:
        for _ in range(samples):
            yield rng.permutation(n)[:m]


def _unit(vectors: ArrayLike) -> np.ndarray:
    array = np.asarray(vectors, dtype=float)
    if array.ndim != 2 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"embeddings of shape {array.shape}: expected [n >= 1, D] finite numbers")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError("an embedding of length 0 has no direction")
    return array / lengths

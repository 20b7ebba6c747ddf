"""Comparing pictures without naming groups: distances between their embeddings.

In: float arrays (n, dim) of any judge that can `embed`. Out: distances. What they may be called (a p-value,
an interval) is for `stats` to say. A distance knows no people: two prompts may lie apart by their
backgrounds.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.spatial.distance import cdist, pdist


class Embedder(Protocol):
    """A judge that gives each picture a place, so that like pictures lie near each other."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def embed(self, images: np.ndarray) -> np.ndarray:
        """images: uint8 (n, height, width, 3); float (n, dim)."""
        ...


def spread(pictures: np.ndarray) -> float:
    """The mean distance of two pictures of one set, (n, dim): low where a prompt draws one kind of picture.

    Unbiased for two fresh pictures at every n >= 2; nan below that.
    """
    return float(pdist(_checked(pictures)).mean()) if len(pictures) > 1 else float("nan")


def energy_distance(one: np.ndarray, other: np.ndarray) -> float:
    """How far the distributions lie apart, of which two sets (n, dim) and (m, dim) are samples.

    2 E|X - Y| - E|X - X'| - E|Y - Y'| with each mean unbiased: it is 0 on average where both are one
    distribution, so it needs no floor taken off and may come out below 0. nan where a set has fewer than two
    pictures. Source: Szekely and Rizzo, J. Statistical Planning and Inference 143 (2013) 1249-1272, eq. 5, as
    a U-statistic.
    """
    if min(len(one), len(other)) < 2:
        return float("nan")
    return 2 * float(cdist(_checked(one), _checked(other)).mean()) - spread(one) - spread(other)


def distances(pictures: np.ndarray) -> np.ndarray:
    """All pairwise distances, float (n, n): what a permutation test shuffles."""
    rows = _checked(pictures)
    table: np.ndarray = cdist(rows, rows)
    return table


def _checked(rows: np.ndarray) -> np.ndarray:
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"embeddings are {rows.shape}, or not all finite; expected finite (n, dim)")
    return rows.astype(np.float64)

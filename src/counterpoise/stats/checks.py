"""What every function of this room asks of counts, targets and levels; misuse is a ValueError."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def checked_counts(counts: ArrayLike) -> np.ndarray:
    """Counts [..., K >= 2] as whole floats; ValueError for fewer classes, fractions, negatives or nan."""
    array = np.asarray(counts, dtype=float)
    if array.ndim < 1 or array.shape[-1] < 2:
        raise ValueError(f"counts of shape {array.shape}: expected at least 2 classes in the last axis")
    if not np.isfinite(array).all() or (array < 0).any() or (array != np.floor(array)).any():
        raise ValueError(f"counts {array.tolist()}: expected whole numbers of at least 0")
    return array


def checked_target(target: ArrayLike, classes: int) -> np.ndarray:
    """Shares [K] that sum to 1 within 1e-9; ValueError otherwise."""
    t = np.asarray(target, dtype=float)
    if t.shape != (classes,):
        raise ValueError(f"target of shape {t.shape}: expected a share for each of {classes} classes")
    if not np.isfinite(t).all() or (t < 0).any() or abs(t.sum() - 1.0) > 1e-9:
        raise ValueError(f"target {t.tolist()}: expected shares of at least 0 that sum to 1")
    return t


def checked_abstained(abstained: int) -> int:
    """A count of pictures that the judge did not read; ValueError for fractions and negatives."""
    if abstained < 0 or abstained != int(abstained):
        raise ValueError(f"abstained {abstained}: expected a whole number of at least 0")
    return int(abstained)


def alpha_of(confidence: float) -> float:
    """1 - confidence; ValueError unless confidence lies in (0, 1)."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence}: expected more than 0 and less than 1")
    return 1.0 - confidence


def checked_tolerance(tolerance: float) -> float:
    """Points of a share in (0, 1); ValueError otherwise."""
    if not 0.0 < tolerance < 1.0:
        raise ValueError(f"tolerance {tolerance}: expected more than 0 and less than 1 (0.05 is five points)")
    return tolerance

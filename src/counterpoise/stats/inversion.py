"""Ends of an interval from the test it inverts, for whole arrays at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit

# Logits beyond +-40 are shares within 1e-17 of 0 or 1. 70 halvings of 80 leave 1e-19.
LOGIT_LIMIT = 40.0
HALVINGS = 70


def border(keep: Callable[[np.ndarray], np.ndarray], inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """The point between `inside`, which `keep` holds, and `outside` where it stops to, by bisection.

    Returns the last point known to be out, so an interval with these ends never misses what is kept;
    `outside` itself where that is kept too.
    """
    held, out = np.asarray(inside, dtype=float), np.asarray(outside, dtype=float)
    everything = keep(out)
    edge = out
    for _ in range(HALVINGS):
        middle = 0.5 * (held + out)
        kept = keep(middle)
        held, out = np.where(kept, middle, held), np.where(kept, out, middle)
    return np.where(everything, edge, out)


def share_border(keep: Callable[[np.ndarray], np.ndarray], inside: np.ndarray, *, upward: bool) -> np.ndarray:
    """`border` for shares, halving on the logit's scale, so that ends near 0 and 1 keep their digits."""
    with np.errstate(divide="ignore"):
        logit = np.clip(np.log(inside) - np.log1p(-np.asarray(inside)), -LOGIT_LIMIT, LOGIT_LIMIT)
    limit = np.full_like(logit, LOGIT_LIMIT if upward else -LOGIT_LIMIT)
    ends = border(lambda x: keep(expit(x)), logit, limit)
    # An end at the limit is 0 or 1 itself.
    return np.where(ends >= LOGIT_LIMIT, 1.0, np.where(ends <= -LOGIT_LIMIT, 0.0, expit(ends)))

"""A judge's errors inside the interval: from shares as read to true shares, as far as its card identifies
them.

A card [K, O] holds, for each true class, how many labelled pictures the judge read as each outcome; an
abstention is an outcome, by custom the last. With C the judge's rates and p the true shares, the judge reads
p C. Both are known within intervals; bounds are the least and the greatest share of any (p, C) that both
allow. That looks bilinear, but in Z[g, o] = p[g] C[g, o] it is a linear program, so the bounds are exact. A
judge that tells nothing leaves [0, 1]; it is never an error.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linprog
from scipy.sparse import block_array, coo_array, diags_array, eye_array, kron

from counterpoise.stats.checks import alpha_of, checked_counts
from counterpoise.stats.estimate import Estimate
from counterpoise.stats.proportions import clopper_pearson
from counterpoise.stats.sequences import share_bounds

# HiGHS meets constraints to 1e-7; ends are moved outwards by as much as that can change them.
SLACK = 1e-6
STEPS = 2000


def card_bounds(card: ArrayLike, *, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Exact intervals [K, O] that hold all of a card's rates at once; a class without labels has [0, 1].

    Clopper-Pearson with alpha shared by rows, and by their outcomes (two outcomes of a row are one rate).
    """
    c = checked_counts(card)
    if c.ndim != 2:
        raise ValueError(f"card of shape {c.shape}: expected [true classes, outcomes]")
    alpha = alpha_of(confidence) / (len(c) * (1 if c.shape[1] == 2 else c.shape[1]))
    low, high = np.zeros(c.shape), np.ones(c.shape)
    for g, o in np.ndindex(*c.shape):
        n = int(c[g].sum())
        if n:
            e = clopper_pearson(int(c[g, o]), n, confidence=1.0 - alpha)
            low[g, o], high[g, o] = e.low, e.high
    return low, high


def reading_bounds(counts: ArrayLike, *, confidence: float, anytime: bool) -> tuple[np.ndarray, np.ndarray]:
    """Intervals [O] that hold all outcomes' shares at once; anytime: at every number of pictures at once."""
    c = checked_counts(counts)
    alpha = alpha_of(confidence) / (1 if len(c) == 2 else len(c))
    n = int(c.sum())
    if anytime or not n:
        return share_bounds(c, np.full(len(c), n), alpha=alpha)
    found = [clopper_pearson(int(x), n, confidence=1.0 - alpha) for x in c]
    return np.array([e.low for e in found]), np.array([e.high for e in found])


def true_share_bounds(
    readings: tuple[np.ndarray, np.ndarray], card: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    """The least and greatest true shares [K] that intervals of readings [O] and of the card's rates [K, O]
    allow.

    None where they contradict each other: no shares read by such a judge give such readings.
    """
    k, outcomes = card[0].shape
    if readings[0].shape != (outcomes,):
        raise ValueError(
            f"{len(readings[0])} outcomes read, {outcomes} on the judge's card: expected the same, "
            "abstention included"
        )
    program = _program(readings, card)
    ends = np.zeros((2, k))
    for g in range(k):
        for end, sign in enumerate((1.0, -1.0)):
            cost = np.zeros(k + k * outcomes)
            cost[g] = sign
            answer = linprog(cost, **program)  # type: ignore[call-overload]
            if answer.status == 2:
                return None
            # A program that the solver gave up on bounds nothing.
            ends[end, g] = sign * answer.fun if answer.status == 0 else float(end)
    return np.maximum(ends[0] - SLACK, 0.0), np.minimum(ends[1] + SLACK, 1.0)


def _program(
    readings: tuple[np.ndarray, np.ndarray], card: tuple[np.ndarray, np.ndarray]
) -> dict[str, object]:
    """What p [K] and Z [K * O] (row by row) must meet, as arguments of `linprog`."""
    (seen_low, seen_high), (low, high) = readings, card
    k, outcomes = low.shape
    cells = eye_array(k * outcomes)
    of_row = kron(eye_array(k), np.ones((outcomes, 1)))
    read = [coo_array((outcomes, k)), kron(np.ones((1, k)), eye_array(outcomes))]
    limits: list[list[Any]] = [
        [-diags_array(high.ravel()) @ of_row, cells],
        [diags_array(low.ravel()) @ of_row, -cells],
        read,
        [-part for part in read],
    ]
    whole: list[Any] = [np.ones((1, k)), coo_array((1, k * outcomes))]
    sums: list[list[Any]] = [[-eye_array(k), kron(eye_array(k), np.ones((1, outcomes)))], whole]
    return {
        "A_ub": block_array(limits, format="csr"),
        "b_ub": np.concatenate([np.zeros(2 * k * outcomes), seen_high, -seen_low]),
        "A_eq": block_array(sums, format="csr"),
        "b_eq": np.append(np.zeros(k), 1.0),
        "bounds": (0.0, 1.0),
        "method": "highs",
    }


def corrected_shares(
    counts: ArrayLike, card: ArrayLike, *, confidence: float = 0.95, anytime: bool = True
) -> list[Estimate]:
    """The true shares [K] behind readings, corrected for the judge's errors, all K intervals at once.

    counts [O] of pictures read as each outcome, abstentions among them; card [K, O] of labelled pictures.
    Half of alpha goes to the readings (anytime: at any number of pictures; else at the one that was fixed)
    and half to the card, whose own number is fixed. The value is the likeliest shares at the card's rates,
    kept within the interval. Where readings and card contradict each other the value is nan, the interval [0,
    1], and the method says so: then the card was made on pictures unlike these. ValueError for outcomes that
    differ. Source: Rogan and Gladen, Am. J. Epidemiol. 107 (1978) 71-76, for two classes; region and programs
    as above.
    """
    seen, known = checked_counts(counts), checked_counts(card)
    half = 1.0 - alpha_of(confidence) / 2.0
    n = int(seen.sum())
    found = true_share_bounds(
        reading_bounds(seen, confidence=half, anytime=anytime), card_bounds(known, confidence=half)
    )
    if found is None:
        method = "readings contradict the judge's card: it was made on pictures unlike these"
        return [Estimate(math.nan, 0.0, 1.0, n, method)] * len(known)
    method = f"linear programs over the judge's card of {int(known.sum())} labels"
    values = np.clip(_likeliest(seen, known), *found)
    return [
        Estimate(float(v), float(lo), float(hi), n, method) for v, lo, hi in zip(values, *found, strict=True)
    ]


def corrected_disparity(
    first: tuple[ArrayLike, ArrayLike],
    second: tuple[ArrayLike, ArrayLike],
    *,
    confidence: float = 0.95,
    anytime: bool = True,
) -> tuple[Estimate, Estimate]:
    """Difference and ratio of two groups' true rates, each group with readings and card of its own.

    Each side is (counts [O], card [2, O]); class 0 is what the rate is of ("revealing", then "not"). A judge
    with unequal errors makes a disparity where there is none; these bounds allow for it. Half of alpha a
    side.
    """
    half = 1.0 - alpha_of(confidence) / 2.0
    top, bottom = (
        corrected_shares(counts, card, confidence=half, anytime=anytime)[0]
        for counts, card in (first, second)
    )
    n = top.n + bottom.n
    difference = Estimate(
        top.value - bottom.value, top.low - bottom.high, top.high - bottom.low, n, f"difference, {top.method}"
    )
    ratio = Estimate(
        _over(top.value, bottom.value),
        top.low / bottom.high,
        _most(top.high, bottom.low),
        n,
        f"ratio, {top.method}",
    )
    return difference, ratio


def _over(top: float, bottom: float) -> float:
    if bottom > 0.0:
        return top / bottom
    return math.inf if top > 0.0 else math.nan


def _most(top: float, bottom: float) -> float:
    return top / bottom if bottom > 0.0 else math.inf


def _likeliest(seen: np.ndarray, card: np.ndarray) -> np.ndarray:
    """Maximum likelihood shares at the card's own rates, by EM; a class without labels reads evenly."""
    totals = card.sum(axis=1, keepdims=True)
    rates = np.where(totals > 0, card / np.maximum(totals, 1.0), 1.0 / card.shape[1])
    shares = np.full(len(card), 1.0 / len(card))
    if not seen.sum():
        return shares
    # An outcome that the card never saw tells nothing.
    weights = np.where(rates.sum(axis=0) > 0.0, seen, 0.0)
    for _ in range(STEPS):
        mixed = shares @ rates
        pull = rates @ np.divide(weights, mixed, out=np.zeros_like(mixed), where=mixed > 0.0)
        shares = shares * pull
        total = shares.sum()
        shares = shares / total if total > 0.0 else np.full(len(card), 1.0 / len(card))
    return shares

"""Evidence from one-sided questions ("faces"): is some limit passed, are all of them kept?

Each face has an e-process against "not passed" and one against "passed or met". Biased is the mean over the
faces of the first kind (each is valid while nothing is passed), fair the least of the second
(intersection-union: while something is passed, at least that face's is valid). What was not read counts
against every claim: a face gets the table that leaves it the least evidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from counterpoise.audit.answers.seen import UNDRAWN, UNREAD, looks
from counterpoise.stats import Pairs
from counterpoise.stats.betting import log_wealth_above
from counterpoise.stats.tolerance import log_e_above

DIFFERENCE = np.array([0.0, 1.0, -1.0, 0.0])  # of both, first only, second only, neither


def mean_of(logs: Sequence[np.ndarray]) -> np.ndarray:
    """ln of the mean of e-values, given as logarithms; -inf of none."""
    if not logs:
        return np.asarray(-math.inf)
    return np.asarray(logsumexp(np.stack(logs), axis=0)) - math.log(len(logs))


def outside(counts: np.ndarray, unread: np.ndarray, target: Sequence[float], tolerance: float) -> np.ndarray:
    """`stats.log_e_outside` where the number of unread pictures differs: counts [P, K], unread [P]."""
    n = counts.sum(axis=-1) + unread
    faces = []
    for k in range(1 if len(target) == 2 else len(target)):
        if target[k] + tolerance < 1.0:
            faces.append(log_e_above(counts[:, k], n, target[k] + tolerance))
        if target[k] - tolerance > 0.0:
            faces.append(log_e_above(n - counts[:, k] - unread, n, 1.0 - target[k] + tolerance))
    return mean_of(faces) if faces else np.full(n.shape, -np.inf)


def pair_tables(
    first: np.ndarray, second: np.ndarray, events: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of seeds that both have, at looks: n [P], and tables [P, V, 4] with the unread read two ways.

    events: V lists of codes. The first table has every unread picture against the first arm's having more,
    the second all for it; whatever they showed lies between (finer than `stats.with_missing`, which does not
    know which of the two was unread).
    """
    shared = (first != UNDRAWN) & (second != UNDRAWN)
    a, b = first[shared], second[shared]
    at = looks(len(a))
    shows_a, shows_b = _shows(a, events), _shows(b, events)
    lost_a, lost_b = (a == UNREAD)[:, None], (b == UNREAD)[:, None]
    return at, _tables(shows_a, shows_b | lost_b, at), _tables(shows_a | lost_a, shows_b, at)


def read_pairs(first: np.ndarray, second: np.ndarray, event: Sequence[int]) -> Pairs:
    """The pairs of which both were read."""
    read = (first >= 0) & (second >= 0)
    a, b = np.isin(first[read], event), np.isin(second[read], event)
    return Pairs(int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum()))


def _shows(codes: np.ndarray, events: Sequence[Sequence[int]]) -> np.ndarray:
    if all(len(event) == 1 for event in events):
        return np.asarray(codes[:, None] == np.array([event[0] for event in events]))
    return np.stack([np.isin(codes, event) for event in events], axis=1)


def _tables(a: np.ndarray, b: np.ndarray, at: np.ndarray) -> np.ndarray:
    cells = np.stack([a & b, a & ~b, ~a & b, ~a & ~b], axis=-1)
    return np.asarray(cells.cumsum(axis=0)[at - 1])


def differences(low: np.ndarray, high: np.ndarray, limit: float | None) -> tuple[np.ndarray, float]:
    """(ln e_biased at each look [P], ln e_fair) of "no rate differs by more than limit"; None: by anything.

    low, high: tables [P, V, 4] of `pair_tables`. Two values are one rate and its rest.
    """
    d = 0.0 if limit is None else limit
    if low.shape[1] == 2:
        low, high = low[:, :1], high[:, :1]
    more = log_wealth_above(DIFFERENCE - d, low, least=-1.0 - d)
    less = log_wealth_above(-DIFFERENCE - d, high, least=-1.0 - d)
    biased = mean_of([*more.T, *less.T])
    if limit is None:
        return biased, -math.inf
    kept = [
        log_wealth_above(d - DIFFERENCE, high[-1], least=d - 1.0),
        log_wealth_above(d + DIFFERENCE, low[-1], least=d - 1.0),
    ]
    return biased, float(np.min(kept))


def ratios(low: np.ndarray, high: np.ndarray, most: float) -> tuple[np.ndarray, float]:
    """(ln e_biased at each look [P], ln e_fair) of "neither rate is more than `most` times the other".

    Tables [P, 1, 4]. Where the event is never seen there is no evidence: 0 is any multiple of 0.
    """
    up, down = np.array([1.0 - most, 1.0, -most, 0.0]), np.array([1.0 - most, -most, 1.0, 0.0])
    over = log_wealth_above(up, low[:, 0], least=-most)
    under = log_wealth_above(down, high[:, 0], least=-most)
    kept = [
        log_wealth_above(-up, high[-1, 0], least=-1.0),
        log_wealth_above(-down, low[-1, 0], least=-1.0),
    ]
    return mean_of([over, under]), float(np.min(kept))


def clusters(
    low: np.ndarray, high: np.ndarray, limit: float, *, span: tuple[np.ndarray, np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Every face's ln e against "kept", and against "passed", of means over prompts (numbers [J, V]).

    low, high: each prompt's number with the unread read two ways; span: the least and the greatest
    possible, [V] each. A mean is kept if it lies within limit of 0.
    """
    each = np.ones(len(low))
    passed, kept = [], []
    for v in range(low.shape[1]):
        least, most = float(span[0][v]), float(span[1][v])
        sides = ((low[:, v], high[:, v], least, most), (-high[:, v], -low[:, v], -most, -least))
        for worst, best, bottom, top in sides:
            if top <= limit:
                continue
            if bottom < limit:
                passed.append(log_wealth_above(worst - limit, each, least=bottom - limit))
            else:
                # Nothing can make up for a number above the limit: one is proof.
                passed.append(np.asarray(math.inf if (worst > limit).any() else 0.0))
            kept.append(log_wealth_above(limit - best, each, least=limit - top))
    return passed, kept

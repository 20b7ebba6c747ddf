"""How many pictures a claim will need, by simulating models of assumed shares; the generator is passed in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from counterpoise.stats.checks import alpha_of, checked_target
from counterpoise.stats.eprocess import log_e_target
from counterpoise.stats.fixed import p_outside, p_target, p_within
from counterpoise.stats.tolerance import log_e_outside, log_e_within

# Counts of one chunk of runs: 4 million floats of 8 bytes.
CHUNK = 4_000_000


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """What to expect if the true shares are as assumed.

    biased, fair: shares of runs that end in that verdict by `cap` pictures. median, ninetieth: pictures after
    which half and nine tenths of the runs are decided, None past the cap. fixed: the n, fixed beforehand, at
    which nine tenths of the runs are decided in the usual way (chi-square; exact binomial limits with a
    tolerance) the same way as most sequential ones; None past four times the cap. runs: how many were
    simulated.
    """

    biased: float
    fair: float
    median: int | None
    ninetieth: int | None
    fixed: int | None
    cap: int
    runs: int


def plan(
    shares: Sequence[float],
    target: Sequence[float],
    *,
    rng: np.random.Generator,
    tolerance: float | None = None,
    confidence: float = 0.95,
    cap: int = 2000,
    runs: int = 400,
    every: int = 1,
) -> Plan:
    """Simulate audits of a model that draws with `shares`, looked at every `every` pictures, up to `cap`.

    Decided means the verdict of `verdict`: biased, or fair within tolerance. Ask with shares off the target
    for how soon bias is shown, and with shares on it for how soon fairness is certified (only with a
    tolerance). For a panel under `panel_decisions`, a confidence of 1 - rate / number of claims is on the
    safe side. ValueError for shares, targets or tolerances that are none.
    """
    t = checked_target(target, len(target))
    p = checked_target(shares, len(t))
    if cap < 1 or runs < 1 or not 1 <= every <= cap:
        raise ValueError(f"cap {cap}, runs {runs}, every {every}: expected at least 1, and every at most cap")
    needed = -math.log(alpha_of(confidence))
    stops, fairs = [], []
    for counts, looks in _paths(p, (runs, cap, every), rng):
        biased, fair = _evidence(counts, t, tolerance)
        settled = (biased >= needed) | (fair >= needed)
        first = settled.argmax(axis=1)
        ends = np.where(settled.any(axis=1), looks[first], cap + 1)
        stops.append(ends)
        fairs.append(np.take_along_axis(fair, first[:, None], axis=1)[:, 0] >= needed)
    stop, is_fair = np.concatenate(stops), np.concatenate(fairs)
    decided = stop <= cap
    biased_share, fair_share = float((decided & ~is_fair).mean()), float((decided & is_fair).mean())
    return Plan(
        biased=biased_share,
        fair=fair_share,
        median=_quantile(stop, 0.5, cap),
        ninetieth=_quantile(stop, 0.9, cap),
        fixed=_fixed(
            p,
            t,
            rng=rng,
            decided=_fixed_rule(t, tolerance, 1.0 - confidence, fair_share > biased_share),
            cap=4 * cap,
        ),
        cap=cap,
        runs=runs,
    )


def _paths(
    p: np.ndarray, size: tuple[int, int, int], rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Counts [runs, looks, K] and how many pictures each look sees [looks], a chunk of runs at a time."""
    runs, cap, every = size
    looks = np.append(np.arange(every, cap, every), cap)
    steps = np.diff(looks, prepend=0)
    chunk = max(1, CHUNK // (len(looks) * len(p)))
    for start in range(0, runs, chunk):
        several = min(chunk, runs - start)
        yield rng.multinomial(np.broadcast_to(steps, (several, len(looks))), p).cumsum(axis=1), looks


def _evidence(counts: np.ndarray, t: np.ndarray, tolerance: float | None) -> tuple[np.ndarray, np.ndarray]:
    if tolerance is None:
        biased = log_e_target(counts, t)
        return biased, np.full(biased.shape, -np.inf)
    return log_e_outside(counts, t, tolerance=tolerance), log_e_within(counts, t, tolerance=tolerance)


def _fixed_rule(
    t: np.ndarray, tolerance: float | None, alpha: float, fair: bool
) -> Callable[[np.ndarray], np.ndarray]:
    """Which of counts [runs, K] a fixed-n design decides."""
    if tolerance is None:
        possible = t > 0.0

        def rejected(counts: np.ndarray) -> np.ndarray:
            seen = np.asarray(counts[:, ~possible].any(axis=1))
            if possible.sum() < 2:
                return seen
            return np.logical_or(seen, p_target(counts[:, possible], t[possible]) <= alpha)

        return rejected
    if fair:
        return lambda counts: p_within(counts, t, tolerance=tolerance) <= alpha
    return lambda counts: p_outside(counts, t, tolerance=tolerance) <= alpha


def _fixed(
    p: np.ndarray,
    t: np.ndarray,
    *,
    rng: np.random.Generator,
    decided: Callable[[np.ndarray], np.ndarray],
    cap: int,
) -> int | None:
    """The least n (by halving; power rises but for small teeth) at which nine tenths of 2,000 runs are
    decided."""

    def enough(n: int) -> bool:
        return bool(decided(rng.multinomial(n, p, size=2000)).mean() >= 0.9)

    if not enough(cap):
        return None
    low, high = 0, cap
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _quantile(stop: np.ndarray, share: float, cap: int) -> int | None:
    value = int(np.sort(stop)[math.ceil(share * len(stop)) - 1])
    return value if value <= cap else None

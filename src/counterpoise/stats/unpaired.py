"""Two arms on seeds of their own: the difference and the ratio of their rates, at any stopping time.

The arms may grow at different paces. Each of the two binomials has its own beta-binomial evidence; their
product against the best pair of rates that the null allows is an e-process. Counts are (count, n) a side,
which may be arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlog1py, xlogy

from counterpoise.stats.betting import convex_interval
from counterpoise.stats.checks import alpha_of
from counterpoise.stats.estimate import Estimate
from counterpoise.stats.prior import beta_components, log_beta_mixture

Side = tuple[ArrayLike, ArrayLike]
HALVINGS = 60


def log_e_difference(first: Side, second: Side, difference: ArrayLike = 0.0) -> np.ndarray:
    """ln of the e-process against "first rate - second rate = difference", for arrays; |difference| < 1.

    With 0 it tests that both rates are equal. Source: universal inference with a mixture, Wasserman, Ramdas
    and Balakrishnan, PNAS 117 (2020) 16880-16890, section 8.
    """
    d = np.asarray(difference, dtype=float)
    return _log_e(first, second, lambda rate: rate + d, (np.maximum(-d, 0.0), np.minimum(1.0 - d, 1.0)))


def log_e_ratio(first: Side, second: Side, ratio: ArrayLike = 1.0) -> np.ndarray:
    """ln of the e-process against "first rate = ratio * second rate", for arrays; 0 < ratio < inf."""
    r = np.asarray(ratio, dtype=float)
    return _log_e(first, second, lambda rate: rate * r, (np.zeros_like(r), np.minimum(1.0 / r, 1.0)))


def rate_difference(first: tuple[int, int], second: tuple[int, int], *, confidence: float = 0.95) -> Estimate:
    """The first rate less the second, in [-1, 1], with its confidence sequence; n is that of both sides.

    A side of n = 0 leaves the value nan. ValueError for counts that are none.
    """
    _check(first, second)
    alpha = alpha_of(confidence)
    rates = [count / n if n else math.nan for count, n in (first, second)]
    value = rates[0] - rates[1]
    middle = value if math.isfinite(value) else _rate_or_half(first) - _rate_or_half(second)

    def log_e(difference: float) -> float:
        if abs(difference) >= 1.0:
            return _at_end(first, second, difference)
        return float(log_e_difference(first, second, difference))

    low, high = convex_interval(log_e, middle, (-1.0, 1.0), alpha)
    return Estimate(value, low, high, first[1] + second[1], "confidence sequence of a difference of rates")


def rate_ratio(first: tuple[int, int], second: tuple[int, int], *, confidence: float = 0.95) -> Estimate:
    """The first rate over the second, with its confidence sequence: `risk_ratio` for any stopping time.

    nan for 0 over 0 or a side of n = 0, inf over 0; high is inf while no limit is set.
    """
    _check(first, second)
    alpha = alpha_of(confidence)
    top, bottom = (count / n if n else math.nan for count, n in (first, second))
    value = top / bottom if bottom else (math.inf if top > 0 else math.nan)
    method = "confidence sequence of a ratio of rates"
    n = first[1] + second[1]
    if math.isnan(value):
        guess = _rate_or_half(first) / _rate_or_half(second) if first[0] + second[0] else math.nan
        if math.isnan(guess):
            return Estimate(math.nan, 0.0, math.inf, n, method)
    else:
        guess = value

    def log_e(log_ratio: float) -> float:
        return float(log_e_ratio(first, second, math.exp(log_ratio)))

    middle = math.log(guess) if 0.0 < guess < math.inf else math.copysign(40.0, guess - 1.0)
    low, high = convex_interval(log_e, middle, (-40.0, 40.0), alpha)
    return Estimate(
        value, math.exp(low) if low > -40.0 else 0.0, math.exp(high) if high < 40.0 else math.inf, n, method
    )


def _log_e(
    first: Side,
    second: Side,
    rate_of: Callable[[np.ndarray], np.ndarray],
    span: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Mixture evidence of both sides against the best second rate in `span`; the first follows by
    `rate_of`."""
    x1, n1, x2, n2 = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (*first, *second)))
    evidence = log_beta_mixture(x1, n1, beta_components(None)) + log_beta_mixture(
        x2, n2, beta_components(None)
    )

    def log_likelihood(rate: np.ndarray) -> np.ndarray:
        p1, p2 = np.clip(rate_of(rate), 0.0, 1.0), np.clip(rate, 0.0, 1.0)
        return xlogy(x1, p1) + xlog1py(n1 - x1, -p1) + xlogy(x2, p2) + xlog1py(n2 - x2, -p2)

    # Golden sections: the log likelihood is concave along the line.
    low, high = (np.broadcast_to(end, np.broadcast(x1, end).shape).astype(float) for end in span)
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    for _ in range(HALVINGS):
        a, b = high - golden * (high - low), low + golden * (high - low)
        left = log_likelihood(a) >= log_likelihood(b)
        low, high = np.where(left, low, a), np.where(left, b, high)
    best = np.maximum(
        log_likelihood(0.5 * (low + high)), np.maximum(log_likelihood(low), log_likelihood(high))
    )
    return evidence - best


def _rate_or_half(side: tuple[int, int]) -> float:
    return side[0] / side[1] if side[1] else 0.5


def _at_end(first: tuple[int, int], second: tuple[int, int], difference: float) -> float:
    """Against a difference of -1 or 1, which one pair of rates makes: all of one side and none of the
    other."""
    (x1, n1), (x2, n2) = (first, second) if difference > 0 else (second, first)
    if x1 < n1 or x2 > 0:
        return math.inf
    counts = np.array([[x1, n1], [x2, n2]], dtype=float)
    return float(log_beta_mixture(counts[:, 0], counts[:, 1], beta_components(None)).sum())


def _check(first: tuple[int, int], second: tuple[int, int]) -> None:
    for count, n in (first, second):
        if n < 0 or not 0 <= count <= n:
            raise ValueError(f"count {count} of {n}: expected 0 <= count <= n")

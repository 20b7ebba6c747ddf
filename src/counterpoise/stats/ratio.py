"""The ratio of two rates, with an interval that behaves at zero counts."""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import ndtri

from counterpoise.stats.estimate import Estimate

# Ratios beyond e**+-40 are 0 or infinity for any count that fits a machine.
_LOG_LIMIT = 40.0


def risk_ratio(first: tuple[int, int], second: tuple[int, int], *, confidence: float = 0.95) -> Estimate:
    """The ratio of two independent binomial rates, (count, n) over (count, n), with Koopman's interval.

    The interval holds every ratio that the score test does not reject, so it needs no added halves: with a
    count of 0 on top low is 0, with 0 below high is inf, with 0 in both it is [0, inf] and the value nan.
    It is asymptotic but close to nominal from small n on (Katz' log interval is undefined at zeros).
    n >= 1 and 0 <= count <= n; ValueError otherwise. `Estimate.n` is the sum of both.
    Source: Koopman, Biometrics 40 (1984) 513-517; the constrained maximum in closed form,
    Miettinen and Nurminen, Statistics in Medicine 4 (1985), appendix.
    """
    for count, n in (first, second):
        if n < 1 or not 0 <= count <= n:
            raise ValueError(f"count {count} of {n}: expected 0 <= count <= n and n >= 1")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence}: expected more than 0 and less than 1")
    z = float(ndtri(1.0 - (1.0 - confidence) / 2.0))
    top, bottom = first[0] / first[1], second[0] / second[1]
    value = top / bottom if bottom else (math.inf if top else math.nan)
    low = 0.0 if first[0] == 0 else _crossing(first, second, z)
    high = math.inf if second[0] == 0 else _crossing(first, second, -z)
    return Estimate(value, low, high, first[1] + second[1], "Koopman score interval of a ratio of rates")


def _crossing(first: tuple[int, int], second: tuple[int, int], z: float) -> float:
    """The ratio at which the score statistic, which falls as the ratio rises, equals z."""

    def excess(log_ratio: float) -> float:
        return _score(first, second, math.exp(log_ratio)) - z

    return math.exp(brentq(excess, -_LOG_LIMIT, _LOG_LIMIT, xtol=1e-12))


def _score(first: tuple[int, int], second: tuple[int, int], ratio: float) -> float:
    """The standardised difference p1 - ratio * p2 under the best rates with exactly that ratio."""
    (x1, n1), (x2, n2) = first, second
    a = (n1 + n2) * ratio
    b = n1 * ratio + x1 + n2 + x2 * ratio
    # The smaller root, written so that it does not cancel: 2c / (b + sqrt(b^2 - 4ac)).
    p2 = 2.0 * (x1 + x2) / (b + math.sqrt(max(b * b - 4.0 * a * (x1 + x2), 0.0)))
    p1 = ratio * p2
    difference = x1 / n1 - ratio * x2 / n2
    variance = p1 * max(1.0 - p1, 0.0) / n1 + ratio * ratio * p2 * max(1.0 - p2, 0.0) / n2
    if variance <= 0.0:
        return 0.0 if difference == 0.0 else math.copysign(math.inf, difference)
    return difference / math.sqrt(variance)

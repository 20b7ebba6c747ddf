"""Two arms on shared seeds: how often one shows something and the other does not.

Pairs come as counts (both, first only, second only, neither). Everything holds at any stopping time. A
picture that was not read makes its pair missing; `with_missing` gives the two tables that bound what it may
have held.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from counterpoise.stats.betting import convex_interval, log_wealth, log_wealth_above
from counterpoise.stats.checks import alpha_of
from counterpoise.stats.estimate import Estimate


class Pairs(NamedTuple):
    """Pairs of pictures of one seed, by which of the two arms shows what is asked for."""

    both: int
    first_only: int
    second_only: int
    neither: int


def log_e_paired(first_only: ArrayLike, second_only: ArrayLike, *, sided: bool = False) -> np.ndarray:
    """ln of the McNemar-type e-process against "both arms show it equally often", for arrays of counts.

    Only discordant pairs count: under the null each is either way with probability 1/2. sided: against "the
    first shows it at most as often". Source: McNemar, Psychometrika 12 (1947), as a bet (see `betting.py`).
    """
    counts = np.stack(
        np.broadcast_arrays(np.asarray(first_only, float), np.asarray(second_only, float)), axis=-1
    )
    deviations = np.array([1.0, -1.0])
    if sided:
        return log_wealth_above(deviations, counts, least=-1.0)
    return log_wealth(deviations, counts, span=(-1.0, 1.0))


def log_e_paired_difference(pairs: ArrayLike, difference: float) -> np.ndarray:
    """ln of the e-process against "first rate - second rate = difference", pairs [..., 4], |difference| <
    1."""
    values = np.array([0.0, 1.0, -1.0, 0.0]) - difference
    return log_wealth(values, pairs, span=(-1.0 - difference, 1.0 - difference))


def log_e_paired_ratio(pairs: ArrayLike, ratio: float) -> np.ndarray:
    """ln of the e-process against "first rate = ratio * second rate", pairs [..., 4], 0 < ratio < inf.

    first - ratio * second has mean 0 under it; how often both or neither show it does not matter to that.
    """
    values = np.array([1.0 - ratio, 1.0, -ratio, 0.0])
    return log_wealth(values, pairs, span=(-ratio, 1.0))


def paired_difference(pairs: Pairs, *, confidence: float = 0.95) -> Estimate:
    """The first arm's rate less the second's, in [-1, 1], with its confidence sequence; n pairs.

    It excludes 0 exactly when `log_e_paired` has reached ln(1/alpha). ValueError for counts that are none.
    """
    n = _checked(pairs)
    alpha = alpha_of(confidence)
    method = "betting confidence sequence of a paired difference"
    if not n:
        return Estimate(math.nan, -1.0, 1.0, 0, method)
    value = (pairs.first_only - pairs.second_only) / n

    def log_e(difference: float) -> float:
        if abs(difference) >= 1.0:
            return 0.0 if value == difference else math.inf
        return float(log_e_paired_difference(pairs, difference))

    low, high = convex_interval(log_e, value, (-1.0, 1.0), alpha)
    return Estimate(value, low, high, n, method)


def paired_ratio(pairs: Pairs, *, confidence: float = 0.95) -> Estimate:
    """The first arm's rate over the second's, with its confidence sequence; n pairs.

    nan where neither arm showed it, inf over 0; high is inf while no limit is set. ValueError as above.
    """
    n = _checked(pairs)
    alpha = alpha_of(confidence)
    method = "betting confidence sequence of a paired ratio"
    first, second = pairs.both + pairs.first_only, pairs.both + pairs.second_only
    value = first / second if second else (math.inf if first else math.nan)
    if not first + second:
        return Estimate(math.nan, 0.0, math.inf, n, method)

    def log_e(log_ratio: float) -> float:
        return float(log_e_paired_ratio(pairs, math.exp(log_ratio)))

    # Ratios beyond e**+-40 are 0 or infinity for any count that fits a machine.
    middle = math.log(value) if 0.0 < value < math.inf else math.copysign(40.0, value - 1.0)
    low, high = convex_interval(log_e, middle, (-40.0, 40.0), alpha)
    return Estimate(
        value, math.exp(low) if low > -40.0 else 0.0, math.exp(high) if high < 40.0 else math.inf, n, method
    )


def with_missing(pairs: Pairs, *, missing: int) -> tuple[Pairs, Pairs]:
    """`pairs` with the unread ones all against, and all for, the first arm's having more.

    A difference or ratio that lies between the first table's low and the second's high holds however the
    missing would have been read.
    """
    if missing < 0:
        raise ValueError(f"missing {missing}: expected at least 0")
    return (
        pairs._replace(second_only=pairs.second_only + missing),
        pairs._replace(first_only=pairs.first_only + missing),
    )


def _checked(pairs: Pairs) -> int:
    if len(pairs) != 4 or any(count < 0 or count != int(count) for count in pairs):
        raise ValueError(f"pairs {tuple(pairs)}: expected four whole numbers of at least 0")
    return int(sum(pairs))

"""The noun of this room: a number with its interval, the count behind it, and how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval.

    value: the point estimate (nan where the data do not define one, as in 0/0). low, high: the ends of the
    interval; high may be inf where the data set no upper limit. n: the units it rests on. method: in words.
    """

    value: float
    low: float
    high: float
    n: int
    method: str

"""Estimates with intervals; numpy and scipy only, every function with its source.

Counts and shares come in, `Estimate`s and plain floats go out. Misuse is a ValueError: what users wrote has
been checked before it gets here.
"""

from .distance import fair_floor, floor_corrected, total_variation, total_variation_bounds
from .estimate import Estimate
from .proportions import clopper_pearson, multinomial_intervals
from .ratio import risk_ratio

__all__ = [
    "Estimate",
    "clopper_pearson",
    "fair_floor",
    "floor_corrected",
    "multinomial_intervals",
    "risk_ratio",
    "total_variation",
    "total_variation_bounds",
]

"""What a composition method hands back for a layer; the truncation to a rank is done for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from counterpoise.lora.algebra.core import Spectrum
from counterpoise.lora.lowrank import LowRank


@final
@dataclass(frozen=True, eq=False)
class Solved:
    """A finished update whose method truncates by itself, with the error in the method's own measure."""

    update: LowRank
    error: float
    norm: float


Result = Spectrum | Tensor | Solved
"""A low-rank target, a dense one [out, in] float64, or a finished update."""

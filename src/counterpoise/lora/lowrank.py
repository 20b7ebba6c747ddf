"""One layer's low-rank update, Delta W = (alpha / rank) up @ down."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from counterpoise.errors import UsageError

FACTOR_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def is_finite_number(value: object) -> bool:
    """Whether `value` is a real number that a float can hold (True and False are none)."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int of hundreds of digits
        return False


def shape_fault(down: tuple[int, ...], up: tuple[int, ...]) -> tuple[str, str] | None:
    """The (code, reason) why factors of these shapes are no low-rank pair, or None where they are one."""
    if len(down) not in (2, 3, 4, 5) or len(up) != len(down):
        reason = f"down is {list(down)} and up {list(up)}: expected both 2-D (Linear) or 3-D to 5-D (Conv)"
        return "E_SHAPE", reason
    if down[0] < 1 or up[1] < 1:
        return "E_RANK", f"the rank is {down[0]} in down and {up[1]} in up: expected 1 or more"
    if down[0] != up[1]:
        return "E_RANK", f"down {list(down)} has rank {down[0]} but up {list(up)} has rank {up[1]}"
    if 0 in down or 0 in up:
        return "E_SHAPE", f"down is {list(down)} and up {list(up)}: no side may be 0"
    if any(size != 1 for size in up[2:]):
        return "E_SHAPE", f"up is {list(up)}: a convolution's update needs [out, rank, 1, ...]"
    return None


def finite_fault(role: str, tensor: Tensor) -> str | None:
    """How many values of `tensor` are NaN or infinite, in words, or None."""
    bad = int(torch.count_nonzero(~torch.isfinite(tensor)))
    return f"{role} has {bad} of {tensor.numel()} values NaN or infinite" if bad else None


@final
@dataclass(frozen=True, eq=False)
class LowRank:
    """A layer's update as factors (arXiv:2106.09685, section 4.1).

    Linear: `down` [rank, in], `up` [out, rank]. Conv2d: `down` [rank, in / groups, kh, kw], `up`
    [out, rank, 1, 1]. Floating point, finite, rank >= 1; else UsageError E_SHAPE, E_RANK, E_DTYPE or
    E_NONFINITE. Equality is bit for bit, dtype included.
    """

    down: Tensor
    up: Tensor
    alpha: float

    def __post_init__(self) -> None:
        fault = self.fault()
        if fault is not None:
            raise UsageError(f"low-rank update: {fault[1]}", code=fault[0])
        object.__setattr__(self, "alpha", float(self.alpha))

    def fault(self) -> tuple[str, str] | None:
        """The (code, reason) why this is not a sound update, or None; costs one pass over the factors."""
        for role, tensor in (("down", self.down), ("up", self.up)):
            if not isinstance(tensor, Tensor) or tensor.dtype not in FACTOR_DTYPES:
                kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
                return "E_DTYPE", f"{role} is {kind}: expected a float64, float32, float16 or bfloat16 tensor"
        wrong = shape_fault(tuple(self.down.shape), tuple(self.up.shape))
        if wrong is not None:
            return wrong
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, int | float):
            return "E_ALPHA", f"alpha is {self.alpha!r}: expected a number"
        if not is_finite_number(self.alpha):
            return "E_NONFINITE", f"alpha is {str(self.alpha)[:40]}: expected a finite number"
        for role, tensor in (("down", self.down), ("up", self.up)):
            infinite = finite_fault(role, tensor)
            if infinite is not None:
                return "E_NONFINITE", infinite
        return None

    @property
    def rank(self) -> int:
        """The number of rows of `down`."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the weight that this updates."""
        return (self.up.shape[0], *self.down.shape[1:])

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Delta W in the weight's shape, computed and returned in `dtype` (float32 or float64)."""
        if dtype not in (torch.float32, torch.float64):
            raise UsageError(f"dense() computes in float32 or float64, not {dtype}", code="E_DTYPE")
        return product(self.down.detach().to(dtype), self.up.detach().to(dtype)) * self.scale

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LowRank):
            return NotImplemented
        return (
            self.alpha == other.alpha
            and self.down.dtype == other.down.dtype
            and self.up.dtype == other.up.dtype
            and torch.equal(self.down, other.down)
            and torch.equal(self.up, other.up)
        )

    __hash__ = None  # type: ignore[assignment]


def product(down: Tensor, up: Tensor) -> Tensor:
    """up @ down in the weight's shape, never in a narrower type: an autocast around the call is ignored."""
    with torch.autocast(down.device.type, enabled=False):
        return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])

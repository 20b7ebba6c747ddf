"""One layer's low-rank update, Delta W = (alpha / rank) up @ down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.lora.update import (
    FACTOR_DTYPES,
    Approximation,
    Factored,
    Fault,
    Shape,
    Shapes,
    check_dense_dtype,
    finite_fault,
    full_precision,
    is_finite_number,
    uncast,
    wide,
)

__all__ = ["FACTOR_DTYPES", "LowRank", "finite_fault", "is_finite_number", "product", "shape_fault"]

_LAYER_OF_DIMENSIONS = {2: "Linear", 3: "Conv1d", 4: "Conv2d", 5: "Conv3d"}


def shape_fault(down: Shape, up: Shape) -> Fault | None:
    """The (code, reason) why factors of these shapes are no low-rank pair, or None where they are one."""
    if len(down) not in _LAYER_OF_DIMENSIONS or len(up) != len(down):
        expected = "expected both 2-D (Linear, Embedding) or both 3-D to 5-D (Conv1d to Conv3d)"
        return "E_SHAPE", f"down is {list(down)} and up {list(up)}: {expected}"
    if down[0] < 1 or up[1] < 1:
        return "E_RANK", f"the rank is {down[0]} in down and {up[1]} in up: expected 1 or more"
    if down[0] != up[1]:
        return "E_RANK", f"down {list(down)} has rank {down[0]} but up {list(up)} has rank {up[1]}"
    if 0 in down or 0 in up:
        return "E_SHAPE", f"down is {list(down)} and up {list(up)}: no side may be 0"
    if set(up[2:]) - {1}:
        layer, ones = _LAYER_OF_DIMENSIONS[len(up)], ", 1" * (len(up) - 2)
        return "E_SHAPE", f"up is {list(up)}: a {layer} update needs [out, rank{ones}]"
    return None


@final
@dataclass(frozen=True, eq=False)
class LowRank(Factored):
    """A layer's update as factors (arXiv:2106.09685, section 4.1).

    Linear: `down` [rank, in], `up` [out, rank]; an Embedding's weight [number, width] likewise. Conv1d to
    Conv3d: `down` [rank, in / groups, *kernel], `up` [out, rank, 1, ...]. Floating point, finite, rank >= 1;
    else UsageError E_SHAPE, E_RANK, E_DTYPE or E_NONFINITE. Equality is bit for bit, dtype included.
    """

    kind: ClassVar[str] = "LoRA"

    down: Tensor
    up: Tensor
    alpha: float

    def tensors(self) -> dict[str, Tensor]:
        """down and up."""
        return {"down": self.down, "up": self.up}

    @staticmethod
    def shapes_fault(shapes: Shapes) -> Fault | None:
        """See `shape_fault`."""
        return shape_fault(shapes["down"], shapes["up"])

    @staticmethod
    def rank_of(shapes: Shapes) -> int:
        """The number of rows of `down`."""
        return shapes["down"][0]

    @staticmethod
    def weight_of(shapes: Shapes) -> Shape:
        """[out, in, *kernel]."""
        return (shapes["up"][0], *shapes["down"][1:])

    def dense(self, dtype: torch.dtype = torch.float32, *, base: Tensor | None = None) -> Tensor:
        """Delta W in the weight's shape, computed and returned in `dtype` (float32 or float64)."""
        check_dense_dtype(dtype)
        return product(self.down.detach().to(dtype), self.up.detach().to(dtype)) * self.scale

    def low_rank(self, rank: int | None = None, *, base: Tensor | None = None) -> Approximation:
        """This update itself, or the best of a smaller `rank`."""
        if rank is None or rank >= self.rank:
            return Approximation(self, 0.0)
        return truncated(self, rank)


def product(down: Tensor, up: Tensor) -> Tensor:
    """up @ down in the weight's shape, never in a narrower type: an autocast around the call is ignored."""
    with uncast(down):
        return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])


def truncated(update: LowRank, rank: int) -> Approximation:
    """The update of `rank` nearest to `update` in Frobenius norm (Eckart-Young), never dense.

    QR of both factors, then the SVD of the small core, in float64. UsageError E_RANK if `rank` < 1.
    """
    check_rank(rank)
    with full_precision(update.down):
        left, core_left = torch.linalg.qr(update.up.detach().double().flatten(1))
        right, core_right = torch.linalg.qr(update.down.detach().double().flatten(1).T)
        u, s, vh = torch.linalg.svd(core_left @ core_right.T)
        root = s[:rank].sqrt()
        up, down = left @ (u[:, : len(root)] * root), (root[:, None] * vh[: len(root)]) @ right.T
        return _kept(update.weight_shape, down, up, values=(s, update.scale, wide(update.down, update.up)))


def nearest_to(delta: Tensor, rank: int) -> Approximation:
    """The update of `rank` nearest to the dense `delta` [out, in, *kernel], by its SVD in float64."""
    check_rank(rank)
    with full_precision(delta):
        u, s, vh = torch.linalg.svd(delta.double().flatten(1), full_matrices=False)
        root = s[:rank].sqrt()
        up, down = u[:, : len(root)] * root, root[:, None] * vh[: len(root)]
        return _kept(tuple(delta.shape), down, up, values=(s, 1.0, wide(delta)))


def check_rank(rank: object) -> None:
    """UsageError E_RANK unless `rank` is a whole number of 1 or more."""
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise UsageError(f"rank is {rank!r}: expected a whole number of 1 or more", code="E_RANK")


def _kept(
    weight_shape: Shape, down: Tensor, up: Tensor, *, values: tuple[Tensor, float, torch.dtype]
) -> Approximation:
    s, scale, dtype = values
    rank, whole = down.shape[0], float(s.norm())
    error = float(s[rank:].norm()) / whole if whole else 0.0
    down = down.reshape(rank, *weight_shape[1:]).to(dtype)
    up = up.reshape(*up.shape, *(1 for _ in weight_shape[2:])).to(dtype)
    return Approximation(LowRank(down, up, scale * rank), error)

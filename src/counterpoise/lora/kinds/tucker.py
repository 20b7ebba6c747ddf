"""LoCon with lora_mid: a convolution's update in Tucker form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from counterpoise.lora.lowrank import LowRank
from counterpoise.lora.update import (
    Approximation,
    Factored,
    Fault,
    Shape,
    Shapes,
    check_dense_dtype,
    full_precision,
    wide,
)


def tucker_down(core: Tensor, inputs: Tensor) -> Tensor:
    """sum_j core[i, j, *kernel] inputs[j, in]: [rank, in, *kernel], the second factor of the Tucker form."""
    return torch.einsum("ij...,jn->in...", core, inputs)


@final
@dataclass(frozen=True, eq=False)
class Tucker(Factored):
    """Delta W[o, n, *k] = (alpha / rank) sum_ij up[o, i] mid[i, j, *k] down[j, n].

    `down` [rank, in, 1, ...], `mid` [rank, rank, *kernel], `up` [out, rank, 1, ...], for Conv1d to Conv3d.
    LyCORIS, "LoCon" with use_tucker (https://github.com/KohakuBlueleaf/LyCORIS, arXiv:2309.14859).
    """

    kind: ClassVar[str] = "LoCon (Tucker)"

    down: Tensor
    mid: Tensor
    up: Tensor
    alpha: float

    def tensors(self) -> dict[str, Tensor]:
        """down, mid and up."""
        return {"down": self.down, "mid": self.mid, "up": self.up}

    @staticmethod
    def shapes_fault(shapes: Shapes) -> Fault | None:
        """Three convolutions of one rank, the outer two with kernels of 1."""
        down, mid, up = shapes["down"], shapes["mid"], shapes["up"]
        told = f"down is {list(down)}, mid {list(mid)}, up {list(up)}"
        if not 3 <= len(mid) <= 5 or len(down) != len(mid) or len(up) != len(mid):
            return "E_SHAPE", f"{told}: expected all 3-D, 4-D or 5-D (Conv1d to Conv3d)"
        if 0 in (*down, *mid, *up):
            return "E_RANK" if 0 in mid[:2] else "E_SHAPE", f"{told}: no side may be 0"
        if not down[0] == mid[0] == mid[1] == up[1]:
            return "E_RANK", f"{told}: expected one rank in all three"
        if set(down[2:]) | set(up[2:]) != {1}:
            return "E_SHAPE", f"{told}: only mid may have a kernel"
        return None

    @staticmethod
    def rank_of(shapes: Shapes) -> int:
        """The number of rows of `down`."""
        return shapes["down"][0]

    @staticmethod
    def weight_of(shapes: Shapes) -> Shape:
        """[out, in, *kernel]."""
        return (shapes["up"][0], shapes["down"][1], *shapes["mid"][2:])

    def dense(self, dtype: torch.dtype = torch.float32, *, base: Tensor | None = None) -> Tensor:
        """See `Update.dense`."""
        check_dense_dtype(dtype)
        return self._pair(dtype).dense(dtype)

    def low_rank(self, rank: int | None = None, *, base: Tensor | None = None) -> Approximation:
        """Exact at the same rank: mid and down make one down."""
        return self._pair(wide(self.down, self.mid)).low_rank(rank)

    def _pair(self, dtype: torch.dtype) -> LowRank:
        with full_precision(self.mid):
            core, inputs = self.mid.detach().to(dtype), self.down.detach().to(dtype).flatten(1)
            return LowRank(tucker_down(core, inputs), self.up.detach().to(dtype), self.alpha)

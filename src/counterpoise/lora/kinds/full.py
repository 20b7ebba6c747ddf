"""A full difference: Delta W itself, and the bias's, as fine-tuned layers and norms come in LoRA files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.lora.lowrank import nearest_to
from counterpoise.lora.update import Approximation, Factored, Fault, Shape, Shapes, check_dense_dtype


@final
@dataclass(frozen=True, eq=False)
class Full(Factored):
    """Delta W = weight, and the bias's delta = bias: LyCORIS "full" (diff, diff_b), norms (w_norm, b_norm).

    `weight` has the layer's own shape, 1-D (a norm) to 5-D; `bias` is [out]. Its scale is 1.
    """

    kind: ClassVar[str] = "full difference"

    weight: Tensor
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        fault = self.fault()
        if fault is not None:
            raise UsageError(f"{self.kind} update: {fault[1]}", code=fault[0])

    @property
    def alpha(self) -> float:  # type: ignore[override]
        """The rank: the scale is 1."""
        return float(self.rank)

    def tensors(self) -> dict[str, Tensor]:
        """diff and, where there is a bias, diff_b."""
        return {"diff": self.weight} | ({} if self.bias is None else {"diff_b": self.bias})

    @staticmethod
    def shapes_fault(shapes: Shapes) -> Fault | None:
        """1-D to 5-D, the bias as long as the first side."""
        weight, bias = shapes["diff"], shapes.get("diff_b")
        if not 1 <= len(weight) <= 5 or 0 in weight:
            return "E_SHAPE", f"diff is {list(weight)}: expected 1-D to 5-D and no side of 0"
        if bias is not None and bias != weight[:1]:
            return "E_SHAPE", f"diff_b is {list(bias)}: expected {list(weight[:1])}, as diff {list(weight)}"
        return None

    @staticmethod
    def rank_of(shapes: Shapes) -> int:
        """The most that a matrix of this shape can have."""
        return min(shapes["diff"][0], math.prod(shapes["diff"][1:]))

    @staticmethod
    def weight_of(shapes: Shapes) -> Shape:
        """The difference's own shape."""
        return shapes["diff"]

    @property
    def bias_delta(self) -> Tensor | None:
        """`bias` in float64."""
        return None if self.bias is None else self.bias.detach().double()

    def dense(self, dtype: torch.dtype = torch.float32, *, base: Tensor | None = None) -> Tensor:
        """See `Update.dense`."""
        check_dense_dtype(dtype)
        return self.weight.detach().to(dtype, copy=True)

    def low_rank(self, rank: int | None = None, *, base: Tensor | None = None) -> Approximation:
        """The best of `rank`, which must be given; UsageError E_INEXACT for a norm or beside a bias."""
        if self.bias is not None or self.weight.dim() < 2:
            what = "a norm's" if self.weight.dim() < 2 else "one with a bias"
            raise UsageError(f"a full difference, {what}, is no low-rank update; keep it", code="E_INEXACT")
        if rank is None:
            reason = f"a full difference has rank up to {self.rank}; give the rank to keep"
            raise UsageError(reason, code="E_INEXACT")
        return nearest_to(self.weight.detach(), rank)

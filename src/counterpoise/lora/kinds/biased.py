"""An update of a weight together with one of the layer's bias."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.lora.update import (
    Approximation,
    Around,
    Fault,
    Shape,
    Update,
    dtype_fault,
    finite_fault,
    same_tensors,
)


@final
@dataclass(frozen=True, eq=False)
class Biased(Around):
    """`inner`'s Delta W, and `bias` [out] for the bias.

    `scaled`: times the inner scale, as PEFT's lora_B.bias (lora_bias=True); else as it is, as the diff_b
    that some extractors put beside a low-rank pair.
    """

    kind: ClassVar[str] = "LoRA with bias"

    inner: Update
    bias: Tensor
    scaled: bool = True

    @property
    def bias_delta(self) -> Tensor:
        """`bias` in float64, times the scale where it is `scaled`."""
        return self.bias.detach().double() * (self.scale if self.scaled else 1.0)

    def fault(self) -> Fault | None:
        """See `Update`."""
        if self.inner.bias_delta is not None:
            return "E_UNSUPPORTED", f"inner is a {self.inner.kind}, which has a bias of its own"
        wrong = self.inner.fault() or dtype_fault("bias", self.bias)
        if wrong is not None:
            return wrong
        if tuple(self.bias.shape) != self.weight_shape[:1]:
            return "E_SHAPE", f"bias is {list(self.bias.shape)}: expected [{self.weight_shape[0]}]"
        infinite = finite_fault("bias", self.bias)
        return None if infinite is None else ("E_NONFINITE", infinite)

    def tensors(self) -> dict[str, Tensor]:
        """The inner update's and bias (scaled) or diff_b (not)."""
        return {**self.inner.tensors(), "bias" if self.scaled else "diff_b": self.bias}

    def shaped(self, weight_shape: Shape) -> Biased:
        """This update with its inner one shaped."""
        inner = self.inner.shaped(weight_shape)
        return self if inner is self.inner else replace(self, inner=inner)

    def dense(self, dtype: torch.dtype = torch.float32, *, base: Tensor | None = None) -> Tensor:
        """The inner update's; the bias's is `bias_delta`."""
        return self.inner.dense(dtype, base=base)

    def low_rank(self, rank: int | None = None, *, base: Tensor | None = None) -> Approximation:
        """UsageError E_INEXACT: a LowRank has no bias."""
        raise UsageError("a low-rank update holds no bias; keep this one, or use its inner", code="E_INEXACT")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Biased):
            return NotImplemented
        mine, theirs = {"bias": self.bias}, {"bias": other.bias}
        return self.scaled == other.scaled and self.inner == other.inner and same_tensors(mine, theirs)

    __hash__ = None  # type: ignore[assignment]

"""DoRA: an update and new lengths for the rows (or columns) of the weight that it leads to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.lora.lowrank import nearest_to
from counterpoise.lora.update import (
    Approximation,
    Around,
    Fault,
    Shape,
    Update,
    check_dense_dtype,
    dtype_fault,
    finite_fault,
    full_precision,
    same_tensors,
)


def magnitude_fault(magnitude: Shape, weight: Shape) -> Fault | None:
    """Why a magnitude of this shape gives no lengths to a weight of that one, or None."""
    ones = (1,) * (len(weight) - 2)
    per_output, per_input = (weight[0], 1, *ones), (1, *weight[1:2], *ones)
    if len(weight) >= 2 and magnitude in (per_output, per_input):
        return None
    # LoHa and LoKr of a convolution do not say their kernel: a longer magnitude is judged when it is known.
    if len(weight) == 2 and len(magnitude) > 2 and set(magnitude[2:]) == {1}:
        return magnitude_fault(magnitude[:2], weight) if magnitude[1] == 1 else None
    expected = f"{list(per_output)} (per output) or {list(per_input)} (per input)"
    return "E_SHAPE", f"magnitude is {list(magnitude)}: expected {expected}"


@final
@dataclass(frozen=True, eq=False)
class DoRA(Around):
    """W = magnitude * V / |V| with V = W0 + inner's Delta W (arXiv:2402.09353, Eq. 5).

    `magnitude` is [out, 1, ...], lengths of the rows of V (PEFT; LyCORIS with wd_on_out), or [1, in, ...],
    of its columns (LyCORIS before that); where both fit, rows. `inner` is any kind but DoRA and Biased.
    """

    kind: ClassVar[str] = "DoRA"

    inner: Update
    magnitude: Tensor

    @property
    def bias_delta(self) -> Tensor | None:
        """None: DoRA leaves the bias as it is."""
        return None

    @property
    def per_output(self) -> bool:
        """Whether the lengths are of rows (one an output) rather than of columns."""
        return self.magnitude.shape[0] == self.weight_shape[0] and self.magnitude.numel() == len(
            self.magnitude
        )

    def fault(self) -> Fault | None:
        """See `Update`."""
        if isinstance(self.inner, DoRA) or self.inner.bias_delta is not None:
            return "E_UNSUPPORTED", f"inner is a {self.inner.kind}: expected an update of the weight alone"
        wrong = self.inner.fault() or dtype_fault("magnitude", self.magnitude)
        wrong = wrong or magnitude_fault(tuple(self.magnitude.shape), self.weight_shape)
        if wrong is not None:
            return wrong
        infinite = finite_fault("magnitude", self.magnitude)
        return None if infinite is None else ("E_NONFINITE", infinite)

    def tensors(self) -> dict[str, Tensor]:
        """The inner update's and magnitude."""
        return {**self.inner.tensors(), "magnitude": self.magnitude}

    def shaped(self, weight_shape: Shape) -> DoRA:
        """This update with its inner one shaped."""
        inner = self.inner.shaped(weight_shape)
        return self if inner is self.inner else replace(self, inner=inner)

    def dense(self, dtype: torch.dtype = torch.float32, *, base: Tensor | None = None) -> Tensor:
        """magnitude * V / |V| - W0; `base` is W0. A row (column) of V that is all zero stays zero."""
        check_dense_dtype(dtype)
        if base is None:
            reason = "DoRA's delta depends on the layer's own weight; give it as base, or mount the adapter"
            raise UsageError(reason, code="E_BASE")
        if tuple(base.shape) != self.weight_shape:
            reason = f"base is {list(base.shape)} but the update is for {list(self.weight_shape)}"
            raise UsageError(reason, code="E_SHAPE")
        with full_precision(base):
            weight = base.detach().to(dtype)
            whole = weight + self.inner.dense(dtype).to(weight.device)
            others = tuple(i for i in range(whole.dim()) if i != (0 if self.per_output else 1))
            length = torch.linalg.vector_norm(whole, dim=others, keepdim=True)
            ratio = self.magnitude.detach().to(weight.device, dtype) / length
            return whole * ratio.where(length > 0, torch.zeros_like(ratio)) - weight

    def low_rank(self, rank: int | None = None, *, base: Tensor | None = None) -> Approximation:
        """The best of `rank` for this `base`; without a rank UsageError E_INEXACT: rescaled rows of W0 have
        full rank."""
        if rank is None:
            raise UsageError("DoRA changes W0 at full rank; give a rank and the base", code="E_INEXACT")
        return nearest_to(self.dense(torch.float64, base=base), rank)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DoRA):
            return NotImplemented
        mine, theirs = {"m": self.magnitude}, {"m": other.magnitude}
        return self.inner == other.inner and same_tensors(mine, theirs)

    __hash__ = None  # type: ignore[assignment]

"""What every kind of update offers, and what kinds made of named tensors share.

In: a kind's tensors and its alpha. Out: `Update`, the protocol that adapters hold, hosts mount and files
keep; `Factored`, the abstract class that most kinds come from. The kinds are rows of `kinds.UPDATE_KINDS`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from counterpoise.errors import UsageError

if TYPE_CHECKING:
    from counterpoise.lora.lowrank import LowRank

FACTOR_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Fault = tuple[str, str]
"""An error code and the reason in words."""


class Approximation(NamedTuple):
    """A low-rank update in place of another kind's.

    `error` is |Delta - approximation| / |Delta| in Frobenius norm, and 0.0 where the two are equal but
    for the rounding of the factors (float64, or float32 where the kind's tensors are 16-bit).
    """

    update: LowRank
    error: float


class Update(Protocol):
    """One layer's update: W = W0 + Delta W, and a bias delta where the kind has one."""

    kind: ClassVar[str]
    """What the kind is called, in messages and in files' reports."""

    @property
    def alpha(self) -> float:
        """The numerator of `scale`."""

    @property
    def rank(self) -> int:
        """What `alpha` is divided by: the field's "dim"; for a full difference the bound of its rank."""

    @property
    def scale(self) -> float:
        """What the product of the tensors is multiplied by: alpha / rank, or 1 where alpha has no effect."""

    @property
    def weight_shape(self) -> Shape:
        """The shape of the weight that this updates."""

    @property
    def bias_delta(self) -> Tensor | None:
        """What is added to the layer's bias, [out] in float64, or None."""

    def fault(self) -> Fault | None:
        """The (code, reason) why this is not a sound update, or None; costs one pass over the tensors."""

    def dense(self, dtype: torch.dtype = torch.float32, *, base: Tensor | None = None) -> Tensor:
        """Delta W in the weight's shape, computed and returned in `dtype` (float32 or float64).

        `base` is W0, which DoRA needs (UsageError E_BASE without it) and other kinds ignore.
        """

    def tensors(self) -> dict[str, Tensor]:
        """Role -> tensor, in a fixed order: all that a file has to hold beside alpha."""

    def low_rank(self, rank: int | None = None, *, base: Tensor | None = None) -> Approximation:
        """The update as a LowRank: exact without a `rank` (UsageError E_INEXACT where that cannot be),
        else the best of that rank with its error."""

    def shaped(self, weight_shape: Shape) -> Update:
        """This update for a weight of `weight_shape`, where its tensors leave the kernel's shape open
        (LoHa and LoKr of a convolution); else this one as it is."""


def is_finite_number(value: object) -> bool:
    """Whether `value` is a real number that a float can hold (True and False are none)."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int of hundreds of digits
        return False


def dtype_fault(role: str, tensor: object) -> Fault | None:
    """Why `tensor` cannot be a factor by its type, or None."""
    if isinstance(tensor, Tensor) and tensor.dtype in FACTOR_DTYPES:
        return None
    kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
    return "E_DTYPE", f"{role} is {kind}: expected a float64, float32, float16 or bfloat16 tensor"


def finite_fault(role: str, tensor: Tensor) -> str | None:
    """How many values of `tensor` are NaN or infinite, in words, or None."""
    # A sum is one pass without memory; that of large finite values can be infinite, so it only acquits.
    if math.isfinite(float(tensor.detach().sum(dtype=torch.float32))):
        return None
    bad = int(torch.count_nonzero(~torch.isfinite(tensor)))
    return f"{role} has {bad} of {tensor.numel()} values NaN or infinite" if bad else None


def alpha_fault(alpha: object) -> Fault | None:
    """Why `alpha` is no alpha, or None."""
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        return "E_ALPHA", f"alpha is {alpha!r}: expected a number"
    if not is_finite_number(alpha):
        return "E_NONFINITE", f"alpha is {str(alpha)[:40]}: expected a finite number"
    return None


def check_dense_dtype(dtype: torch.dtype) -> None:
    """UsageError unless `dtype` is one that dense() computes in."""
    if dtype not in (torch.float32, torch.float64):
        raise UsageError(f"dense() computes in float32 or float64, not {dtype}", code="E_DTYPE")


def wide(*tensors: Tensor) -> torch.dtype:
    """The dtype for products of `tensors`: float32 holds those of two 16-bit numbers, else float64."""
    return torch.float32 if all(t.dtype.itemsize == 2 for t in tensors) else torch.float64


@contextmanager
def uncast(tensor: Tensor) -> Iterator[None]:
    """No autocast to a narrower type, whatever the caller is in.

    By its flag alone: a block of `torch.autocast` whose end an interrupt skips stays open for good, and keeps
    old copies of all trained weights.
    """
    kind = tensor.device.type
    before = torch.is_autocast_enabled(kind)
    torch.set_autocast_enabled(kind, False)
    try:
        yield
    finally:
        torch.set_autocast_enabled(kind, before)


@contextmanager
def full_precision(tensor: Tensor) -> Iterator[None]:
    """No gradient, and no autocast to a narrower type, whatever the caller is in."""
    with torch.no_grad(), uncast(tensor):
        yield


def same_tensors(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether the roles, dtypes, shapes and values are equal."""
    return a.keys() == b.keys() and all(
        a[role].dtype == b[role].dtype and torch.equal(a[role], b[role]) for role in a
    )


class Around(ABC):
    """A kind that wraps another update and has that one's alpha, rank, scale and shape."""

    kind: ClassVar[str]
    inner: Update

    def __post_init__(self) -> None:
        fault = self.fault()
        if fault is not None:
            raise UsageError(f"{self.kind} update: {fault[1]}", code=fault[0])

    @abstractmethod
    def fault(self) -> Fault | None:
        """See `Update`."""

    @property
    def alpha(self) -> float:
        """The inner update's."""
        return self.inner.alpha

    @property
    def rank(self) -> int:
        """The inner update's."""
        return self.inner.rank

    @property
    def scale(self) -> float:
        """The inner update's."""
        return self.inner.scale

    @property
    def weight_shape(self) -> Shape:
        """The inner update's."""
        return self.inner.weight_shape


class Factored(ABC):
    """A kind made of named tensors and an alpha; its rules are static, so that a file is judged unread."""

    kind: ClassVar[str]
    alpha: float

    def __post_init__(self) -> None:
        fault = self.fault()
        if fault is not None:
            raise UsageError(f"{self.kind} update: {fault[1]}", code=fault[0])
        object.__setattr__(self, "alpha", float(self.alpha))

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """See `Update`."""

    @staticmethod
    @abstractmethod
    def shapes_fault(shapes: Shapes) -> Fault | None:
        """Why tensors of these shapes are no such update, or None."""

    @staticmethod
    @abstractmethod
    def rank_of(shapes: Shapes) -> int:
        """The rank that tensors of these (sound) shapes have."""

    @staticmethod
    @abstractmethod
    def weight_of(shapes: Shapes) -> Shape:
        """The shape of the weight that tensors of these (sound) shapes update."""

    def shapes(self) -> Shapes:
        """Role -> shape."""
        return {role: tuple(tensor.shape) for role, tensor in self.tensors().items()}

    def fault(self) -> Fault | None:
        """See `Update`."""
        tensors = self.tensors()
        for role, tensor in tensors.items():
            wrong = dtype_fault(role, tensor)
            if wrong is not None:
                return wrong
        wrong = self.shapes_fault(self.shapes()) or alpha_fault(self.alpha)
        if wrong is not None:
            return wrong
        infinite = next((f for role, t in tensors.items() if (f := finite_fault(role, t))), None)
        return None if infinite is None else ("E_NONFINITE", infinite)

    @property
    def rank(self) -> int:
        """See `Update`."""
        return self.rank_of(self.shapes())

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank

    @property
    def weight_shape(self) -> Shape:
        """See `Update`."""
        return self.weight_of(self.shapes())

    @property
    def bias_delta(self) -> Tensor | None:
        """None: this kind leaves the bias as it is."""
        return None

    def shaped(self, weight_shape: Shape) -> Update:
        """This update: its tensors say the weight's whole shape."""
        return self  # type: ignore[return-value]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Factored) or type(other) is not type(self):
            return NotImplemented
        return (
            self.alpha == other.alpha
            and self.weight_shape == other.weight_shape
            and same_tensors(self.tensors(), other.tensors())
        )

    __hash__ = None  # type: ignore[assignment]

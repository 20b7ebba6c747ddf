"""LoKr: the Kronecker product of two matrices, each whole or a product."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from counterpoise.lora.kinds.loha import open_kernel
from counterpoise.lora.kinds.tucker import tucker_down
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

_ROLES = ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
_FORMS = ({"w1"}, {"w1_a", "w1_b"}), ({"w2"}, {"w2_a", "w2_b"}, {"w2_a", "w2_b", "t2"})


@final
@dataclass(frozen=True, eq=False)
class LoKr(Factored):
    """Delta W = scale kron(w1, w2) (LyCORIS, arXiv:2309.14859).

    w1 [a, c] is `w1` or `w1_a` [a, rank] @ `w1_b` [rank, c]. w2 [b, d, *kernel] is `w2`, or `w2_a` [b, rank]
    @ `w2_b` [rank, d * prod(kernel)] (the file does not say the kernel, `shaped` does), or with `t2`
    [rank, rank, *kernel], `w2_a` [rank, b], `w2_b` [rank, d]. The weight is [a b, c d, *kernel]. scale is
    alpha / rank, and 1 where w1 and w2 are both whole: then alpha has no effect.
    """

    kind: ClassVar[str] = "LoKr"

    alpha: float
    w1: Tensor | None = None
    w1_a: Tensor | None = None
    w1_b: Tensor | None = None
    w2: Tensor | None = None
    w2_a: Tensor | None = None
    w2_b: Tensor | None = None
    t2: Tensor | None = None
    kernel: Shape = ()

    def tensors(self) -> dict[str, Tensor]:
        """lokr_w1 or lokr_w1_a and lokr_w1_b; lokr_w2 or lokr_w2_a, lokr_w2_b and lokr_t2."""
        return {f"lokr_{role}": t for role in _ROLES if (t := getattr(self, role)) is not None}

    @staticmethod
    def shapes_fault(shapes: Shapes) -> Fault | None:
        """One form for each of the two factors, of one rank."""
        told = ", ".join(f"{role.removeprefix('lokr_')} {list(shape)}" for role, shape in shapes.items())
        for side, forms in zip("12", _FORMS, strict=True):
            has = {role.removeprefix("lokr_") for role in shapes if role[6] == side}
            if has not in forms:
                whole = f"w{side}, or w{side}_a and w{side}_b"
                return "E_INCOMPLETE_PAIR", f"{told or 'no tensors'}: expected {whole}"
        cored, whole2 = "lokr_t2" in shapes, "lokr_w2" in shapes
        for role, shape in shapes.items():
            free = role == "lokr_w2" or (role == "lokr_w2_b" and not cored)
            low, high = (2, 5) if free else (3, 5) if role == "lokr_t2" else (2, 2)
            if not low <= len(shape) <= high:
                return "E_SHAPE", f"{told}: {role} has {len(shape)} dimensions"
            if 0 in shape:
                return "E_RANK", f"{told}: no side may be 0"
        ranks = {shapes["lokr_w1_a"][1], shapes["lokr_w1_b"][0]} if "lokr_w1_a" in shapes else set()
        if not whole2:
            a, b = shapes["lokr_w2_a"], shapes["lokr_w2_b"]
            ranks |= {a[0], b[0], *shapes["lokr_t2"][:2]} if cored else {a[1], b[0]}
        return ("E_RANK", f"{told}: expected one rank") if len(ranks) > 1 else None

    @staticmethod
    def rank_of(shapes: Shapes) -> int:
        """The rank of the factors that are products; the bound of Delta W's rank where none is."""
        for role in ("lokr_w1_b", "lokr_w2_b"):
            if role in shapes:
                return shapes[role][0]
        return min(shapes["lokr_w1"]) * min(shapes["lokr_w2"][0], math.prod(shapes["lokr_w2"][1:]))

    @staticmethod
    def weight_of(shapes: Shapes) -> Shape:
        """[a b, c d, *kernel], or [a b, c d prod(kernel)]."""
        a, c = shapes.get("lokr_w1") or (shapes["lokr_w1_a"][0], shapes["lokr_w1_b"][1])
        b, d, *kernel = _second_shape(shapes)
        return (a * b, c * d, *kernel)

    @property
    def scale(self) -> float:
        """alpha / rank, or 1 where both factors are whole."""
        return 1.0 if self.w1 is not None and self.w2 is not None else self.alpha / self.rank

    @property
    def weight_shape(self) -> Shape:
        """See `Update`."""
        shape = self.weight_of(self.shapes())
        inputs = shape[1] // math.prod(self.kernel)
        return (shape[0], inputs, *self.kernel) if self.kernel else shape

    def shaped(self, weight_shape: Shape) -> LoKr:
        """This update with the kernel of `weight_shape`, if its columns fit."""
        kernel = open_kernel(self.weight_shape, weight_shape)
        return self if kernel is None else replace(self, kernel=kernel)

    def dense(self, dtype: torch.dtype = torch.float32, *, base: Tensor | None = None) -> Tensor:
        """See `Update.dense`."""
        check_dense_dtype(dtype)
        with full_precision(next(iter(self.tensors().values()))):
            (up1, down1), (up2, down2) = self._first(dtype), self._second(dtype)
            second = (up2 @ down2.flatten(1)).reshape(up2.shape[0], *down2.shape[1:])
            whole = _kron(_padded(up1 @ down1, second.dim()), second)
            return whole.reshape(self.weight_shape) * self.scale

    def low_rank(self, rank: int | None = None, *, base: Tensor | None = None) -> Approximation:
        """Exact: kron(u1 v1, u2 v2) = kron(u1, u2) @ kron(v1, v2), at the product of the ranks."""
        tensors = self.tensors()
        with full_precision(next(iter(tensors.values()))):
            dtype = wide(*tensors.values())
            (up1, down1), (up2, down2) = self._first(dtype), self._second(dtype)
            up = _kron(up1, up2)
            down = _kron(_padded(down1, down2.dim()), down2).reshape(up.shape[1], *self.weight_shape[1:])
            up = up.reshape(*up.shape, *(1 for _ in down.shape[2:]))
            return LowRank(down, up, self.scale * up.shape[1]).low_rank(rank)

    def _first(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if self.w1 is not None:
            return _whole(self.w1.detach().to(dtype))
        assert self.w1_a is not None
        assert self.w1_b is not None
        return self.w1_a.detach().to(dtype), self.w1_b.detach().to(dtype)

    def _second(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if self.w2 is not None:
            return _whole(self.w2.detach().to(dtype))
        assert self.w2_a is not None
        assert self.w2_b is not None
        up, down = self.w2_a.detach().to(dtype), self.w2_b.detach().to(dtype)
        return (up, down) if self.t2 is None else (up.T, tucker_down(self.t2.detach().to(dtype), down))


def _second_shape(shapes: Shapes) -> Shape:
    if "lokr_w2" in shapes:
        return shapes["lokr_w2"]
    a, b, core = shapes["lokr_w2_a"], shapes["lokr_w2_b"], shapes.get("lokr_t2")
    return (a[0], *b[1:]) if core is None else (a[1], b[1], *core[2:])


def _padded(matrix: Tensor, dimensions: int) -> Tensor:
    return matrix.reshape(*matrix.shape, *(1 for _ in range(dimensions - 2)))


def _kron(a: Tensor, b: Tensor) -> Tensor:
    # torch.kron (2.13) fails on a transposed or permuted second factor.
    return torch.kron(a, b.contiguous())


def _whole(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """`matrix` [m, n, *kernel] as (up, down) of the smaller of its two ranks, one of them the identity."""
    rows, columns = matrix.shape[0], matrix[0].numel()
    if rows <= columns:
        return torch.eye(rows, dtype=matrix.dtype, device=matrix.device), matrix
    same = torch.eye(columns, dtype=matrix.dtype, device=matrix.device)
    return matrix.flatten(1), same.reshape(columns, *matrix.shape[1:])

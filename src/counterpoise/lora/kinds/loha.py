"""LoHa: the elementwise product of two low-rank matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor

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


def open_kernel(weight_shape: Shape, wanted: Shape) -> Shape | None:
    """The kernel by which flat columns [out, in * prod(kernel)] become `wanted`, or None if they cannot."""
    flat = (wanted[0], math.prod(wanted[1:])) if wanted else ()
    return wanted[2:] if len(wanted) > 2 and weight_shape == flat else None


@final
@dataclass(frozen=True, eq=False)
class LoHa(Factored):
    """Delta W = (alpha / rank) (w1_a @ w1_b) * (w2_a @ w2_b) (FedPara, arXiv:2108.06098; LyCORIS).

    `w*_a` [out, rank], `w*_b` [rank, in], for a convolution [rank, in * prod(kernel)]: its file does not
    say the kernel, `shaped` does. In Tucker form, with `t1` and `t2` [rank, rank, *kernel]: `w*_a`
    [rank, out], `w*_b` [rank, in].
    """

    kind: ClassVar[str] = "LoHa"

    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor
    alpha: float
    t1: Tensor | None = None
    t2: Tensor | None = None
    kernel: Shape = ()

    def tensors(self) -> dict[str, Tensor]:
        """hada_w1_a, hada_w1_b, hada_w2_a, hada_w2_b and, in Tucker form, hada_t1 and hada_t2."""
        found = {"w1_a": self.w1_a, "w1_b": self.w1_b, "w2_a": self.w2_a, "w2_b": self.w2_b}
        found |= {role: t for role, t in (("t1", self.t1), ("t2", self.t2)) if t is not None}
        return {f"hada_{role}": tensor for role, tensor in found.items()}

    @staticmethod
    def shapes_fault(shapes: Shapes) -> Fault | None:
        """Two products (or two Tucker forms) of one shape."""
        told = ", ".join(f"{role.removeprefix('hada_')} {list(shape)}" for role, shape in shapes.items())
        cores = [shapes[role] for role in ("hada_t1", "hada_t2") if role in shapes]
        flat = [shapes[f"hada_{role}"] for role in ("w1_a", "w1_b", "w2_a", "w2_b")]
        if len(cores) == 1:
            return "E_INCOMPLETE_PAIR", f"{told}: t1 and t2 come together"
        if any(len(shape) != 2 for shape in flat) or any(not 3 <= len(core) <= 5 for core in cores):
            return "E_SHAPE", f"{told}: expected w's 2-D, t's 3-D to 5-D"
        if any(0 in shape for shape in (*flat, *cores)):
            return "E_RANK", f"{told}: no side may be 0"
        ranks = {flat[1][0], flat[3][0], *(core[i] for core in cores for i in (0, 1))}
        ranks |= {a[0] if cores else a[1] for a in flat[::2]}
        if len(ranks) != 1:
            return "E_RANK", f"{told}: expected one rank"
        if _product_shape(shapes, 1) != _product_shape(shapes, 2):
            return "E_SHAPE", f"{told}: the two products differ in shape"
        return None

    @staticmethod
    def rank_of(shapes: Shapes) -> int:
        """The rank of one of the products: what alpha is divided by."""
        return shapes["hada_w1_b"][0]

    @staticmethod
    def weight_of(shapes: Shapes) -> Shape:
        """[out, in, *kernel], or [out, in * prod(kernel)]."""
        return _product_shape(shapes, 1)

    @property
    def weight_shape(self) -> Shape:
        """See `Update`."""
        shape = self.weight_of(self.shapes())
        inputs = shape[1] // math.prod(self.kernel)
        return (shape[0], inputs, *self.kernel) if self.kernel else shape

    def shaped(self, weight_shape: Shape) -> LoHa:
        """This update with the kernel of `weight_shape`, if its columns fit."""
        kernel = open_kernel(self.weight_shape, weight_shape) if self.t1 is None else None
        return self if kernel is None else replace(self, kernel=kernel)

    def dense(self, dtype: torch.dtype = torch.float32, *, base: Tensor | None = None) -> Tensor:
        """See `Update.dense`."""
        check_dense_dtype(dtype)
        with full_precision(self.w1_a):
            (up1, down1), (up2, down2) = self._pairs(dtype)
            both = (up1 @ down1.flatten(1)) * (up2 @ down2.flatten(1))
            return both.reshape(self.weight_shape) * self.scale

    def low_rank(self, rank: int | None = None, *, base: Tensor | None = None) -> Approximation:
        """Exact at rank^2: the Khatri-Rao products of the ups' columns and of the downs' rows."""
        with full_precision(self.w1_a):
            (up1, down1), (up2, down2) = self._pairs(wide(*self.tensors().values()))
            rows = self.rank**2
            up = (up1[:, :, None] * up2[:, None, :]).reshape(up1.shape[0], rows)
            down = (down1[:, None] * down2[None]).reshape(rows, *self.weight_shape[1:])
            up = up.reshape(*up.shape, *(1 for _ in down.shape[2:]))
            return LowRank(down, up, self.scale * rows).low_rank(rank)

    def _pairs(self, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        pairs = []
        sides = ((self.w1_a, self.w1_b, self.t1), (self.w2_a, self.w2_b, self.t2))
        for a, b, core in sides:
            up, down = a.detach().to(dtype), b.detach().to(dtype)
            if core is not None:
                up, down = up.T, tucker_down(core.detach().to(dtype), down)
            pairs.append((up, down))
        return pairs


def _product_shape(shapes: Shapes, side: int) -> Shape:
    a, b, core = shapes[f"hada_w{side}_a"], shapes[f"hada_w{side}_b"], shapes.get(f"hada_t{side}")
    return (a[0], b[1]) if core is None else (a[1], b[1], *core[2:])

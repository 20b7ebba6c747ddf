"""One layer's updates in the coordinates where algebra is cheap: thin factors and small cores.

In: the members' factors of a layer, stacked (downs as rows, ups as columns), always float64 on the CPU.
Out: singular values and vectors of products of thin factors by QR of each side and one small SVD, so that
no [out, in] matrix is built. A convolution's down is flattened to [rank, in * kh * kw], up to [out, rank].
Source: arXiv:2509.17786 (Core Space).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from counterpoise.lora.lowrank import LowRank

WELL_APART = 0.03
"""Above this, factors by Cholesky are orthonormal to about 1e-13; below, Householder QR is used."""


@final
@dataclass(frozen=True, eq=False)
class Layer:
    """A layer's acting updates: up_i [out, r_i] @ down_i [r_i, in] = strength_i * Delta W_i, float64.

    A member without an update here, or at strength 0, is not among them.
    """

    path: str
    shape: tuple[int, ...]
    """The weight's shape; `in` stands for the product of all but its first side."""
    updates: tuple[LowRank, ...]
    strengths: tuple[float, ...]
    owners: tuple[int, ...]
    """Whose update each is: an index into the members."""
    names: tuple[str, ...]
    """The owners' fingerprints: what their random numbers are drawn from."""
    rank: int | None = None
    """The rank asked for, if any."""
    seed: int = 0
    covariances: tuple[Tensor, ...] | None = None
    """Every member's input covariance [in, in], also of those without an update here."""

    @property
    def ups(self) -> tuple[Tensor, ...]:
        """up_i times strength * alpha / rank, [out, r_i] float64."""
        return tuple(left(u) * (w * u.scale) for u, w in zip(self.updates, self.strengths, strict=True))

    @property
    def downs(self) -> tuple[Tensor, ...]:
        """down_i, [r_i, in] float64."""
        return tuple(right(update) for update in self.updates)

    @property
    def full_rank(self) -> int:
        """The sum of the members' ranks, or a side of the weight where that is less."""
        return min(sum(u.rank for u in self.updates), *self.sides)

    @property
    def sides(self) -> tuple[int, int]:
        """(out, in)."""
        return self.shape[0], right(self.updates[0]).shape[1]

    def dense(self) -> Iterator[Tensor]:
        """Each update as a matrix [out, in], one at a time."""
        for up, down in zip(self.ups, self.downs, strict=True):
            yield up @ down

    def stacked(self) -> tuple[Tensor, Tensor]:
        """up [out, R] and down [R, in] whose product is the exact sum."""
        return torch.cat(self.ups, 1), torch.cat(self.downs, 0)

    def generator(self, owner: str) -> torch.Generator:
        """A member's random numbers for this layer: of (seed, layer, member) alone, in whatever order."""
        return generator_for(self.seed, self.path, owner)


@final
@dataclass(frozen=True, eq=False)
class Spectrum:
    """A matrix as left [out, k] @ diag(values [k]) @ right [k, in]; left and right orthonormal.

    Values are in the order in which a truncation is to keep them; vectors may end before the values do.
    """

    left: Tensor
    values: Tensor
    right: Tensor

    @property
    def rank(self) -> int:
        """How many values are not zero to float64 precision (as numpy.linalg.matrix_rank counts)."""
        return numerical_rank(self.values, max(self.left.shape[0], self.right.shape[1]))

    def factors(self, rank: int) -> tuple[Tensor, Tensor]:
        """up [out, rank] and down [rank, in] of the first `rank` values, their norms balanced."""
        root = self.values[:rank].sqrt()
        return self.left[:, :rank] * root, root[:, None] * self.right[:rank]


def left(update: LowRank) -> Tensor:
    """`update.up` as [out, rank] float64 on the CPU."""
    return update.up.detach().to("cpu", torch.float64).flatten(1)


def right(update: LowRank) -> Tensor:
    """`update.down` as [rank, in * kh * kw] float64 on the CPU."""
    return update.down.detach().to("cpu", torch.float64).flatten(1)


def numerical_rank(values: Tensor, side: int) -> int:
    """How many of the non-negative `values` exceed the rounding of the largest in a matrix of that side."""
    limit = float(values.max()) * side * torch.finfo(values.dtype).eps if values.numel() else 0.0
    return int((values > limit).sum())


@final
@dataclass(frozen=True, eq=False)
class Thin:
    """columns [d, R] = Q @ root, Q orthonormal; Q itself is only there if it had to be computed."""

    columns: Tensor
    root: Tensor
    q: Tensor | None

    @staticmethod
    def of(columns: Tensor) -> Thin:
        """By Cholesky of the Gram matrix, a quarter of the time of Householder QR, where that is as good:
        Q then is orthonormal to 1e-16 times the squared condition of the columns scaled to length 1."""
        gram = columns.T @ columns
        lower, fault = torch.linalg.cholesky_ex(gram)
        # A column's part outside the span of those before it, over its length: small means ill-conditioned.
        apart = lower.diagonal() / gram.diagonal().sqrt()
        if int(fault) or not float(apart.min()) > WELL_APART:
            q, root = torch.linalg.qr(columns)
            return Thin(columns, root, q)
        return Thin(columns, lower.T, None)

    def expand(self, small: Tensor) -> Tensor:
        """Q @ small, for small [R, k]."""
        if self.q is not None:
            return self.q @ small
        solved = torch.linalg.solve_triangular(self.root, small, upper=True)
        if self.columns.is_contiguous():
            return self.columns @ solved
        # A transposed matrix times a few columns is thirty times slower than the same the other way round.
        return (solved.T @ self.columns.T).T


def singular(up: Tensor, down: Tensor, keep: int | None = None) -> Spectrum:
    """The thin SVD of up [out, R] @ down [R, in] by QR of each side: O((out + in) R^2), never [out, in].

    All singular values, with the vectors of the first `keep` (default: of all).
    """
    left_side, right_side = Thin.of(up), Thin.of(down.T)
    u, values, vh = torch.linalg.svd(left_side.root @ right_side.root.T, full_matrices=False)
    return Spectrum(left_side.expand(u[:, :keep]), values, right_side.expand(vh[:keep].T).T)


def orthonormal(columns: Tensor) -> Tensor:
    """The left singular vectors of `columns` [d, R] whose singular value is not zero, largest first."""
    q, r = torch.linalg.qr(columns)
    u, values, _ = torch.linalg.svd(r, full_matrices=False)
    return q @ u[:, : max(1, numerical_rank(values, columns.shape[0]))]


def energy(up: Tensor, down: Tensor, covariance: Tensor | None = None) -> float:
    """||up @ down||^2, or tr(up down C down^T up^T), by traces of Gram matrices; >= 0.

    Absolute precision is about 1e-16 of the factors' own energies, so differences below 1e-8 are noise.
    """
    inner = down @ down.T if covariance is None else down @ covariance @ down.T
    return max(0.0, float(((up.T @ up) * inner).sum()))


def membership(owners: Sequence[int], widths: Sequence[int], count: int) -> Tensor:
    """[sum of widths, count] of 0 and 1: whose each of the stacked directions is."""
    rows = torch.repeat_interleave(torch.tensor(owners), torch.tensor(widths))
    return torch.nn.functional.one_hot(rows, count).double()


def as_update(up: Tensor, down: Tensor, shape: tuple[int, ...], *, dtype: torch.dtype) -> LowRank:
    """up [out, k] @ down [k, in] as a LowRank of scale 1 for a weight of `shape`."""
    rank = down.shape[0]
    ones = (1,) * (len(shape) - 2)
    return LowRank(
        down.reshape(rank, *shape[1:]).to(dtype).contiguous(),
        up.reshape(shape[0], rank, *ones).to(dtype).contiguous(),
        rank,
    )


def result_dtype(updates: tuple[LowRank, ...]) -> torch.dtype:
    """The widest of float32 and the members' dtypes: a sum of half factors is not rounded to half again."""
    dtype = torch.float32
    for update in updates:
        dtype = torch.promote_types(dtype, torch.promote_types(update.down.dtype, update.up.dtype))
    return dtype


def generator_for(seed: int, *names: str) -> torch.Generator:
    """A CPU generator that depends on (seed, names) alone."""
    digest = hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)

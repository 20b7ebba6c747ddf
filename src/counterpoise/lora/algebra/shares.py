"""The interference report: tables of pairs, per layer and overall, and how they become JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import torch
from torch import Tensor

from counterpoise.lora.algebra.overlap import Overlaps

Table = tuple[tuple[float | None, ...], ...]
"""[n, n] by members; None where a member has no update, so that there is nothing to compare."""


@final
@dataclass(frozen=True)
class Pairs:
    """One layer, or all together.

    `energies`: ||strength_i Delta W_i||^2. `cosine`: <D_i, D_j> / (||D_i|| ||D_j||). `energy_ratio`:
    ||sum||^2 / sum of energies: 1 is orthogonal, n is n times the same, 0 is cancelled. Overlaps: see
    overlap.py; over layers their mean. `functional_share[k][j]`: of sum_j ||D_j X_k||^2 on member k's
    inputs, the part of member j. `disturbance[k]`: ||(sum - D_k) X_k||^2 / ||D_k X_k||^2, what the others
    add to k's own.
    """

    energies: tuple[float, ...]
    cosine: Table
    energy_ratio: float | None
    output_overlap: Table
    output_chance: Table
    input_overlap: Table
    input_chance: Table
    functional_share: Table | None = None
    disturbance: tuple[float | None, ...] | None = None

    @staticmethod
    def of(gram: Tensor, overlaps: Overlaps, seen: Tensor | None) -> Pairs:
        """A layer's, from its Gram matrix [n, n], its overlaps, and Gram matrices [n, n, n] on inputs."""
        output, output_chance = table(overlaps.output), table(overlaps.output_chance)
        input_, input_chance = table(overlaps.input), table(overlaps.input_chance)
        return _pairs(gram, (output, output_chance, input_, input_chance), seen)

    @staticmethod
    def merged(gram: Tensor, layers: Sequence[Pairs], seen: Tensor | None) -> Pairs:
        """All layers': energies added, overlaps averaged over the layers that both of a pair have."""
        names = ("output_overlap", "output_chance", "input_overlap", "input_chance")
        output, output_chance, input_, input_chance = (
            _mean([getattr(layer, name) for layer in layers], len(gram)) for name in names
        )
        return _pairs(gram, (output, output_chance, input_, input_chance), seen)


@final
@dataclass(frozen=True)
class Interference:
    """The report of `interference`; `suggested` by the rule of that function."""

    strengths: tuple[float, ...]
    suggested: tuple[float, ...]
    overall: Pairs
    layers: Mapping[str, Pairs]

    def to_dict(self) -> dict[str, Any]:
        """As the command line prints it under `--json`."""
        layers = {path: asdict(pairs) for path, pairs in self.layers.items()}
        said = {"strengths": self.strengths, "suggested": self.suggested}
        return {**said, "overall": asdict(self.overall), "layers": layers}


def table(values: Tensor) -> Table:
    """[n, n] as nested tuples, NaN as None."""
    return tuple(tuple(_number(value) for value in row) for row in values.tolist())


def energy_ratio(gram: Tensor) -> float | None:
    """||sum||^2 / sum of ||D_i||^2, or None where all are zero."""
    total = float(gram.diagonal().sum())
    return max(0.0, float(gram.sum())) / total if total > 0 else None


def _pairs(gram: Tensor, sides: tuple[Table, Table, Table, Table], seen: Tensor | None) -> Pairs:
    energies, cosine, ratio = _energies(gram)
    shares, disturbance = _functional(seen)
    output, output_chance, input_, input_chance = sides
    return Pairs(
        energies=energies,
        cosine=cosine,
        energy_ratio=ratio,
        output_overlap=output,
        output_chance=output_chance,
        input_overlap=input_,
        input_chance=input_chance,
        functional_share=shares,
        disturbance=disturbance,
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _energies(gram: Tensor) -> tuple[tuple[float, ...], Table, float | None]:
    energies = gram.diagonal()
    norms = energies.where(energies > 0, torch.full_like(energies, math.nan)).sqrt()
    cosine = gram / (norms[:, None] * norms[None])
    return tuple(energies.tolist()), table(cosine), energy_ratio(gram)


def _functional(seen: Tensor | None) -> tuple[Table | None, tuple[float | None, ...] | None]:
    if seen is None:
        return None, None
    parts = seen.diagonal(dim1=1, dim2=2)
    shares = parts / parts.sum(1, keepdim=True)
    own = parts.diagonal()
    n = len(seen)
    # ||(sum_j D_j - D_k) X_k||^2 = c^T G_k c with c = 1 but for c_k = 0
    others = 1.0 - torch.eye(n, dtype=seen.dtype)
    around = torch.einsum("ki,kij,kj->k", others, seen, others).clamp(min=0)
    return table(shares), tuple(_number(value) for value in (around / own).tolist())


def _mean(tables: Sequence[Table], count: int) -> Table:
    if not tables:
        return table(torch.full((count, count), math.nan))
    stacked = torch.tensor(
        [[[math.nan if v is None else v for v in row] for row in rows] for rows in tables],
        dtype=torch.float64,
    )
    return table(stacked.nanmean(0))

"""`compose`: several adapters at strengths become one.

In: adapters (different ranks, alphas, dtypes and layers), strengths, a method of the table. Out: an adapter
with its parents' fingerprints, and per layer what was lost. Layer by layer in float64 on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from counterpoise.errors import UsageError, shown
from counterpoise.lora.adapter import Adapter
from counterpoise.lora.algebra.core import (
    Layer,
    Spectrum,
    as_update,
    energy,
    left,
    result_dtype,
    right,
)
from counterpoise.lora.algebra.covariance import check_covariances
from counterpoise.lora.algebra.members import Members, check_count, check_members, check_seed, provenance
from counterpoise.lora.algebra.merges import METHODS, SUM, Method
from counterpoise.lora.algebra.merges.result import Result, Solved
from counterpoise.lora.algebra.report import Kept, overall
from counterpoise.lora.algebra.sketch import leading
from counterpoise.lora.lowrank import LowRank
from counterpoise.lora.names import nearest
from counterpoise.lora.threads import together, torch_threads


@final
@dataclass(frozen=True, eq=False)
class Composition:
    """A composed adapter and its report.

    `layers`: ranks and the error in the sense of `error_of`. `distances`: ||result - exact sum|| / ||exact
    sum|| per layer, whatever the method meant to make (equal to the error where that is of the sum).
    """

    adapter: Adapter
    method: str
    error_of: str
    layers: Mapping[str, Kept]
    distances: Mapping[str, float]
    sums: Mapping[str, float]
    """Frobenius norm of each layer's exact sum."""

    @property
    def error(self) -> float:
        """The relative error over all layers together."""
        return overall((kept.error, kept.norm) for kept in self.layers.values())

    @property
    def distance(self) -> float:
        """The relative Frobenius distance to the exact sum over all layers together."""
        return overall((self.distances[path], norm) for path, norm in self.sums.items())

    def to_dict(self) -> dict[str, Any]:
        """As the command line prints it under `--json`."""
        layers = {p: {**k.to_dict(), "distance": self.distances[p]} for p, k in self.layers.items()}
        said = {"method": self.method, "error_of": self.error_of, "error": self.error}
        return {**said, "distance": self.distance, "layers": layers}


def compose(
    members: Sequence[Adapter],
    strengths: Sequence[float] | None = None,
    *,
    method: str = "concat",
    rank: int | None = None,
    seed: int = 0,
    covariances: Sequence[Mapping[str, Tensor]] | None = None,
    **options: Any,
) -> Composition:
    """The adapter whose effect is `members` at `strengths` (default 1 each) by a method of `METHODS`.

    `rank` caps each layer's rank (default: all that is not zero; the sum of ranks for the dense methods);
    `seed` is for methods that draw; `covariances` for "data": one {layer: [in, in]} a member, as
    `input_covariances` makes them. The result does not depend on the members' order. Factors are float32,
    or float64 where a member's are. UsageError as `check_members`, and E_METHOD, E_OPTION, E_RANK, E_SEED,
    E_COVARIANCE.
    """
    given = check_members(members, strengths)
    row = check_method(method, options)
    _check_request(method, row, rank=rank, seed=seed, covariances=covariances)
    checked = None if covariances is None else check_covariances(covariances, given)
    prints = [adapter.fingerprint() for adapter in given.adapters]
    # One order for all callers: sums of floats then have the same bits whatever order they gave.
    order = sorted(range(len(given)), key=lambda i: (prints[i], given.strengths[i]))
    ordered = Members(tuple(given.adapters[i] for i in order), tuple(given.strengths[i] for i in order))
    names = [prints[i] for i in order]
    made: dict[str, tuple[LowRank, Kept, tuple[float, float]]] = {}

    def one(path: str) -> None:
        with torch.inference_mode(False), torch.no_grad():
            known = None if checked is None else tuple(checked[i][path] for i in order)
            layer = ordered.layer(path, names, rank=rank, seed=seed, covariances=known)
            if layer is not None:
                made[path] = _composed(layer, row, options)

    paths, threads = list(ordered.paths()), torch.get_num_threads()
    with torch_threads(1):  # small matrices: a thread a layer, where several on one would wait for each other
        together([partial(one, path) for path in paths], threads=threads)
    made = {path: made[path] for path in paths if path in made}
    if not made:
        raise UsageError("every strength or alpha is 0: nothing is left to compose", code="E_STRENGTH")
    said = [{"fingerprint": prints[i], "strength": given.strengths[i]} for i in order]
    metadata = provenance(method, said, rank=rank, seed=seed, options=options or None)
    return Composition(
        Adapter({path: update for path, (update, _, _) in made.items()}, metadata),
        method,
        row.error_of,
        {path: kept for path, (_, kept, _) in made.items()},
        {path: apart[0] for path, (_, _, apart) in made.items()},
        {path: apart[1] for path, (_, _, apart) in made.items()},
    )


def _check_request(method: str, row: Method, *, rank: object, seed: object, covariances: object) -> None:
    if rank is not None:
        check_count("rank", rank, code="E_RANK")
        if not row.takes_rank:
            raise UsageError(f"{method} is exact and takes no rank; use method='svd'", code="E_RANK")
    check_seed(seed)
    if (covariances is not None) != row.takes_covariances:
        reason = "needs covariances: one {layer: [in, in]} a member"
        if covariances is not None:
            users = ", ".join(name for name, other in METHODS.items() if other.takes_covariances)
            reason = f"takes no covariances; {users} does"
        raise UsageError(f"method {method} {reason}", code="E_COVARIANCE")


def check_method(method: object, options: Mapping[str, Any]) -> Method:
    """The row of `method`; UsageError E_METHOD or E_OPTION naming the nearest for what there is not."""
    if not isinstance(method, str) or method not in METHODS:
        reason = f"method {shown(method)!r}: expected one of {', '.join(METHODS)}"
        raise UsageError(f"{reason}{nearest(str(method), METHODS)}", code="E_METHOD")
    known = METHODS[method].options
    for name in options:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            reason = f"method {method} has no option {shown(name)!r}: {takes}{nearest(name, known)}"
            raise UsageError(reason, code="E_OPTION")
    return METHODS[method]


def _composed(
    layer: Layer, row: Method, options: Mapping[str, Any]
) -> tuple[LowRank, Kept, tuple[float, float]]:
    """The layer's update, what was kept, and (distance to the exact sum, norm of that sum)."""
    update, error, norm = _truncated(layer, row.merge(layer, **options))
    kept = Kept(update.rank, sum(u.rank for u in layer.updates), error, norm)
    if row.error_of == SUM:
        return update, kept, (error, norm)
    up, down = layer.stacked()
    total = math.sqrt(energy(up, down))
    apart = energy(torch.cat([left(update) * update.scale, -up], 1), torch.cat([right(update), down], 0))
    return update, kept, (math.sqrt(apart) / total if total else 0.0, total)


def _truncated(layer: Layer, result: Result) -> tuple[LowRank, float, float]:
    """The result at the layer's rank, its relative error, and the norm of what that is relative to."""
    if isinstance(result, Solved):
        return result.update, result.error, result.norm
    dtype = result_dtype(layer.updates)
    if isinstance(result, Spectrum):
        # Never rank 0: a sum that cancels to nothing is kept as one zero direction.
        rank = max(1, min(result.rank, layer.rank or result.rank))
        norm = float(result.values.norm())
        error = float(result.values[rank:].norm()) / norm if norm else 0.0
        return as_update(*result.factors(rank), layer.shape, dtype=dtype), error, norm
    rank = min(layer.rank or layer.full_rank, *layer.sides)
    found = leading(result, rank, layer.generator("sketch"))
    up, down = found.factors(max(1, min(rank, found.rank)))
    norm = float(result.norm())
    error = float((result - up @ down).norm()) / norm if norm else 0.0
    return as_update(up, down, layer.shape, dtype=dtype), error, norm

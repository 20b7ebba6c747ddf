"""`resize`: an adapter at a smaller rank, and what that costs, exactly.

In: an adapter, and a rank, a share of energy for each layer, or a bound on the whole adapter's error. Out:
an adapter and per layer its ranks and relative error. Each layer's truncation is the Frobenius optimum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.lora.adapter import Adapter
from counterpoise.lora.algebra.core import Spectrum, as_update, left, result_dtype, right, singular
from counterpoise.lora.algebra.members import check_count, check_share, factors_of, in_factors, provenance
from counterpoise.lora.algebra.report import Kept, overall
from counterpoise.lora.lowrank import LowRank


@final
@dataclass(frozen=True, eq=False)
class Resizing:
    """The resized adapter; `layers` also names those left out (rank 0), which is a zero update."""

    adapter: Adapter
    layers: Mapping[str, Kept]

    @property
    def error(self) -> float:
        """||resized - original|| / ||original||, Frobenius, over all layers together."""
        return overall((kept.error, kept.norm) for kept in self.layers.values())

    def to_dict(self) -> dict[str, Any]:
        """As the command line prints it under `--json`."""
        return {"error": self.error, "layers": {path: kept.to_dict() for path, kept in self.layers.items()}}


def resize(
    adapter: Adapter,
    *,
    rank: int | None = None,
    error: float | None = None,
    energy: float | None = None,
) -> Resizing:
    """`adapter` truncated by exactly one of: a rank for every layer, a total error, an energy share a layer.

    `error` in [0, 1): the relative Frobenius error over the whole adapter stays within it at the least sum
    of ranks; a layer may lose all. `energy` in (0, 1]: each layer keeps the fewest values that hold that
    share of its ||Delta W||^2. Factors are float32, or float64 where they were. UsageError E_RANK, E_ERROR,
    E_ENERGY, E_OPTION.
    """
    if not isinstance(adapter, Adapter):
        raise UsageError(f"expected an Adapter, got {type(adapter).__name__}", code="E_ADAPTER")
    asked = {"rank": rank, "error": error, "energy": energy}
    chosen = [name for name, value in asked.items() if value is not None]
    if len(chosen) != 1:
        got = " and ".join(chosen) or "none"
        raise UsageError(f"give exactly one of rank, error and energy; got {got}", code="E_OPTION")
    with torch.inference_mode(False), torch.no_grad():
        pairs = {path: factors_of(update) for path, update in in_factors(adapter).layers.items()}
        spectra = {path: singular(left(pair) * pair.scale, right(pair)) for path, pair in pairs.items()}
        values = {path: spectrum.values for path, spectrum in spectra.items()}
        if rank is not None:
            most = check_count("rank", rank, code="E_RANK")
            ranks = {path: max(1, min(most, spectrum.rank)) for path, spectrum in spectra.items()}
        elif error is not None:
            # Below 1: at 1 the bound would allow an empty adapter, which is none. 0 is "lose nothing".
            exact = error == 0 and not isinstance(error, bool)
            bound = 0.0 if exact else check_share("error", error, code="E_ERROR", most=1.0 - 1e-9)
            ranks = allocated(values, bound)
        else:
            share = check_share("energy", energy, code="E_ENERGY")
            ranks = {path: max(1, holding(found, share)) for path, found in values.items()}
        ranks = {path: max(0, min(ranks[path], max(1, spectra[path].rank))) for path in ranks}
        return _cut(adapter, pairs, spectra, ranks, asked={name: asked[name] for name in chosen})


def allocated(values: Mapping[str, Tensor], bound: float) -> dict[str, int]:
    """Rank of each layer such that the discarded share of sum ||values||^2 is at most bound^2, at the least
    total rank: the globally smallest squares go first (reverse water-filling). At least one value stays.
    """
    paths = list(values)
    squares = torch.cat([values[path].square() for path in paths])
    owner = torch.cat([torch.full((len(values[path]),), i) for i, path in enumerate(paths)])
    order = squares.argsort(stable=True)
    gone = squares[order].cumsum(0) <= bound**2 * squares.sum()
    gone[-1] = False
    counts = torch.bincount(owner[order[~gone]], minlength=len(paths))
    return {path: int(count) for path, count in zip(paths, counts, strict=True)}


def holding(values: Tensor, share: float) -> int:
    """The fewest leading `values` whose squares sum to at least `share` of all; 0 where all are 0."""
    held = values.square().cumsum(0)
    return int((held < share * held[-1]).sum()) + 1 if float(held[-1]) else 0


def _cut(
    adapter: Adapter,
    pairs: Mapping[str, LowRank],
    spectra: Mapping[str, Spectrum],
    ranks: Mapping[str, int],
    *,
    asked: Mapping[str, object],
) -> Resizing:
    layers, made = {}, {}
    for path, spectrum in spectra.items():
        update, rank = pairs[path], ranks[path]
        norm = float(spectrum.values.norm())
        error = float(spectrum.values[rank:].norm()) / norm if norm else 0.0
        layers[path] = Kept(rank, update.rank, error, norm)
        if rank:
            made[path] = as_update(
                *spectrum.factors(rank), update.weight_shape, dtype=result_dtype((update,))
            )
    parent = {"fingerprint": adapter.fingerprint(), "strength": 1.0}
    return Resizing(Adapter(made, provenance("resize", [parent], **asked)), layers)

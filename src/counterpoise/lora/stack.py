"""All the adapters on one layer as a single pair of factors.

In: a layer's entries in canonical order. Out: one down and one up whose product is the sum of all
updates at their strengths; used as two matrix products beside the weight, or added to it.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.lora.acting import Acting
from counterpoise.lora.gates import Gates, Spans
from counterpoise.lora.kinds.dora import DoRA
from counterpoise.lora.layers import Gate, Site
from counterpoise.lora.lowrank import LowRank, product
from counterpoise.lora.update import Update


class Entry(NamedTuple):
    """One adapter's update of one layer."""

    name: str
    update: Update
    strength: float


Entries = tuple[Entry, ...]


def stacked(entries: Entries, *, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """Concatenated down and up of the pairs of factors among the entries, in `dtype`, up's columns times
    scale * strength; None if none acts.

    An entry of strength 0 is left out, so that it is exactly as if it were not mounted.
    """
    acting = [
        (entry.update, factor)
        for entry in entries
        if isinstance(entry.update, LowRank) and (factor := _factor(entry)) != 0.0
    ]
    if not acting:
        return None
    # A caller in inference mode must not make the factors unusable in a later training step.
    with torch.inference_mode(False), torch.no_grad():
        # float64 until the end: a half-precision factor is scaled without a rounding of its own.
        ups = [(update.up.detach().to(device, torch.float64) * factor).to(dtype) for update, factor in acting]
        downs = [update.down.detach().to(device, dtype) for update, _ in acting]
        return torch.cat(downs, 0), torch.cat(ups, 1) if len(ups) > 1 else ups[0]


def acts(entries: Entries) -> bool:
    """Whether `stacked` finds any factors."""
    return any(isinstance(entry.update, LowRank) and _factor(entry) != 0.0 for entry in entries)


def _factor(entry: Entry) -> float:
    return entry.strength and entry.strength * entry.update.scale


def wide_enough(dtype: torch.dtype, own: torch.dtype) -> torch.dtype:
    """What a sum onto weights of dtype `own` is accumulated in, where at least `dtype` is asked for."""
    wide = torch.promote_types(dtype, own)
    # A process that allows TF32 or bfloat16 products would lose bits in float32 ones; float64 is exempt.
    return wide if torch.get_float32_matmul_precision() == "highest" else torch.float64


def dense_update(
    entries: Entries, *, device: torch.device, dtype: torch.dtype, base: Tensor | None = None
) -> Tensor | None:
    """The stack's sum in the weight's shape, computed in `dtype`; None if nothing acts.

    base: W0, for the kinds that need it (`needs_base`).
    """
    pair = stacked(entries, device=device, dtype=dtype)
    rest = dense_rest(entries, device=device, dtype=dtype, base=base)
    if pair is None:
        return rest
    total = product(*pair)
    return total if rest is None else total.add_(rest)


def dense_rest(
    entries: Entries, *, device: torch.device, dtype: torch.dtype, base: Tensor | None = None
) -> Tensor | None:
    """The sum, as `dense_update`, of the updates that are no pair of factors; None if none of them acts."""
    total = None
    for entry in entries:
        if isinstance(entry.update, LowRank) or entry.strength == 0.0:
            continue
        own = entry.update.dense(dtype, base=base).to(device) * entry.strength
        total = own if total is None else total.add_(own)
    return total


def needs_base(entries: Entries) -> bool:
    """Whether an update is relative to W0 (DoRA's norms), so that it cannot be had again without it."""
    return any(isinstance(entry.update, DoRA) and entry.strength != 0.0 for entry in entries)


def low_rank_where_exact(update: Update, *, crossover: int) -> Update:
    """`update` as factors where they are exactly it and cheaper than a weight; else as it is."""
    if isinstance(update, LowRank | DoRA) or update.bias_delta is not None:
        return update
    try:
        found = update.low_rank().update
    except UsageError:
        return update
    return found if found.rank < crossover else update


@final
class StackAtWork:
    """A layer's stack acting while W0 stays as it is: as factors beside the weight, or, for a parameter that
    no output belongs to, or past the rank where factors cost more than a weight, as their sum in its place.
    """

    def __init__(self, site: Site, entries: Entries, gates: Gates) -> None:
        # Nothing is worked out yet: mounting the 200th adapter must cost what the first did.
        self.site = site
        self.entries = entries
        self.gates = gates
        self._acting = Acting(site, beside=self._beside, instead=self._sum)
        self._pairs: dict[bool, tuple[object, tuple[Tensor, Tensor] | None]] = {}
        self._made: tuple[object, Tensor] | None = None

    @cached_property
    def spans(self) -> Spans:
        """As `stacked` takes the entries at strength 1."""
        return tuple((e.name, e.update.rank, e.strength) for e in self.entries if e.update.scale)

    @cached_property
    def by_factors(self) -> bool:
        """Whether factors can act here at all, as they must where gates hold the strengths."""
        return self.site.kind.beside is not None and all(isinstance(e.update, LowRank) for e in self.entries)

    @cached_property
    def _dense(self) -> bool:
        acting = sum(rank for _, rank, strength in self.spans if strength != 0.0)
        return not self.by_factors or acting >= self.site.crossover

    def attach(self) -> None:
        """Begin to act; again is the same."""
        self._acting.attach()

    def detach(self) -> None:
        """Cease; again is the same."""
        self._acting.detach()

    def pair(self, weight: Tensor) -> tuple[Tensor, Tensor] | None:
        """The stack in the weight's dtype on its device, at strength 1 where gates hold the strengths; made
        when first needed, and again after a move."""
        gated, key = self.gates.active, (weight.device, weight.dtype)
        known = self._pairs.get(gated)
        if known is None or known[0] != key:
            entries = tuple(e._replace(strength=1.0) for e in self.entries) if gated else self.entries
            known = self._pairs[gated] = (key, _usable_pair(entries, weight))
        return known[1]

    def _beside(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        pair = self.pair(self.site.weight)
        if pair is None:
            return output
        return add_beside(self.site, args, kwargs, output=output, pair=pair, gate=self._gate)

    def _gate(self, hidden: Tensor) -> Tensor:
        if not self.gates.active:
            return hidden
        groups = getattr(self.site.owner, "groups", 1)
        return self.gates(hidden, self.spans, channels=self.site.kind.channels, groups=groups)

    def _sum(self) -> Tensor | None:
        if not self._dense or (self.by_factors and self.gates.active):
            return None
        weight = self.site.weight
        key = (weight.device, weight.dtype, weight._version, weight.data_ptr())
        if self._made is None or self._made[0] != key:
            exact = wide_enough(torch.float32, weight.dtype)
            with torch.inference_mode(False), torch.no_grad():
                base = weight if needs_base(self.entries) else None
                update = dense_update(self.entries, device=weight.device, dtype=exact, base=base)
                value = weight if update is None else (weight.to(exact) + update).to(weight.dtype)
            self._made = (key, value.detach())
        return self._made[1]


def _usable_pair(entries: Entries, weight: Tensor) -> tuple[Tensor, Tensor] | None:
    pair = stacked(entries, device=weight.device, dtype=weight.dtype)
    if pair is not None and not all(bool(factor.isfinite().all()) for factor in pair):
        # Finite factors can exceed float16 where their product does not.
        pair = stacked(entries, device=weight.device, dtype=torch.float32)
    return pair


def add_beside(
    site: Site,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    output: Tensor,
    pair: tuple[Tensor, Tensor],
    gate: Gate = None,
) -> Tensor:
    """`output` plus the update of the layer's input, in the output's dtype; autocast is obeyed."""
    assert site.kind.beside is not None
    x = args[0] if args else kwargs["input"]
    update = site.kind.beside(site.owner, x, pair, gate)
    return output + update.to(output.dtype)

"""What the algebra takes: adapters and strengths, checked whole before anything is computed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from counterpoise.errors import UsageError, shown
from counterpoise.lora.adapter import Adapter
from counterpoise.lora.algebra.core import Layer
from counterpoise.lora.dialects.spellings import COMPONENTS
from counterpoise.lora.fit import check_reach, check_strength
from counterpoise.lora.lowrank import LowRank
from counterpoise.lora.update import Update

PROVENANCE = "counterpoise.provenance"
"""The metadata entry that says, as JSON, how an adapter was made and from which fingerprints."""


@final
@dataclass(frozen=True, eq=False)
class Members:
    """Adapters at strengths, by index; a layer that one lacks is a zero update."""

    adapters: tuple[Adapter, ...]
    strengths: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.adapters)

    def paths(self) -> list[str]:
        """Every layer that any member touches, sorted."""
        return sorted({path for adapter in self.adapters for path in adapter.layers})

    def shape(self, path: str) -> tuple[int, ...]:
        """The shape of the weight at `path`."""
        return next(a.layers[path].weight_shape for a in self.adapters if path in a.layers)

    def acting(self, path: str) -> list[int]:
        """The members whose update of `path` is not switched off by its strength or alpha."""
        return [
            i
            for i, (adapter, strength) in enumerate(zip(self.adapters, self.strengths, strict=True))
            if path in adapter.layers and strength * adapter.layers[path].scale != 0.0
        ]

    def layer(self, path: str, names: Sequence[str], **rest: Any) -> Layer | None:
        """The acting updates of `path`, or None where there are none."""
        chosen = self.acting(path)
        if not chosen:
            return None
        return Layer(
            path,
            self.shape(path),
            tuple(factors_of(self.adapters[i].layers[path]) for i in chosen),
            tuple(self.strengths[i] for i in chosen),
            owners=tuple(chosen),
            names=tuple(names[i] for i in chosen),
            **rest,
        )


def check_members(members: Iterable[Adapter], strengths: Iterable[float] | None) -> Members:
    """`members` at `strengths` (default: 1 each), or UsageError.

    E_EMPTY without members, E_ADAPTER for what is no Adapter, E_STRENGTH for a wrong number of strengths
    or one that is not finite, E_OVERFLOW past float32, E_SHAPE where two give a layer different shapes,
    E_PREFIX where one names a layer with its component and another without.
    """
    if isinstance(members, Adapter) or not isinstance(members, Iterable):
        raise UsageError(f"expected a list of adapters, got one {type(members).__name__}", code="E_ADAPTER")
    adapters = tuple(members)
    if not adapters:
        raise UsageError("no adapters were given; give at least one", code="E_EMPTY")
    for i, adapter in enumerate(adapters):
        if not isinstance(adapter, Adapter):
            reason = f"member {i + 1} is a {type(adapter).__name__}, expected an Adapter; use Adapter.load"
            raise UsageError(reason, code="E_ADAPTER")
    adapters = tuple(in_factors(adapter) for adapter in adapters)
    asked = (1.0,) * len(adapters) if strengths is None else strengths
    if isinstance(asked, str | Mapping) or not isinstance(asked, Iterable):
        reason = f"strengths are {shown(repr(strengths), 40)}: expected a list, one number a member"
        raise UsageError(reason, code="E_STRENGTH")
    asked = tuple(asked)
    if len(asked) != len(adapters):
        reason = f"{len(asked)} strengths for {len(adapters)} adapters: give one for each, in their order"
        raise UsageError(reason, code="E_STRENGTH")
    checked = tuple(check_strength(f"member {i + 1}", strength) for i, strength in enumerate(asked))
    for adapter, strength in zip(adapters, checked, strict=True):
        check_reach(adapter, strength)
    _check_shapes(adapters)
    _check_prefixes(adapters)
    return Members(adapters, checked)


def in_factors(adapter: Adapter) -> Adapter:
    """The adapter with every update as a pair of factors; UsageError E_INEXACT, naming the layer, where one
    (DoRA, a full difference, a bias) is none: `adapter convert --rank` approximates it, its error stated."""
    layers: dict[str, Update] = {}
    for path, update in adapter.layers.items():
        try:
            layers[path] = update if isinstance(update, LowRank) else update.low_rank().update
        except UsageError as error:
            raise UsageError(f"layer {shown(path)}: {error}", code=error.code) from error
    changed = any(layers[path] is not update for path, update in adapter.layers.items())
    return Adapter(layers, adapter.metadata, adapter.source) if changed else adapter


def factors_of(update: Update) -> LowRank:
    """An update of an adapter that went through `in_factors`."""
    assert isinstance(update, LowRank)
    return update


def label(adapter: Adapter, index: int) -> str:
    """How a message calls the member: its place, and its file if it has one."""
    return f"member {index + 1}" + (f" ({shown(adapter.source, 80)})" if adapter.source else "")


def _check_shapes(adapters: Sequence[Adapter]) -> None:
    first: dict[str, int] = {}
    for i, adapter in enumerate(adapters):
        for path, update in adapter.layers.items():
            other = first.setdefault(path, i)
            shape = adapters[other].layers[path].weight_shape
            if shape != update.weight_shape:
                reason = (
                    f"layer {shown(path)}: {label(adapters[other], other)} updates a weight {list(shape)}, "
                    f"{label(adapter, i)} one {list(update.weight_shape)}; use adapters of one model"
                )
                raise UsageError(reason, code="E_SHAPE")


def _check_prefixes(adapters: Sequence[Adapter]) -> None:
    """ "unet.x" in one and "x" in another are one layer under two names: they would silently not add up."""
    paths = {path for adapter in adapters for path in adapter.layers}
    for path in sorted(paths):
        part, _, rest = path.partition(".")
        if part in COMPONENTS and rest in paths:
            reason = f"one adapter calls a layer {shown(path)}, another {shown(rest)}"
            raise UsageError(f"{reason}; use adapter.prefixed({part!r}) on the latter", code="E_PREFIX")


def check_count(name: str, value: object, *, code: str) -> int:
    """`value` as an int of 1 or more, or UsageError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        reason = f"{name} is {shown(repr(value), 40)}: expected a whole number, 1 or more"
        raise UsageError(reason, code=code)
    return value


def check_seed(seed: object) -> int:
    """`seed` as an int, or UsageError E_SEED."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UsageError(f"seed is {shown(repr(seed), 40)}: expected a whole number", code="E_SEED")
    return seed


def check_share(name: str, value: object, *, code: str, least: float = 0.0, most: float = 1.0) -> float:
    """`value` as a float with least < value <= most, or UsageError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least < value <= most:
        reason = f"{name} is {shown(repr(value), 40)}: expected a number above {least:g} up to {most:g}"
        raise UsageError(reason, code=code)
    return float(value)


def provenance(method: str, parents: Iterable[Mapping[str, object]], **said: object) -> dict[str, str]:
    """The metadata of a made adapter: method, what was asked for, and the parents' fingerprints."""
    asked = {key: value for key, value in said.items() if value is not None}
    text = json.dumps({"method": method, **asked, "parents": list(parents)}, sort_keys=True)
    return {PROVENANCE: text}

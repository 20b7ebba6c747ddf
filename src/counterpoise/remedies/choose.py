"""Rank and strength of a trained repair, chosen by what an audit of the trained templates reads.

Training gives one adapter at one rank. Cut by singular values it is smaller and may repair as well; at a
strength a little off 1 it may repair better. Held-out templates are never drawn here.

Comes in: an adapter, ranks and strengths to try, a look at what an adapter draws. Goes out: the adapter to
keep, its strength in its alpha, and all that was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, LowRank, resize
from counterpoise.remedies.goal import Edit, Goal

NEAR = 0.003  # a smaller rank is taken where its mean distance is at most this much above the best


class Tried(NamedTuple):
    """mean, worst: over the edits, total variation between the cells read and the goal's joint target."""

    rank: int
    strength: float
    mean: float
    worst: float


def distance(edit: Edit, seen: Sequence[float]) -> float:
    """Total variation between an edit's joint target and the cells read, what reads as none of them included.

    seen: for each variant the share of pictures that read as its cell.
    """
    target: dict[tuple[tuple[str, str], ...], float] = {}
    read: dict[tuple[tuple[str, str], ...], float] = {}
    for variant, share in zip(edit.variants, seen, strict=True):
        cell = tuple(edit.cell(variant).items())
        target[cell] = target.get(cell, 0.0) + variant.share
        read[cell] = share
    other = max(0.0, 1.0 - sum(read.values()))
    return 0.5 * (sum(abs(target[cell] - read[cell]) for cell in target) + other)


Look = Callable[[Adapter, str], Sequence[Sequence[float]]]
"""(adapter, a name for it) -> for each edit and variant the share that reads as its cell."""


def choose(
    goal: Goal, adapter: Adapter, look: Look, *, ranks: Sequence[int], strengths: Sequence[float]
) -> tuple[Adapter, tuple[Tried, ...]]:
    """The best strength first, then the smallest rank that is about as good at it.

    ranks: below the adapter's own, which is always tried, at strength 1 among others. UsageError for a rank
    or strength that is not above 0.
    """
    for name, values in (("rank", ranks), ("strength", strengths)):
        bad = [value for value in values if not value > 0]
        if bad:
            raise UsageError(f"{name} {bad[0]!r} to be tried: expected a number above 0", code="E_CHOICE")
    full = max(update.rank for update in _pairs(adapter).values())
    candidates: dict[tuple[int, float], Adapter] = {}
    tried: list[Tried] = []

    def tries(rank: int, strength: float) -> Tried:
        cut = adapter if rank == full else resize(adapter, rank=rank).adapter
        candidates[rank, strength] = strengthened(cut, strength)
        seen = look(candidates[rank, strength], f"{rank}-{strength:g}")
        far = [distance(edit, own) for edit, own in zip(goal.edits, seen, strict=True)]
        tried.append(Tried(rank, strength, sum(far) / len(far), max(far)))
        return tried[-1]

    every = dict.fromkeys((1.0, *strengths))
    best = min((tries(full, strength) for strength in every), key=lambda one: one.mean)
    smaller = [tries(rank, best.strength) for rank in sorted({r for r in ranks if r < full})]
    kept = next((one for one in smaller if one.mean <= best.mean + NEAR), best)
    return candidates[kept.rank, kept.strength], tuple(tried)


def strengthened(adapter: Adapter, strength: float) -> Adapter:
    """The adapter that does at strength 1 what this one does at `strength`."""
    if strength == 1.0:
        return adapter
    layers = {path: replace(pair, alpha=pair.alpha * strength) for path, pair in _pairs(adapter).items()}
    return Adapter(layers, adapter.metadata)


def _pairs(adapter: Adapter) -> Mapping[str, LowRank]:
    return {path: update for path, update in adapter.layers.items() if isinstance(update, LowRank)}

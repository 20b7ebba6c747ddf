"""Rank and strength of a trained repair, chosen by what an audit of the trained templates reads.

Training gives one adapter at one rank. Cut by singular values it is smaller and may repair as well; at a
strength a little off 1 it may repair better. Both are judged edit by edit against what was trained, and what
luck would show as well changes nothing. Held-out templates are never drawn here.

Comes in: an adapter, ranks and strengths to try, a look at what an adapter draws. Goes out: the adapter to
keep, its strength in its alpha, and all that was tried.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, LowRank, resize
from counterpoise.remedies.goal import Edit, Goal

NEAR = 0.01  # a smaller rank may have at most this much more distance in the mean, luck allowed for
LUCK = 2.0  # standard errors of a mean difference, paired by edits


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
    """Strength 1 unless another is nearer beyond luck, then the smallest rank that is not farther by NEAR.

    ranks: below the adapter's own, which is always tried, at strength 1 among others. A goal of one edit
    leaves luck open, so the adapter stays as trained. UsageError for a rank or strength that is not above 0.
    """
    for name, values in (("rank", ranks), ("strength", strengths)):
        bad = [value for value in values if not value > 0]
        if bad:
            raise UsageError(f"{name} {bad[0]!r} to be tried: expected a number above 0", code="E_CHOICE")
    full = max(update.rank for update in _pairs(adapter).values())
    seen: dict[tuple[int, float], list[float]] = {}

    def cut(rank: int, strength: float) -> Adapter:
        return strengthened(adapter if rank == full else resize(adapter, rank=rank).adapter, strength)

    def tries(rank: int, strength: float) -> None:
        read = look(cut(rank, strength), f"{rank}-{strength:g}")
        seen[rank, strength] = [distance(edit, own) for edit, own in zip(goal.edits, read, strict=True)]

    for strength in dict.fromkeys((1.0, *strengths)):
        tries(full, strength)
    trained = seen[full, 1.0]
    nearer = [one for one, far in seen.items() if _at_most(far, trained) < 0]
    best = min(nearer, key=lambda one: sum(seen[one]), default=(full, 1.0))
    smaller = sorted({rank for rank in ranks if rank < full})
    for rank in smaller:
        tries(rank, best[1])
    kept = next((rank for rank in smaller if _at_most(seen[rank, best[1]], seen[best]) <= NEAR), full)
    tried = tuple(Tried(*one, sum(far) / len(far), max(far)) for one, far in seen.items())
    return cut(kept, best[1]), tried


def _at_most(far: Sequence[float], than: Sequence[float]) -> float:
    """How much farther one reading of the edits is than another in the mean, at most: luck added."""
    apart = [a - b for a, b in zip(far, than, strict=True)]
    if len(apart) < 2:
        return math.inf
    return statistics.fmean(apart) + LUCK * statistics.stdev(apart) / len(apart) ** 0.5


def strengthened(adapter: Adapter, strength: float) -> Adapter:
    """The adapter that does at strength 1 what this one does at `strength`."""
    if strength == 1.0:
        return adapter
    layers = {path: replace(pair, alpha=pair.alpha * strength) for path, pair in _pairs(adapter).items()}
    return Adapter(layers, adapter.metadata)


def _pairs(adapter: Adapter) -> Mapping[str, LowRank]:
    return {path: update for path, update in adapter.layers.items() if isinstance(update, LowRank)}

"""Shares for the next round of a repair, from what was read of the last.

A variant's share is multiplied by target over observed. Read one edit at a time, a hundred pictures of ten
variants are mostly luck. Edits of the same cells (a boss, a nurse, ... over presentation and tone) err alike,
since they share the noise's directions: so what they have in common is corrected in full, and what is an
edit's own as far as it stands out of the luck of the readings (James and Stein's shrinkage, by attribute).

Comes in: a goal, shares, readings. Goes out: shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from counterpoise.remedies.goal import Edit, Goal

DAMPING = 0.85
FLOOR = 0.02  # a reading of none is taken as this share, so that no weight runs away
TOGETHER = 3  # edits of the same cells that are worth pooling
PRIOR = 8  # pictures as the target has them, added to each edit's: one of sixteen is no rate of 6 %
# Spread noise and known meanings leave about half of a sample's variance (see `repair.observe_coupled`).
SHARPENED = 0.5

Seen = Sequence[Sequence[float]]
"""For each edit and variant, the share of pictures that read as its cell."""


def corrected(goal: Goal, shares: Sequence[Sequence[float]], observed: Seen) -> list[list[float]]:
    """Each edit by itself; the ratio is taken to the power DAMPING, since what was observed is a sample."""
    found = []
    for edit, old, seen in zip(goal.edits, shares, observed, strict=True):
        pairs = zip(_targets(edit), seen, strict=True)
        found.append(_moved(old, [DAMPING * math.log(target / max(FLOOR, read)) for target, read in pairs]))
    return found


def corrected_together(
    goal: Goal, shares: Sequence[Sequence[float]], observed: Seen, counts: Sequence[int]
) -> list[list[float]]:
    """Edits of the same cells together; counts: the pictures that each edit was read from."""
    found = corrected(goal, shares, observed)
    best = believed(goal, observed, counts)
    for i in (i for members in _pooled(goal) for i in members):
        found[i] = _moved(shares[i], np.log(np.array(_targets(goal.edits[i])) / best[i]))
    return found


def alike(goal: Goal) -> list[list[int]]:
    """The numbers of the edits, those of the same cells and shares together."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, edit in enumerate(goal.edits):
        key = tuple((tuple(edit.cell(variant).items()), variant.share) for variant in edit.variants)
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def believed(goal: Goal, observed: Seen, counts: Sequence[int]) -> list[list[float]]:
    """What edits draw, to the best of the readings: what edits of the same cells have in common, and an
    edit's own as far as it stands out of luck. Edits alone of their kind: as read."""
    found = [list(own) for own in observed]
    for members in _pooled(goal):
        edit = goal.edits[members[0]]
        logs = _logs(edit, [observed[i] for i in members], float(np.mean([counts[i] for i in members])))
        for i, own in zip(members, logs, strict=True):
            found[i] = np.exp(own).tolist()
    return found


def _pooled(goal: Goal) -> list[list[int]]:
    return [members for members in alike(goal) if len(members) >= TOGETHER]


def _logs(edit: Edit, observed: Seen, count: float) -> np.ndarray:
    """Logarithms of the shares that edits like `edit` draw, (edits, variants), from shares read, likewise."""
    seen = (np.array(observed) * count + PRIOR * np.array(_targets(edit))) / (count + PRIOR)
    found = np.tile(np.log(seen.mean(0)), (len(seen), 1))
    for attribute in edit.attributes:
        values = [edit.cell(variant).get(attribute) for variant in edit.variants]
        for value in dict.fromkeys(v for v in values if v is not None):
            mine = np.array([own == value for own in values])
            first = _first_of_each_cell(edit) & mine
            read = seen[:, first].sum(1)
            own = np.log(read / read.mean())
            luck = SHARPENED * (1 - read.mean()) / (count * read.mean())
            apart = float(own.var(ddof=1))
            kept = max(0.0, 1 - luck / apart) if apart > 0 else 0.0
            found[:, mine] += kept * own[:, None]
    return found


def _first_of_each_cell(edit: Edit) -> np.ndarray:
    cells = [edit.cell(variant) for variant in edit.variants]
    return np.array([cells.index(cell) == i for i, cell in enumerate(cells)])


def _targets(edit: Edit) -> list[float]:
    """For each variant the goal's share of its cell."""
    cells = [edit.cell(variant) for variant in edit.variants]
    return [
        sum(other.share for other, cell in zip(edit.variants, cells, strict=True) if cell == own)
        for own in cells
    ]


def _moved(shares: Sequence[float], steps: Sequence[float] | np.ndarray) -> list[float]:
    new = [share * math.exp(step) for share, step in zip(shares, steps, strict=True)]
    return [share / sum(new) for share in new]

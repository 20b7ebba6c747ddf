"""Who stands where: group by place, with a test of whether places are given out by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from counterpoise.scenes.plan import Plan
from counterpoise.scenes.planner import position_table, reading_order

SHUFFLES = 1999


@final
@dataclass(frozen=True, slots=True)
class Places:
    """counts: group by place. statistic: chi-square of the table. p: of a table at least as uneven had places
    been given out by lot inside every picture; expected: the statistic's mean under that."""

    axis: str
    groups: tuple[str, ...]
    places: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    statistic: float
    expected: float
    p: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "axis": self.axis,
            "groups": list(self.groups),
            "places": list(self.places),
            "counts": [list(row) for row in self.counts],
            "chi_square": self.statistic,
            "expected_by_lot": self.expected,
            "p": self.p,
            "method": f"{SHUFFLES} shuffles of people over the places of their own picture",
        }


def places_of(plans: Sequence[Plan], axis: str, *, seed: int = 0) -> Places:
    """The table of an attribute, and the chance of one as uneven by lot.

    People of a picture share its places, so cells are not independent and chi-square's own distribution does
    not hold: people are shuffled inside their pictures instead. Source of p: Phipson and Smyth, SAGMB 9
    (2010), eq. 2.
    """
    groups, places, counts = position_table(plans, axis)
    shapes: dict[int, list[list[int]]] = {}
    for plan in plans:
        own = [person.attributes.get(axis) for person in reading_order(plan)]
        shapes.setdefault(len(own), []).append([-1 if v is None else groups.index(v) for v in own])
    rng = np.random.default_rng([seed, len(plans)])
    tables = [np.array(rows) for rows in shapes.values()]
    observed = sum(_uneven(table, len(groups)) for table in tables)
    shuffled = np.array(
        [sum(_uneven(rng.permuted(table, axis=1), len(groups)) for table in tables) for _ in range(SHUFFLES)]
    )
    p = (1 + int((shuffled >= observed - 1e-9).sum())) / (SHUFFLES + 1)
    kept = tuple(tuple(row) for row in counts)
    return Places(axis, tuple(groups), tuple(places), kept, observed, float(shuffled.mean()), p)


def _uneven(table: np.ndarray, groups: int) -> float:
    """Chi-square of group by place; table (pictures, places) of group numbers, -1 for none."""
    size = table.shape[1]
    cells = np.bincount(
        (table * size + np.arange(size))[table >= 0].ravel(), minlength=groups * size
    ).reshape(groups, size)
    due = cells.sum(1, keepdims=True) * cells.sum(0, keepdims=True) / max(1, cells.sum())
    return float((((cells - due) ** 2)[due > 0] / due[due > 0]).sum())

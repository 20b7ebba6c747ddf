"""A batch of known size over several axes: whole people in every cell, margins within one of their quotas.

One axis is rounded by largest remainders; a table of several by an integer program (controlled rounding):
every cell and every margin becomes the floor or the ceiling of its quota. Two axes always allow that
(Bacharach 1966); of three or more some tables do not, and then margins give way before cells and the least
possible.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import final

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from counterpoise.errors import UsageError

Cell = tuple[str, ...]
MAX_CELLS = 4096
# HiGHS stops by nodes, not by seconds: a time limit would make the result depend on the machine.
_NODES = 2000


def product_table(shares: Sequence[Mapping[str, Fraction]]) -> dict[Cell, Fraction]:
    """Every combination of values with the share that independent axes give it; zero shares are left out.

    UsageError E_SCENE_SHARE for more than 4096 combinations.
    """
    live = [[(value, share) for value, share in axis.items() if share] for axis in shares]
    cells = math.prod(len(axis) for axis in live)
    if cells > MAX_CELLS:
        raise UsageError(
            f"{len(shares)} attributes make {cells} combinations: expected at most {MAX_CELLS}; use fewer "
            "attributes or a state file, whose people are planned one after another",
            code="E_SCENE_SHARE",
        )
    return {
        tuple(value for value, _ in combined): math.prod((share for _, share in combined), start=Fraction(1))
        for combined in itertools.product(*live)
    }


def rounded_table(table: Mapping[Cell, Fraction], n: int, *, seed: int) -> dict[Cell, int]:
    """Whole counts that sum to n for a table of shares that sum to 1; the same seed gives the same counts.

    Cells: the floor or the ceiling of n times their share. Margins of every axis likewise where that is
    possible, else as near as it gets; then those of pairs of axes. Ties are broken by the seed.
    """
    cells = list(table)
    floors = [table[cell] * n // 1 for cell in cells]
    left = [table[cell] * n - floor for cell, floor in zip(cells, floors, strict=True)]
    open_cells = [i for i, remainder in enumerate(left) if remainder]
    if not open_cells:
        return dict(zip(cells, floors, strict=True))
    margins = _margins([cells[i] for i in open_cells], [left[i] for i in open_cells])
    ups = _solved([left[i] for i in open_cells], margins, seed=seed)
    counts = dict(zip(cells, floors, strict=True))
    for i, up in zip(open_cells, ups, strict=True):
        counts[cells[i]] += up
    return counts


def margin(counts: Mapping[Cell, int], axis: int) -> dict[str, int]:
    """One axis's counts out of a table's."""
    found: dict[str, int] = {}
    for cell, count in counts.items():
        found[cell[axis]] = found.get(cell[axis], 0) + count
    return found


@final
@dataclass(frozen=True, slots=True)
class _Margin:
    """members: numbers of its cells. quota: what their remainders sum to. price: of a person out of
    bounds.
    """

    members: tuple[int, ...]
    quota: Fraction
    price: float


def _margins(cells: Sequence[Cell], left: Sequence[Fraction]) -> list[_Margin]:
    axes = range(len(cells[0]))
    groups: dict[tuple[Cell, Cell], list[int]] = {}
    for size in (1, 2):
        if size >= len(cells[0]):
            break  # the cells themselves
        for chosen in itertools.combinations(axes, size):
            for i, cell in enumerate(cells):
                key = (tuple(map(str, chosen)), tuple(cell[axis] for axis in chosen))
                groups.setdefault(key, []).append(i)
    return [
        _Margin(
            tuple(members), sum((left[i] for i in members), Fraction(0)), 1000.0 if len(key[0]) == 1 else 10.0
        )
        for key, members in groups.items()
    ]


def _solved(left: Sequence[Fraction], margins: Sequence[_Margin], *, seed: int) -> list[int]:
    """Which cells get one person more: a 0 or 1 for each remainder, with their sum kept."""
    rng = random.Random(f"rounding {seed}")
    size = len(left)
    # Largest remainders first; the lot decides between equal ones and never against unequal ones.
    gain = [float(remainder) + 1e-4 * rng.random() for remainder in left]
    cost = np.array([-g for g in gain] + [each.price for each in margins])
    rows, low, high = [dict.fromkeys(range(size), 1.0)], [float(sum(left))], [float(sum(left))]
    for i, each in enumerate(margins):
        cells = dict.fromkeys(each.members, 1.0)
        # A person more than the ceiling, or less than the floor, is paid for by a variable of the margin's
        # own.
        rows += [cells | {size + i: -1.0}, cells | {size + i: 1.0}]
        low += [-np.inf, float(math.floor(each.quota))]
        high += [float(math.ceil(each.quota)), np.inf]
    entries = [(r, c, value) for r, row in enumerate(rows) for c, value in row.items()]
    at, columns, values = zip(*entries, strict=True)
    matrix = csr_array((values, (at, columns)), shape=(len(rows), len(cost)))
    found = milp(
        cost,
        integrality=np.r_[np.ones(size), np.zeros(len(margins))],
        bounds=Bounds(0.0, np.r_[np.ones(size), np.full(len(margins), np.inf)]),
        constraints=LinearConstraint(matrix, low, high),
        options={"node_limit": _NODES, "mip_rel_gap": 1e-6},
    )
    if found.x is None:
        return (
            _solved(left, [m for m in margins if m.price > 100], seed=seed)
            if margins
            else _largest(gain, left)
        )
    return [round(value) for value in found.x[:size]]


def _largest(gain: Sequence[float], left: Sequence[Fraction]) -> list[int]:
    order = sorted(range(len(gain)), key=lambda i: -gain[i])[: int(sum(left))]
    return [int(i in order) for i in range(len(gain))]

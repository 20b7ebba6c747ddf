"""Who stands where: places and roles given out so that no group keeps the front row, the centre or the
armband.

Each picture's people are assigned to its places (and roles) by the cheapest assignment, where a place costs
a person what people like them have had of it beyond their share. A table of group by place reports what
came of it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import final

import numpy as np
from scipy.optimize import linear_sum_assignment

from counterpoise.scenes.allocation import Person
from counterpoise.scenes.state import Unit

Tables = list[list[list[int]]]  # for each unit, cells by things


@final
class Placing:
    """Tables that grow with the pictures; begins where a state left off."""

    def __init__(self, units: Sequence[Unit], things: int, tables: Tables | None = None) -> None:
        self._units = units
        self.tables: Tables = (
            [[[0] * things for _ in unit.cells] for unit in units]
            if tables is None
            else [[list(row) for row in table] for table in tables]
        )

    def give(self, people: Sequence[Person], things: Sequence[int | None], *, seed: str) -> list[int]:
        """For each person, which of `things` (a number, or None for nothing) is theirs; counted in the
        tables.

        As many things as people. Equal costs are decided by the seed.
        """
        rng = random.Random(seed)
        cost = np.array([[self._cost(person, thing) for thing in things] for person in people])
        # Far below the least difference of two costs, 1 / the shares' common denominator, at usual targets.
        noise = np.array([[rng.random() for _ in things] for _ in people]) * 1e-6
        _, chosen = linear_sum_assignment(cost + noise)
        for person, column in zip(people, chosen, strict=True):
            thing = things[int(column)]
            if thing is not None:
                for unit, cell in enumerate(person):
                    self.tables[unit][cell][thing] += 1
        return [int(column) for column in chosen]

    def _cost(self, person: Person, thing: int | None) -> float:
        """How much the sum of squared surpluses grows, over all units."""
        if thing is None:
            return 0.0
        total = Fraction(0)
        for unit, cell in enumerate(person):
            given = sum(row[thing] for row in self.tables[unit]) + 1
            surplus = self.tables[unit][cell][thing] - given * self._units[unit].shares[cell]
            total += 2 * surplus + 1
        return float(total)


def place_table(
    people: Sequence[tuple[str, str]], places: Sequence[str]
) -> tuple[list[str], list[list[int]]]:
    """Groups in the order of their first person, and group by place counts, of (group, place) for
    everybody.
    """
    groups = list(dict.fromkeys(group for group, _ in people))
    counts = Counter(people)
    return groups, [[counts[group, place] for place in places] for group in groups]


def table_lines(
    axis: str, groups: Sequence[str], places: Sequence[str], counts: Sequence[Sequence[int]]
) -> list[str]:
    """The table for a terminal, with sums."""
    rows = [[axis, *places, "all"]]
    rows += [[group, *map(str, row), str(sum(row))] for group, row in zip(groups, counts, strict=True)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]

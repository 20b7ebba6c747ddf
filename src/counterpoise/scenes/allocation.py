"""Who is in the pictures: targets in, every person's values out, in an order whose every prefix keeps the
quota.

A stream goes on from a state by Tijdeman's rule; a batch of known size is rounded first and then spread.
The attributes of a stream each keep their own quota; where the rule leaves a choice, it falls on the
combination that has come too seldom, so that attributes are not confounded with each other.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import final

from counterpoise.errors import UsageError
from counterpoise.scenes.rounding import product_table, rounded_table
from counterpoise.scenes.state import Unit
from counterpoise.stats.quota import largest_remainder, safe_next, tijdeman

Person = tuple[int, ...]  # the number of its cell in every unit


@final
@dataclass(frozen=True, slots=True)
class Wish:
    """people: in every picture. pictures: how many. each: whether every picture shows every value."""

    people: int
    pictures: int
    seed: int
    each: bool = False


@final
class Tally:
    """Counts of cells and of pairs of cells, as people come; begins where a state left off."""

    def __init__(self, counts: Sequence[Sequence[int]], pairs: Sequence[Sequence[Sequence[int]]]) -> None:
        self.counts = [list(row) for row in counts]
        self.pairs = [[list(row) for row in table] for table in pairs]

    def add(self, person: Person) -> None:
        """One more of these cells."""
        for unit, cell in enumerate(person):
            self.counts[unit][cell] += 1
        for table, (a, b) in zip(self.pairs, combinations(range(len(person)), 2), strict=True):
            table[person[a]][person[b]] += 1

    @property
    def people(self) -> int:
        """How many there are; 0 where nothing is counted."""
        return sum(self.counts[0]) if self.counts else 0

    def deviation(self, units: Sequence[Unit]) -> Fraction:
        """The furthest of any attribute's values from its target, in people, now."""
        worst = Fraction(0)
        for unit, counts in zip(units, self.counts, strict=True):
            n, had = sum(counts), _margins(unit, counts)
            for axis, shares in unit.margins().items():
                worst = max(worst, *(abs(share * n - had[axis][value]) for value, share in shares.items()))
        return worst


def stream(units: Sequence[Unit], wish: Wish, tally: Tally) -> Iterator[Person]:
    """people x pictures persons that go on from a tally, which is kept up; any prefix is within one of its
    quota.

    UsageError E_SCENE_EACH where not every picture can show every value.
    """
    _check_each(units, wish)
    for number in range(wish.people * wish.pictures):
        if number % wish.people == 0:
            missing = [{i for i, share in enumerate(unit.shares) if share} for unit in units]
        chosen: list[int] = []
        for unit in range(len(units)):
            block = (wish.people - number % wish.people, sorted(missing[unit])) if wish.each else None
            chosen.append(_next(units, unit, chosen, tally=tally, block=block, seed=wish.seed))
            missing[unit].discard(chosen[-1])
        tally.add(tuple(chosen))
        yield tuple(chosen)


def batch(units: Sequence[Unit], wish: Wish) -> list[Person]:
    """people x pictures persons, rounded as a whole and spread evenly over the pictures."""
    n = wish.people * wish.pictures
    if wish.each:
        pairs = [[[0] * len(b.cells) for _ in a.cells] for a, b in combinations(units, 2)]
        return list(stream(units, wish, Tally([[0] * len(unit.cells) for unit in units], pairs)))
    if not units:
        return [()] * n
    if len(units) == 1:
        counts = largest_remainder(units[0].shares, n, seed=wish.seed)
        table: dict[Person, int] = {(cell,): count for cell, count in enumerate(counts)}
    else:
        numbered = [{str(i): share for i, share in enumerate(unit.shares)} for unit in units]
        rounded = rounded_table(product_table(numbered), n, seed=wish.seed)
        table = {tuple(int(i) for i in cell): count for cell, count in rounded.items()}
    return _spread(units, table, n, seed=wish.seed)


def _next(
    units: Sequence[Unit],
    unit: int,
    chosen: Sequence[int],
    *,
    tally: Tally,
    block: tuple[int, list[int]] | None,
    seed: int,
) -> int:
    shares, counts = units[unit].shares, tally.counts[unit]
    joint = len(units[unit].axes) > 1
    if unit == 0 and block is None and not joint:
        return next(tijdeman(shares, 1, counts=counts))
    free = safe_next(shares, counts, block=block)
    if not free:
        raise UsageError(
            f"{units[unit].name}: the people planned so far leave no way to show every value in each "
            "picture and keep the shares; leave out the wish for at least one each, or begin a new state",
            code="E_SCENE_EACH",
        )
    rng = random.Random(f"stream {seed} {tally.people} {unit}")
    before = [(a, table) for table, (a, b) in zip(tally.pairs, _pairs(len(units)), strict=True) if b == unit]

    def surplus(cell: int) -> Fraction:
        return sum(
            (table[chosen[a]][cell] - tally.counts[a][chosen[a]] * shares[cell] for a, table in before),
            Fraction(0),
        )

    ahead = _ahead(units[unit], counts) if joint else [Fraction(0)] * len(shares)
    return min(free, key=lambda cell: (ahead[cell], surplus(cell), rng.random()))


def _ahead(unit: Unit, counts: Sequence[int]) -> list[Fraction]:
    """For each cell of a joint unit, how far its values are ahead of their own shares, in people, all axes
    together: taken where it is least, combinations come in turn and their values too."""
    n, had, shares = sum(counts), _margins(unit, counts), unit.margins()
    over = {axis: {v: had[axis][v] - share * n for v, share in own.items()} for axis, own in shares.items()}
    return [
        sum((over[axis][value] for axis, value in zip(unit.axes, cell, strict=True)), Fraction(0))
        for cell in unit.cells
    ]


def _spread(units: Sequence[Unit], table: dict[Person, int], n: int, *, seed: int) -> list[Person]:
    """The persons of a rounded table in an order that brings each time what is furthest behind."""
    rng = random.Random(f"spread {seed}")
    left = {person: count for person, count in table.items() if count}
    had = [[0] * len(unit.cells) for unit in units]
    order: list[Person] = []
    for t in range(1, n + 1):
        behind = {
            person: sum(
                unit.shares[c] * t - counts[c] for unit, counts, c in zip(units, had, person, strict=True)
            )
            for person in left
        }
        chosen = max(left, key=lambda person: (behind[person], rng.random()))
        order.append(chosen)
        left[chosen] -= 1
        if not left[chosen]:
            del left[chosen]
        for counts, cell in zip(had, chosen, strict=True):
            counts[cell] += 1
    return order


def _check_each(units: Sequence[Unit], wish: Wish) -> None:
    if not wish.each:
        return
    for unit in units:
        live = [(c, s) for c, s in zip(unit.cells, unit.shares, strict=True) if s]
        if len(live) > wish.people:
            raise UsageError(
                f"{unit.name}: {wish.people} people cannot show {len(live)} values at least once each; "
                "plan more people a picture or fewer values",
                code="E_SCENE_EACH",
            )
        rare = min(live, key=lambda item: item[1])
        if wish.pictures > 1 and rare[1] * wish.people < 1:
            raise UsageError(
                f"{unit.name}: {' + '.join(rare[0])} has the share {rare[1]}, less than one of "
                f"{wish.people} people: it cannot be in every picture; raise its share or the number of "
                "people",
                code="E_SCENE_EACH",
            )


def _margins(unit: Unit, counts: Sequence[int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {axis: {} for axis in unit.axes}
    for cell, count in zip(unit.cells, counts, strict=True):
        for axis, value in zip(unit.axes, cell, strict=True):
            found[axis][value] = found[axis].get(value, 0) + count
    return found


def _pairs(size: int) -> list[tuple[int, int]]:
    return list(combinations(range(size), 2))

"""What a stream of plans remembers, so that tomorrow's pictures go on where today's ended: one small
JSON file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Literal, final

from pydantic import Field

from counterpoise.errors import UsageError
from counterpoise.files import write_atomic
from counterpoise.measure.cards import Card, load_json

Cell = tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Unit:
    """What is counted together: one axis, or several in a joint table. shares: one for each cell, in all
    1.
    """

    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    shares: tuple[Fraction, ...]

    @property
    def name(self) -> str:
        """ "skin", or "skin + hair"."""
        return " + ".join(self.axes)

    def margins(self) -> dict[str, dict[str, Fraction]]:
        """axis -> value -> share."""
        found: dict[str, dict[str, Fraction]] = {axis: {} for axis in self.axes}
        for cell, share in zip(self.cells, self.shares, strict=True):
            for axis, value in zip(self.axes, cell, strict=True):
                found[axis][value] = found[axis].get(value, Fraction(0)) + share
        return found


@final
class QuotaState(Card):
    """Counts of everybody planned so far, and of who stood where, under these targets.

    counts: of each unit's cells. pairs: for each two units, cells by cells. places: by the number of people
    of a picture, for each unit, cells by places in reading order. roles: for each unit, cells by roles.
    """

    kind: Literal["counterpoise quota state"] = Field(
        default="counterpoise quota state", description='"counterpoise quota state"'
    )
    version: Literal[1] = Field(default=1, description="1")
    targets: dict[str, dict[str, str]] = Field(description="a table: attribute = shares")
    roles_wanted: dict[str, dict[str, int]] = Field(description="a table: role = counts a picture")
    people: int = Field(strict=True, ge=0, description="a whole number of at least 0")
    pictures: int = Field(strict=True, ge=0, description="a whole number of at least 0")
    counts: list[list[int]] = Field(description="a list of whole numbers for each attribute")
    pairs: list[list[list[int]]] = Field(description="a table of whole numbers for each two attributes")
    places: dict[str, list[list[list[int]]]] = Field(description="tables of whole numbers")
    roles: dict[str, list[list[list[int]]]] = Field(description="tables of whole numbers")


def new_state(units: Sequence[Unit], roles: Mapping[str, Mapping[str, int]]) -> QuotaState:
    """Nobody planned yet."""
    sizes = [len(unit.cells) for unit in units]
    return QuotaState(
        targets=_targets(units),
        roles_wanted={role: dict(counts) for role, counts in roles.items()},
        people=0,
        pictures=0,
        counts=[[0] * size for size in sizes],
        pairs=[[[0] * b for _ in range(a)] for a, b in combinations(sizes, 2)],
        places={},
        roles={
            role: [[[0] * len(counts) for _ in range(size)] for size in sizes]
            for role, counts in roles.items()
        },
    )


def load_state(path: Path, units: Sequence[Unit], roles: Mapping[str, Mapping[str, int]]) -> QuotaState:
    """The state in a file, or a new one where there is no file.

    UsageError E_SCENE_STATE where its targets are others: counts under one target say nothing of another.
    RefusedInputError E_CARD_FILE where it is no state, or was damaged.
    """
    fresh = new_state(units, roles)
    if not path.exists():
        return fresh
    state = load_json(QuotaState, path, what="a state that scene plan --state wrote")
    if (state.targets, state.roles_wanted) != (fresh.targets, fresh.roles_wanted):
        raise UsageError(
            f"{path}: belongs to other targets ({_told(state)}), not to {_told(fresh)}: name another "
            "file, or plan with its targets",
            code="E_SCENE_STATE",
            file=str(path),
        )
    if not _fits(state, fresh):
        raise UsageError(
            f"{path}: its counts do not add up; it was edited or damaged: take a copy, or begin a new file",
            code="E_SCENE_STATE",
            file=str(path),
        )
    return state


def save_state(path: Path, state: QuotaState, *, before: QuotaState) -> None:
    """Write the state so that a kill leaves the old file or the new one.

    before: what was loaded. UsageError E_SCENE_STATE if the file has moved on since: its people would be
    counted for nothing. EnvironmentLackError E_WRITE if the disk refuses.
    """
    if path.exists():
        found = load_json(QuotaState, path, what="a state that scene plan --state wrote")
        if (found.people, found.pictures) != (before.people, before.pictures):
            raise UsageError(
                f"{path}: another planner has gone on from {before.people} people to {found.people}; plan "
                "again",
                code="E_SCENE_STATE",
                file=str(path),
            )
    write_atomic(path, [json.dumps(state.model_dump(), ensure_ascii=False, allow_nan=False).encode(), b"\n"])


def _targets(units: Sequence[Unit]) -> dict[str, dict[str, str]]:
    return {
        unit.name: {" + ".join(cell): str(share) for cell, share in zip(unit.cells, unit.shares, strict=True)}
        for unit in units
    }


def _told(state: QuotaState) -> str:
    parts = [f"{name}: {', '.join(f'{v} {s}' for v, s in t.items())}" for name, t in state.targets.items()]
    parts += [f"{role}: {counts}" for role, counts in state.roles_wanted.items()]
    return "; ".join(parts) or "none"


def _fits(state: QuotaState, fresh: QuotaState) -> bool:
    """Whether the counts have the targets' shape, are counts, and are all of the same people."""
    same = [len(row) for row in state.counts] == [len(row) for row in fresh.counts]
    same &= [[len(r) for r in table] for table in state.pairs] == [[len(r) for r in t] for t in fresh.pairs]
    same &= set(state.roles) == set(fresh.roles)
    same &= all(_shape(state.roles[role]) == _shape(fresh.roles[role]) for role in fresh.roles if same)
    for people, tables in state.places.items():
        same &= people.isdigit() and _shape(tables) == [[int(people)] * len(row) for row in fresh.counts]
    numbers = [n for row in state.counts for n in row]
    numbers += [
        n
        for tables in [state.pairs, *state.places.values(), *state.roles.values()]
        for t in tables
        for r in t
        for n in r
    ]
    sums = all(sum(row) == state.people for row in state.counts)
    sums &= all(sum(map(sum, table)) == state.people for table in state.pairs)
    return same and sums and all(n >= 0 for n in numbers)


def _shape(tables: list[list[list[int]]]) -> list[list[int]]:
    return [[len(row) for row in table] for table in tables]

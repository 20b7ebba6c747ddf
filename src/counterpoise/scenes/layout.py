"""Where people stand: a count and a seed in, one box a person out, in reading order (back row first).

Boxes are pixels (left, top, right, bottom), never overlap, and lie on the profile's multiple.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from itertools import pairwise
from typing import final

from counterpoise.errors import UsageError
from counterpoise.scenes.profiles import CanvasProfile

Box = tuple[int, int, int, int]
# What stays free at every side of a canvas, and how much of the room that a person has is used at most.
_MARGIN, _FILL, _SLIMMEST = 1 / 32, 0.92, 0.75


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """boxes: in reading order. rows: how many people each row has, the back row first."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    rows: tuple[int, ...]

    def row_of(self, slot: int) -> int:
        """The row, 0 at the back, of a place in reading order."""
        return next(i for i in range(len(self.rows)) if slot < sum(self.rows[: i + 1]))


def lay_out(people: int, profile: CanvasProfile, *, seed: int) -> Layout:
    """A layout for 1 to `profile.limit` people; the same seed gives the same boxes.

    UsageError E_SCENE_PEOPLE for other counts, with the limit and its reason.
    """
    check_people(people, profile)
    rows = rows_for(people, most=profile.rows)
    rng = random.Random(f"layout {profile.name} {people} {seed}")
    if profile.person is not None:
        return _fixed(rows, profile, profile.person, rng)
    return _scaled(rows, profile, rng)


def check_people(people: int, profile: CanvasProfile) -> None:
    """UsageError E_SCENE_PEOPLE unless the profile's canvas has room for so many."""
    whole = isinstance(people, int) and not isinstance(people, bool)
    if whole and 1 <= people <= profile.limit:
        return
    why = ""
    if whole and people > profile.limit:
        why = (
            f", since every box needs at least {profile.smallest} px a side (two cells of the model's "
            "coarsest attention grid) to hear its own prompt; plan several pictures instead"
        )
    raise UsageError(
        f"{people!r:.40} people: expected 1 to {profile.limit} on the canvas {profile.name!r}{why}",
        code="E_SCENE_PEOPLE",
    )


def rows_for(people: int, *, most: int) -> tuple[int, ...]:
    """People a row, the back row first: one row up to 4, two up to 8, about a square above; `most` rows."""
    count = min(most, 1 if people <= 4 else 2 if people <= 8 else math.ceil(math.sqrt(people)))
    return tuple((people + i) // count for i in range(count))


def _fixed(rows: tuple[int, ...], profile: CanvasProfile, side: int, rng: random.Random) -> Layout:
    width = side * max(rows)
    boxes: list[Box] = []
    for row, count in enumerate(rows):
        left = 0
        gaps = _shared_out((width - side * count) // profile.multiple, count + 1, rng)
        for gap in gaps[:-1]:
            left += gap * profile.multiple
            boxes.append((left, row * side, left + side, (row + 1) * side))
            left += side
    return Layout(width, side * len(rows), tuple(boxes), rows)


def _scaled(rows: tuple[int, ...], profile: CanvasProfile, rng: random.Random) -> Layout:
    step, least = profile.multiple, profile.smallest
    margin = _down(_margin(rows, profile), step)
    scales = [profile.shrink ** (len(rows) - 1 - row) for row in range(len(rows))]
    room = profile.height - 2 * margin
    boxes: list[Box] = []
    top = margin
    for row, count in enumerate(rows):
        last = row == len(rows) - 1
        band = profile.height - margin - top if last else _down(room * scales[row] / sum(scales), step)
        slot = (profile.width - 2 * margin) / count
        high = max(least, _down(band * (1.0 if len(rows) > 1 else _FILL), step))
        wide = max(least, _down(min(slot * _FILL * scales[row], high * _SLIMMEST), step))
        for i in range(count):
            start, end = _up(margin + i * slot, step), _down(margin + (i + 1) * slot, step)
            left = start + step * rng.randint(0, max(0, (end - start - wide) // step))
            drop = step * rng.randint(0, max(0, (band - high) // step))
            boxes.append((left, top + drop, left + wide, top + drop + high))
        top += band
    return Layout(profile.width, profile.height, tuple(boxes), rows)


def _margin(rows: tuple[int, ...], profile: CanvasProfile) -> float:
    """The usual margin, or what the smallest boxes leave of it."""
    tight = min(profile.width - max(rows) * profile.smallest, profile.height - len(rows) * profile.smallest)
    return min(_MARGIN * profile.width, tight / 2)


def _shared_out(units: int, gaps: int, rng: random.Random) -> list[int]:
    """`units` over `gaps`, every way equally likely."""
    bars = sorted(rng.sample(range(units + gaps - 1), gaps - 1))
    edges = [-1, *bars, units + gaps - 1]
    return [after - before - 1 for before, after in pairwise(edges)]


def _down(length: float, step: int) -> int:
    return int(length // step) * step


def _up(length: float, step: int) -> int:
    return int(-(-length // step)) * step

"""Boxes as a judge reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from counterpoise.measure.reading import Measurer
from counterpoise.scenes.mending import crop
from counterpoise.scenes.plan import Plan
from counterpoise.scenes.rendering import asked_of

Read = Mapping[str, str | None]  # attribute -> value, None where the judge abstained
AT_ONCE = 1024  # boxes


@final
@dataclass(frozen=True, slots=True)
class Seen:
    """One picture. read: for each person of the plan, what was read in their box. people: how many were
    counted in the picture, None where nobody counts."""

    name: str
    plan: Plan
    read: tuple[Read, ...]
    people: int | None = None

    def asked(self, judged: Mapping[str, tuple[str, ...]]) -> list[dict[str, str]]:
        """For each person, the planned attributes of which the judge can say whether they came."""
        return [asked_of(person, judged) for person in self.plan.people]


def read_boxes(
    pictures: Sequence[np.ndarray],
    plans: Sequence[Plan],
    judge: Measurer,
    *,
    side: int,
    names: Sequence[str] | None = None,
) -> list[Seen]:
    """Everything that the judge reads in every box; pictures uint8 (height, width, 3), side: of its crops.

    People are counted by rule in the world's pictures, and in no others.
    """
    crops = [
        crop(picture, plan.pixels(person), side)
        for picture, plan in zip(pictures, plans, strict=True)
        for person in plan.people
    ]
    rows: list[Read] = []
    for start in range(0, len(crops), AT_ONCE):
        readings = judge(np.stack(crops[start : start + AT_ONCE]))
        rows += [{name: each.value for name, each in reading.items()} for reading in readings]
    found, at = [], 0
    for i, (picture, plan) in enumerate(zip(pictures, plans, strict=True)):
        own = tuple(rows[at : at + len(plan.people)])
        at += len(plan.people)
        found.append(Seen(str(i) if names is None else names[i], plan, own, counted(picture, plan)))
    return found


def counted(picture: np.ndarray, plan: Plan) -> int | None:
    """People in a picture of the world, by rule; None for other pictures."""
    if plan.provenance.profile != "world":
        return None
    from counterpoise.world.count import find_people

    return len(find_people(picture))

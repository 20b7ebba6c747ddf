"""What is to be drawn: a canvas, a base prompt, and people, each with a box and a prompt of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, final

from counterpoise.errors import UsageError

Box = tuple[float, float, float, float]
Convention = Literal["xyxy_pixels", "xyxy_normalised"]
MOST = 64  # people; more is taken for a mistake of the caller


@final
@dataclass(frozen=True, slots=True)
class Figure:
    """One person. box: left, top, right, bottom, in the scene's convention, from the top left corner.

    negative: None takes the scene's. adapter: the name under which one is mounted that acts on this person
    alone. z: where boxes overlap the higher one is in front; at equal z the nearer centre has the token.
    attributes: what a judge should read in the box, attribute -> value.
    """

    box: Box
    prompt: str
    negative: str | None = None
    adapter: str | None = None
    z: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True)
class Scene:
    """width, height: of the canvas in pixels. prompt: what belongs to nobody alone (count, class, place; no
    person's attributes). boxes: whether they are in pixels or in fractions of width and height."""

    width: int
    height: int
    prompt: str
    people: tuple[Figure, ...]
    negative: str = ""
    boxes: Convention = "xyxy_pixels"

    def fractions(self) -> tuple[Box, ...]:
        """Every box in fractions of width and height."""
        if self.boxes == "xyxy_normalised":
            return tuple(person.box for person in self.people)
        size = (self.width, self.height, self.width, self.height)
        return tuple(
            tuple(edge / of for edge, of in zip(person.box, size, strict=True))  # type: ignore[misc]
            for person in self.people
        )


def check_scene(scene: Scene) -> None:
    """UsageError E_PEOPLE for nobody or too many, E_BOX for a box of no area or outside the canvas."""
    if not 1 <= len(scene.people) <= MOST:
        reason = f"the scene has {len(scene.people)} people: expected 1 to {MOST}"
        raise UsageError(f"{reason}; a picture without people needs no regional sampler", code="E_PEOPLE")
    if scene.boxes not in ("xyxy_pixels", "xyxy_normalised"):
        reason = f"boxes are {scene.boxes!r}: expected xyxy_pixels or xyxy_normalised"
        raise UsageError(reason, code="E_BOX")
    for number, (person, box) in enumerate(zip(scene.people, scene.fractions(), strict=True), 1):
        if len(box) != 4 or not all(math.isfinite(edge) for edge in box):
            raise _box_error(scene, number, person.box, "expected four finite numbers")
        left, top, right, bottom = box
        if not (left < right and top < bottom):
            raise _box_error(scene, number, person.box, "it has no area: expected left < right, top < bottom")
        if min(left, top) < -1e-9 or max(right, bottom) > 1 + 1e-9:
            raise _box_error(scene, number, person.box, "it reaches outside the canvas")


def _box_error(scene: Scene, number: int, box: object, why: str) -> UsageError:
    canvas = f"canvas {scene.width} x {scene.height}, {scene.boxes}"
    return UsageError(f"box of person {number} is {box}: {why} ({canvas})", code="E_BOX")


def pixels(scene: Scene) -> tuple[tuple[int, int, int, int], ...]:
    """Every box in whole pixels: left, top, right, bottom."""
    size = (scene.width, scene.height, scene.width, scene.height)
    return tuple(
        tuple(round(edge * of) for edge, of in zip(box, size, strict=True))  # type: ignore[misc]
        for box in scene.fractions()
    )

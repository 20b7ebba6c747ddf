"""What the remedies' tests share: a goal and a judge for the tiny pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from counterpoise.measure.reading import Reading
from counterpoise.remedies.goal import Goal


class Hue:
    """A judge of the tiny pipeline's pictures: whether their green is above their red."""

    name = "hue"
    version = "1"
    attributes = {"hue": ("green", "red")}  # noqa: RUF012

    def __call__(self, images: np.ndarray) -> Sequence[dict[str, Reading]]:
        means = images.reshape(len(images), -1, 3).mean(1)
        return [{"hue": Reading("green" if g > r else "red", 1.0)} for r, g, _ in means]


RAW: dict[str, Any] = {
    "templates": ["a portrait of {}", "a {}"],
    "held_out": ["of {}"],
    "keep": ["portrait"],
    "edit": [
        {
            "neutral": "a woman",
            "attribute": "hue",
            "variants": [
                {"phrase": "a red woman", "reads": "red", "share": 0.25},
                {"phrase": "a green woman", "reads": "green", "share": 0.75},
            ],
        }
    ],
}
GOAL = Goal.model_validate(RAW)


def goal(**changes: Any) -> Goal:
    return Goal.model_validate({**RAW, **changes})


# All of the tiny pipeline's pictures are red, so both variants are reached and the target is where it is.
REACHED = goal(
    edit=[
        {
            "neutral": "a woman",
            "attribute": "hue",
            "variants": [
                {"phrase": "a woman in red", "reads": "red", "share": 0.5},
                {"phrase": "a woman with a red hat", "reads": "red", "share": 0.5},
            ],
        }
    ]
)

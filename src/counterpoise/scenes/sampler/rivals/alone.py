"""The ceiling: each person drawn alone, on a canvas of the box's size, and pasted over a plain picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from counterpoise.scenes.sampler.drawing import ScenePainter
from counterpoise.scenes.sampler.rivals.plain import plain
from counterpoise.scenes.sampler.scene import Scene, check_scene, pixels
from counterpoise.scenes.sampler.seeds import sub_seed


def alone(painter: ScenePainter, scenes: Sequence[Scene], seeds: Sequence[int]) -> list[np.ndarray]:
    """uint8 (height, width, 3) a scene; every person has a seed of their own. Calls count in `painter`."""
    by_itself = replace(painter, hold=plain(), calls=0)
    pictures = by_itself(scenes, seeds)
    people = [(s, i) for s, scene in enumerate(scenes) for i in range(len(scene.people))]
    own, own_seeds = [], []
    for s, i in people:
        check_scene(scenes[s])
        left, top, right, bottom = pixels(scenes[s])[i]
        person = scenes[s].people[i]
        negative = scenes[s].negative if person.negative is None else person.negative
        own.append(Scene(right - left, bottom - top, person.prompt, (), negative))
        own_seeds.append(sub_seed(seeds[s], i))
    for (s, i), drawn in zip(people, by_itself(own, own_seeds), strict=True):
        left, top, right, bottom = pixels(scenes[s])[i]
        pictures[s][top:bottom, left:right] = drawn
    painter.calls += by_itself.calls
    return pictures

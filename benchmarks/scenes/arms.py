"""The ways that are compared: one row an arm. A way gets a painter and a set, and returns pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np

from benchmarks.scenes.sets import Set, everybody
from counterpoise.measure.reading import Measurer
from counterpoise.scenes.mending import draw_and_mend
from counterpoise.scenes.plan import Plan
from counterpoise.scenes.rendering import regional_of, scene_of
from counterpoise.scenes.sampler.drawing import ScenePainter
from counterpoise.scenes.sampler.hold import Hold, regional
from counterpoise.scenes.sampler.rivals.alone import alone
from counterpoise.scenes.sampler.rivals.blending import blended
from counterpoise.scenes.sampler.rivals.concat import concatenated
from counterpoise.scenes.sampler.rivals.plain import plain
from counterpoise.scenes.sampler.scene import Scene
from counterpoise.world.drawing import SIZE


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """How everything is drawn; the sampler's own settings are those of the plans."""

    guidance: float = 2.0
    steps: int = 10
    batch_size: int = 10
    dtype: str = "float32"


@final
@dataclass(frozen=True, slots=True)
class Part:
    """What a way made of some plans of a set. again: calls for boxes drawn again, of them all; tries: every
    attempt at a box."""

    pictures: Sequence[np.ndarray]
    calls: int
    again: int = 0
    tries: Sequence[dict[str, Any]] = field(default_factory=tuple)


Draw = Callable[[ScenePainter, Set, Sequence[int], Measurer], Part]


@final
@dataclass(frozen=True, slots=True)
class Arm:
    """name; says: what it is; draw: a painter whose hold is not set, a set, numbers of its plans, the judge.
    batches: how many batches are drawn at once, so that what is mended fills them."""

    name: str
    says: str
    draw: Draw
    batches: int = 1


def scenes_of(own: Set, numbers: Sequence[int], judge: Measurer) -> list[Scene]:
    """The plans' scenes, asked for what the judge reads."""
    judged = {name: tuple(values) for name, values in judge.attributes.items()}
    return [scene_of(own.plans[i], judged=judged) for i in numbers]


def _seeds(own: Set, numbers: Sequence[int]) -> list[int]:
    return [own.plans[i].render.seed for i in numbers]


def _by(hold: Callable[[Plan], Hold]) -> Draw:
    def draw(painter: ScenePainter, own: Set, numbers: Sequence[int], judge: Measurer) -> Part:
        made = replace(painter, hold=hold(own.plans[numbers[0]]), calls=0)
        return Part(made(scenes_of(own, numbers, judge), _seeds(own, numbers)), made.calls)

    return draw


def _worded(words: Callable[[Set, Plan], str]) -> Draw:
    """The stock pipeline, one prompt a picture."""

    def draw(painter: ScenePainter, own: Set, numbers: Sequence[int], judge: Measurer) -> Part:
        scenes = scenes_of(own, numbers, judge)
        told = [replace(s, prompt=words(own, own.plans[i])) for s, i in zip(scenes, numbers, strict=True)]
        made = replace(painter, hold=plain(), calls=0)
        return Part(made(told, _seeds(own, numbers)), made.calls)

    return draw


def _alone(painter: ScenePainter, own: Set, numbers: Sequence[int], judge: Measurer) -> Part:
    made = replace(painter, calls=0)
    return Part(alone(made, scenes_of(own, numbers, judge), _seeds(own, numbers)), made.calls)


def _mended(painter: ScenePainter, own: Set, numbers: Sequence[int], judge: Measurer) -> Part:
    made = replace(painter, hold=regional(regional_of(own.plans[numbers[0]])), calls=0)
    found = draw_and_mend(made, scenes_of(own, numbers, judge), _seeds(own, numbers), judge, size=SIZE)
    tries = [
        {
            "i": numbers[one.scene],
            "person": one.person,
            "attempt": one.attempt,
            "wrong": one.wrong,
            "kept": one.kept,
        }
        for one in found.attempts
    ]
    return Part(found.pictures, found.calls, found.redrawing_calls, tries)


def _permuted(painter: ScenePainter, own: Set, numbers: Sequence[int], judge: Measurer) -> Part:
    scenes = []
    for scene, i in zip(scenes_of(own, numbers, judge), numbers, strict=True):
        order = derangement(len(scene.people), own.plans[i].render.seed)
        people = tuple(
            replace(person, prompt=scene.people[j].prompt)
            for person, j in zip(scene.people, order, strict=True)
        )
        scenes.append(replace(scene, people=people))
    made = replace(painter, hold=regional(regional_of(own.plans[numbers[0]])), calls=0)
    return Part(made(scenes, _seeds(own, numbers)), made.calls)


def derangement(count: int, seed: int) -> list[int]:
    """Numbers 0 to count - 1 in an order that leaves none in its place: whose prompt each box gets."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(count).tolist()
        if all(i != j for i, j in enumerate(order)):
            return order


HOLDS: dict[str, Callable[[Plan], Hold]] = {
    "concatenated": lambda plan: concatenated(),
    "blended": lambda plan: blended(),
    "ours": lambda plan: regional(regional_of(plan)),
}
ARMS = {
    arm.name: arm
    for arm in (
        Arm("plain", "one plain prompt", _worded(lambda own, plan: own.plain)),
        Arm("everybody", "one prompt that lists everybody", _worded(lambda own, plan: everybody(plan))),
        Arm("concatenated", "all prompts in one sequence, masked", _by(HOLDS["concatenated"])),
        Arm("blended", "a prediction a person, blended by box", _by(HOLDS["blended"])),
        Arm("ours", "token groups and a fence", _by(HOLDS["ours"])),
        Arm("ours+repair", "ours, failing boxes drawn again", _mended, batches=5),
        Arm("alone", "each person alone, pasted: the ceiling", _alone),
        Arm("placebo", "ours, prompts permuted over boxes after planning", _permuted),
    )
}

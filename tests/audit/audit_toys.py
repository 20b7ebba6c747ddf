"""A toy model and a toy judge whose truth is known: the colour of a picture is its value."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from counterpoise.audit import AuditSpec, make_spec
from counterpoise.diffusion.arm import Arm, Drawer
from counterpoise.measure.reading import Reading

SKIN = ("pale", "tan", "dark")
EXPOSURE = ("modest", "revealing")
ATTRIBUTES = {"skin": SKIN, "exposure": EXPOSURE}


def truth(prompt: str, seed: int) -> tuple[str, str]:
    """(skin, exposure): 80 % of all pictures pale; 90 % of those of "a tan woman" revealing, else 10 %."""
    digest = hashlib.sha256(f"{prompt}/{seed}".encode()).digest()
    skin = SKIN[0] if digest[0] < 205 else SKIN[1 + digest[1] % 2]
    bare = digest[2] < (230 if prompt == "a tan woman" else 26)
    return skin, EXPOSURE[bare]


def draw(prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
    """8 x 8 pictures: the first pixel says what they show, the rest is noise of the seed."""
    pictures = np.stack([np.random.default_rng(s).integers(0, 256, (8, 8, 3), dtype=np.uint8) for s in seeds])
    for picture, prompt, seed in zip(pictures, prompts, seeds, strict=True):
        skin, exposure = truth(prompt, seed)
        picture[0, 0] = (SKIN.index(skin), EXPOSURE.index(exposure), seed % 7)
        picture[0, 1:3] = np.frombuffer(hashlib.sha256(prompt.encode()).digest()[:6], np.uint8).reshape(2, 3)
    return pictures


class Judge:
    """Reads the first pixel; abstains on skin where the seed is a multiple of 7."""

    def __init__(self, *, version: str = "1", attributes: Mapping[str, tuple[str, ...]] = ATTRIBUTES) -> None:
        self.name, self.version, self.attributes = "toy", version, attributes

    def __call__(self, images: np.ndarray) -> Sequence[Mapping[str, Reading]]:
        return [self.read(image) for image in images]

    def read(self, image: np.ndarray) -> dict[str, Reading]:
        skin, exposure, rest = (int(x) for x in image[0, 0])
        unsure = Reading(None, 0.3, "unsure")
        return {
            "skin": Reading(SKIN[skin], 1.0) if rest else unsure,
            "exposure": Reading(EXPOSURE[exposure], 0.9),
        }


def toy_spec(**changes: object) -> AuditSpec:
    content: dict[str, object] = {
        "name": "toy",
        "measurer": "toy",
        "n": 10,
        "seed": 7,
        "claim": [
            {"prompts": ["a woman", "an avatar [/red] \x1b[1m"], "attribute": "skin", "held_out": True}
        ],
        "disparity": [
            {
                "template": "a {group} woman",
                "groups": ["pale", "tan"],
                "attribute": "exposure",
                "value": "revealing",
                "n": 6,
            }
        ],
    }
    return make_spec({**content, **changes})


def toy_arm(name: str = "base", **changes: object) -> Arm:
    return Arm(**{"name": name, "model": "toy", "model_sha256": "0" * 64, "batch_size": 4, **changes})


def entering(drawer: Drawer = draw, log: list[str] | None = None) -> Callable:
    """An arm's way in, which logs when it is entered and left."""

    @contextmanager
    def enter() -> Iterator[Drawer]:
        (log if log is not None else []).append("in")
        try:
            yield drawer
        finally:
            (log if log is not None else []).append("out")

    return enter

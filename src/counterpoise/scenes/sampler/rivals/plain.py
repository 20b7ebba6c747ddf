"""Rivals without boxes: one plain prompt, or one prompt that lists everybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from counterpoise.scenes.sampler.hold import Hold, Inputs
from counterpoise.scenes.sampler.scene import Scene
from counterpoise.scenes.sampler.texts import Texts, base_inputs


def everybody(scene: Scene) -> str:
    """The base prompt and every person's, in order."""
    return f"{scene.prompt}: {' and '.join(person.prompt for person in scene.people)}"


def plain(words: Callable[[Scene], str] | None = None) -> Hold:
    """The stock pipeline with one prompt a scene: its base prompt, or what `words` says of it."""

    @contextmanager
    def hold(texts: Texts, scenes: Sequence[Scene], *, guided: bool) -> Iterator[Inputs]:
        if words is not None:
            scenes = [replace(scene, prompt=words(scene)) for scene in scenes]
        yield base_inputs(texts, scenes, guided=guided)

    return hold

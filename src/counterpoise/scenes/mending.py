"""Check and repair: every box is read, and only boxes that fail are drawn again.

In: a painter, scenes whose people say what should be read, and a judge. Out: pictures and a log of every
attempt. A box is drawn again by diffusers' own inpainting (masked re-noising: outside the box the known
latents, noised to each step's level, come back after every step), with the same regional prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.measure.reading import Measurer
from counterpoise.scenes.sampler.drawing import ScenePainter
from counterpoise.scenes.sampler.families import family_of, unpacked
from counterpoise.scenes.sampler.owners import owners
from counterpoise.scenes.sampler.scene import Scene, pixels
from counterpoise.scenes.sampler.seeds import sub_seed
from counterpoise.scenes.sampler.settings import STRENGTH, TRIES

GREY = (128, 128, 128)


@final
@dataclass(frozen=True, slots=True)
class Attempt:
    """One drawing of one box as the judge read it. scene, person: numbers from 0. attempt: 0 is the first
    drawing. seed: of its noise. asked, read: attribute -> value (None where the judge abstained). kept:
    whether the picture holds it in the end."""

    scene: int
    person: int
    attempt: int
    seed: int
    asked: Mapping[str, str]
    read: Mapping[str, str | None]
    kept: bool

    @property
    def wrong(self) -> int:
        """Attributes that were not read as asked."""
        return sum(self.read[name] != value for name, value in self.asked.items())


@final
@dataclass(frozen=True, slots=True)
class Mended:
    """pictures: uint8 (height, width, 3) a scene. attempts: by scene, person and attempt. calls: of the
    denoiser, first drawings included; redrawing_calls: those of the redrawing alone."""

    pictures: list[np.ndarray]
    attempts: tuple[Attempt, ...]
    calls: int
    redrawing_calls: int


def draw_and_mend(
    painter: ScenePainter,
    scenes: Sequence[Scene],
    seeds: Sequence[int],
    judge: Measurer,
    *,
    size: int,
    strength: float = STRENGTH,
    tries: int = TRIES,
) -> Mended:
    """Draws the scenes and draws failing boxes again, at most `tries` times, each time with a new sub-seed.

    size: pixels a side of the pictures that the judge reads. strength: of the noise that a box goes back to,
    1 is drawing it from nothing. A new drawing is kept if fewer attributes are wrong in it. UsageError
    E_ATTRIBUTE for an attribute that the judge does not read, E_STRENGTH outside (0, 1].
    """
    _check(scenes, judge, strength=strength, tries=tries)
    before = painter.calls
    latents: dict[int, Tensor] = {}
    for numbers, drawn in painter.batches(scenes, seeds):
        latents.update(zip(numbers, drawn, strict=False))
    first = painter.calls
    pictures = _decoded(painter, scenes, latents, range(len(scenes)))
    everybody = [(s, i) for s, scene in enumerate(scenes) for i in range(len(scene.people))]
    log = {
        (s, i): [Attempt(s, i, 0, seeds[s], scenes[s].people[i].attributes, read, True)]
        for (s, i), read in _read(scenes, pictures, everybody, judge=judge, size=size).items()
    }
    for attempt in range(1, tries + 1):
        failing = [box for box in everybody if _held(log[box]).wrong]
        if not failing:
            break
        who = sorted({s for s, _ in failing})
        sub = {s: sub_seed(seeds[s], attempt) for s in who}
        tried = _again(painter, scenes, latents, failing, seeds=sub, strength=strength)
        shown = _decoded(painter, scenes, tried, who)
        for box, read in _read(scenes, shown, failing, judge=judge, size=size).items():
            s, i = box
            own = Attempt(s, i, attempt, sub[s], scenes[s].people[i].attributes, read, True)
            if own.wrong < _held(log[box]).wrong:
                log[box] = [_dropped(old) for old in log[box]] + [own]
                mine = _mask(scenes[s], [i], tried[s])
                latents[s] = torch.where(mine, tried[s], latents[s])
            else:
                log[box].append(_dropped(own))
        pictures |= _decoded(painter, scenes, latents, who)
    attempts = tuple(own for box in everybody for own in log[box])
    return Mended(
        [pictures[s] for s in range(len(scenes))], attempts, painter.calls - before, painter.calls - first
    )


def _again(
    painter: ScenePainter,
    scenes: Sequence[Scene],
    latents: Mapping[int, Tensor],
    failing: Sequence[tuple[int, int]],
    *,
    seeds: Mapping[int, int],
    strength: float,
) -> dict[int, Tensor]:
    """Latents of the scenes that have failing boxes, these boxes drawn again."""
    from diffusers import AutoPipelineForInpainting

    stock = AutoPipelineForInpainting.from_pipe(painter.pipeline)
    stock.set_progress_bar_config(disable=True)
    boxes: dict[int, list[int]] = {}
    for s, i in failing:
        boxes.setdefault(s, []).append(i)
    who = sorted(boxes)
    found: dict[int, Tensor] = {}
    for chunk in painter.chunks([scenes[s] for s in who]):
        numbers = [who[k] for k in painter.filled(chunk)]
        drawn = _inpainted(
            painter,
            stock,
            [scenes[s] for s in numbers],
            torch.stack([latents[s] for s in numbers]),
            masks=torch.stack([_mask(scenes[s], boxes[s], latents[s]) for s in numbers]),
            seeds=[seeds[s] for s in numbers],
            strength=strength,
        )
        found.update({s: drawn[row] for row, s in enumerate(numbers)})
    return found


@torch.no_grad()
def _inpainted(
    painter: ScenePainter,
    stock: Any,
    scenes: Sequence[Scene],
    latents: Tensor,
    *,
    masks: Tensor,
    seeds: Sequence[int],
    strength: float,
) -> Tensor:
    """Latents (n, channels, h, w) with what lies in masks (n, 1, h, w) drawn again; the rest is untouched."""
    first, family = scenes[0], family_of(painter.pipeline)
    white = masks.float().repeat_interleave(first.height // masks.shape[2], 2)
    with painter.holding(scenes) as inputs:
        drawn = stock(
            **inputs,
            image=latents,
            masked_image_latents=latents,  # unread by these models, but else made of an image that is none
            mask_image=white.repeat_interleave(first.width // masks.shape[3], 3),
            height=first.height,
            width=first.width,
            strength=strength,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            num_inference_steps=painter.steps,
            output_type="latent",
            **{family.guidance: painter.guidance, **painter.options},
        ).images
    drawn = unpacked(painter.pipeline, drawn, first.width, first.height)
    return torch.where(masks, drawn, latents)


def _mask(scene: Scene, people: Sequence[int], latent: Tensor) -> Tensor:
    """bool (1, h, w): the latent cells of these people."""
    grid = (latent.shape[-2], latent.shape[-1])
    owner = owners(scene, grid).reshape(1, *grid)
    return torch.isin(owner, torch.tensor(list(people))).to(latent.device)


def _decoded(
    painter: ScenePainter, scenes: Sequence[Scene], latents: Mapping[int, Tensor], who: Sequence[int]
) -> dict[int, np.ndarray]:
    found: dict[int, np.ndarray] = {}
    for chunk in painter.chunks([scenes[s] for s in who]):
        numbers = [who[k] for k in painter.filled(chunk)]
        pictures = painter.decode(torch.stack([latents[s] for s in numbers]))
        found.update({s: pictures[row] for row, s in enumerate(numbers)})
    return found


def _read(
    scenes: Sequence[Scene],
    pictures: Mapping[int, np.ndarray],
    boxes: Sequence[tuple[int, int]],
    *,
    judge: Measurer,
    size: int,
) -> dict[tuple[int, int], dict[str, str | None]]:
    """What the judge reads of each box's asked attributes."""
    crops = np.stack([crop(pictures[s], pixels(scenes[s])[i], size) for s, i in boxes])
    return {
        (s, i): {name: reading[name].value for name in scenes[s].people[i].attributes}
        for (s, i), reading in zip(boxes, judge(crops), strict=True)
    }


def crop(picture: np.ndarray, box: tuple[int, int, int, int], size: int) -> np.ndarray:
    """The box of a picture as uint8 (size, size, 3), resampled unless it has that size already; a box that is
    no square keeps its proportions, on grey."""
    left, top, right, bottom = box
    cut = picture[top:bottom, left:right]
    if cut.shape[:2] == (size, size):
        return cut
    fitted = ImageOps.pad(Image.fromarray(cut), (size, size), Image.Resampling.LANCZOS, color=GREY)
    return np.asarray(fitted)


def _held(attempts: Sequence[Attempt]) -> Attempt:
    return next(own for own in attempts if own.kept)


def _dropped(own: Attempt) -> Attempt:
    return Attempt(own.scene, own.person, own.attempt, own.seed, own.asked, own.read, False)


def _check(scenes: Sequence[Scene], judge: Measurer, *, strength: float, tries: int) -> None:
    if not 0 < strength <= 1:
        reason = f"strength is {strength}: expected above 0 and at most 1"
        raise UsageError(f"{reason}; 1 draws a failing box from nothing", code="E_STRENGTH")
    if tries < 0:
        raise UsageError(f"tries is {tries}: expected 0 or more", code="E_TRIES")
    for scene in scenes:
        for number, person in enumerate(scene.people, 1):
            for name, value in person.attributes.items():
                if value not in judge.attributes.get(name, ()):
                    known = ", ".join(judge.attributes.get(name, judge.attributes))
                    reason = f"person {number} is to be read as {name} = {value!r}, which judge {judge.name}"
                    raise UsageError(f"{reason} cannot say; it knows {known}", code="E_ATTRIBUTE")

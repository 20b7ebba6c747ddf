"""Rival: a prediction for the whole picture from each person's prompt, blended by their boxes.

MultiDiffusion's regions (arXiv:2302.08113, region_based.py), blended as Mixture of Diffusers does
(arXiv:2302.02412): predictions instead of samples, so that any scheduler works. During the first share of the
steps a person's prediction is made with a noised plain colour around the box, which keeps people inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.scenes.sampler.families import latent_shape
from counterpoise.scenes.sampler.hold import Hold, Inputs, checked_levels
from counterpoise.scenes.sampler.owners import holds, owners
from counterpoise.scenes.sampler.scene import Scene
from counterpoise.scenes.sampler.texts import Texts, base_inputs

BOOTSTRAP = 0.4  # of the steps: 20 of 50 in region_based.py


def blended(*, feather: float = 0.0, bootstrap: float = BOOTSTRAP) -> Hold:
    """N + 1 predictions a step for N people; UNets of one text encoder alone, errors as `regional`."""

    @contextmanager
    def hold(texts: Texts, scenes: Sequence[Scene], *, guided: bool) -> Iterator[Inputs]:
        if texts.family.pooled:
            raise UsageError("this rival is written for UNets of one text encoder", code="E_UNSUPPORTED")
        checked_levels(texts.pipeline, scenes)
        pipeline, unet = texts.pipeline, texts.pipeline.unet
        grid = latent_shape(pipeline, scenes[0].width, scenes[0].height)[1:]
        people = _people(texts, scenes, grid, feather=feather)
        plain_colour = _colour(pipeline, scenes[0])
        forward = unet.forward
        n = len(scenes)

        def all_of(sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, **rest: Any) -> Any:
            rest["return_dict"] = False
            found = forward(sample, timestep, encoder_hidden_states, **rest)[0].clone()
            latents, base = sample[-n:], found[-n:].clone()
            steps = pipeline.scheduler.timesteps
            early = int((steps == timestep).nonzero()[0]) < bootstrap * len(steps)
            for text, inside, weight in people:
                shown = latents
                if early:
                    around = pipeline.scheduler.add_noise(*plain_colour, torch.as_tensor(timestep)[None])
                    shown = torch.where(inside, latents, around.to(latents))
                own = forward(shown, timestep, text, **rest)[0]
                found[-n:] += weight.to(own) * (own - base)
            return (found,)

        unet.forward = all_of
        try:
            yield base_inputs(texts, scenes, guided=guided)
        finally:
            del unet.forward

    return hold


def _people(
    texts: Texts, scenes: Sequence[Scene], grid: tuple[int, int], *, feather: float
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For the first, second, ... person of all scenes: texts, where the box is, and weights there."""
    found = []
    for i in range(max(len(scene.people) for scene in scenes)):
        own = [scene.people[min(i, len(scene.people) - 1)].prompt for scene in scenes]
        text = torch.cat([texts.embed(prompt)[0] for prompt in own])
        inside = torch.stack([owners(scene, grid) == i for scene in scenes]).reshape(-1, 1, *grid)
        weight = torch.stack([holds(scene, grid, feather=feather) for scene in scenes]).reshape(-1, 1, *grid)
        found.append((text, inside.to(text.device), (weight * inside).to(text.device)))
    return found


@torch.no_grad()
def _colour(pipeline: Any, scene: Scene) -> tuple[Tensor, Tensor]:
    """Latents of a plain grey canvas, and the noise that goes on them: the same for every scene."""
    grey = torch.zeros(1, 3, scene.height, scene.width, device=pipeline.device, dtype=pipeline.vae.dtype)
    latents = pipeline.vae.encode(grey).latent_dist.mode() * pipeline.vae.config.scaling_factor
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    return latents, noise.to(latents)

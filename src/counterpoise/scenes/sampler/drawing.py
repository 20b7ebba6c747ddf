"""Draws scenes: the loop, the scheduler and the networks are diffusers' own.

A picture depends on its own scene and seed (and on how it is drawn): noise comes from a CPU generator a seed,
every prompt is encoded alone, scenes of one canvas are drawn in batches of one size, a short one filled up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from counterpoise.lora.host import Host
from counterpoise.scenes.sampler.adapters import people_of
from counterpoise.scenes.sampler.families import (
    decoded,
    denoiser_of,
    family_of,
    latent_shape,
    packed,
    unpacked,
)
from counterpoise.scenes.sampler.hold import Hold, regional
from counterpoise.scenes.sampler.scene import Scene
from counterpoise.scenes.sampler.settings import Regional
from counterpoise.scenes.sampler.texts import Texts


@final
@dataclass(slots=True)
class ScenePainter:
    """Draws scenes in one way. Make a new one whenever weights or adapters change (it remembers texts).

    hold: the way, `regional(settings)` or one of the rivals. guidance: classifier-free guidance scale, 1
    draws without. dtype: "float32", or "bfloat16" for autocast over fp32 weights. host: where people's own
    adapters are mounted. options: further arguments of the pipeline's call. calls: of the denoiser so far,
    a doubled batch for guidance counted as one.
    """

    pipeline: Any
    hold: Hold = field(default_factory=regional)
    guidance: float = 1.0
    steps: int = 20
    batch_size: int = 8
    dtype: str = "float32"
    host: Host | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    calls: int = 0
    _texts: dict[frozenset[str], Texts] = field(default_factory=dict)

    def __call__(self, scenes: Sequence[Scene], seeds: Sequence[int]) -> list[np.ndarray]:
        """Pictures uint8 (height, width, 3), one a scene."""
        found: dict[int, np.ndarray] = {}
        for numbers, latents in self.batches(scenes, seeds):
            found.update(zip(numbers, self.decode(latents), strict=False))
        return [found[i] for i in range(len(scenes))]

    def batches(self, scenes: Sequence[Scene], seeds: Sequence[int]) -> Iterator[tuple[list[int], Tensor]]:
        """Numbers of the scenes drawn together, and a batch's latents (batch_size, channels, h, w), whose
        rows past the numbers are filling."""
        if len(scenes) != len(seeds):
            raise ValueError(f"{len(scenes)} scenes but {len(seeds)} seeds")
        for numbers in self.chunks(scenes):
            filled = self.filled(numbers)
            yield numbers, self.latents([scenes[i] for i in filled], [seeds[i] for i in filled])

    def chunks(self, scenes: Sequence[Scene]) -> list[list[int]]:
        """Scene numbers that are drawn together: of one canvas; alone where people have adapters."""
        alike: dict[Any, list[int]] = {}
        for i, scene in enumerate(scenes):
            adapted = any(person.adapter is not None for person in scene.people)
            alike.setdefault((scene.width, scene.height, i if adapted else -1), []).append(i)
        size = self.batch_size
        return [own[at : at + size] for own in alike.values() for at in range(0, len(own), size)]

    def filled(self, numbers: Sequence[int]) -> list[int]:
        """The numbers, the last one repeated to a whole batch; float sums depend on its size."""
        return [*numbers, *[numbers[-1]] * (self.batch_size - len(numbers))]

    @torch.no_grad()
    def latents(self, scenes: Sequence[Scene], seeds: Sequence[int]) -> Tensor:
        """Final latents (n, channels, h, w) of scenes of one canvas."""
        family, first = family_of(self.pipeline), scenes[0]
        with self.holding(scenes) as inputs:
            drawn = self.pipeline(
                **inputs,
                latents=packed(self.pipeline, self.noise(first, seeds)),
                height=first.height,
                width=first.width,
                num_inference_steps=self.steps,
                output_type="latent",
                **{family.guidance: self.guidance, **self.options},
            ).images
        return unpacked(self.pipeline, drawn, first.width, first.height)

    @contextmanager
    def holding(self, scenes: Sequence[Scene]) -> Iterator[Mapping[str, Tensor]]:
        """For a block, the pipeline draws these scenes of one canvas; what to call it with. Calls count."""
        people = people_of(self.host, scenes)
        texts = self._texts.setdefault(people.names if people else frozenset(), Texts(self.pipeline, people))

        def count(*_: Any) -> None:
            self.calls += 1

        entry = getattr(denoiser_of(self.pipeline), family_of(self.pipeline).entry)
        handle = entry.register_forward_pre_hook(count)
        try:
            with self.precision(), self.hold(texts, scenes, guided=self.guidance > 1) as inputs:
                yield inputs
        finally:
            handle.remove()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> np.ndarray:
        """uint8 (n, height, width, 3)."""
        with self.precision():
            pixels = decoded(self.pipeline, latents)
        scaled = (pixels.clamp(-1, 1) + 1) * 127.5
        return scaled.round().byte().permute(0, 2, 3, 1).cpu().numpy()

    def noise(self, scene: Scene, seeds: Sequence[int]) -> Tensor:
        """Starting noise (n, channels, h, w) for the scene's canvas; row i depends on seeds[i] alone."""
        shape = latent_shape(self.pipeline, scene.width, scene.height)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        network = denoiser_of(self.pipeline)
        return torch.stack(rows).to(network.device, network.dtype)

    def precision(self) -> AbstractContextManager[Any]:
        """The autocast context that this painter draws in."""
        if self.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.pipeline.device.type, getattr(torch, self.dtype))


def draw_scenes(
    pipeline: Any,
    scenes: Sequence[Scene],
    seeds: Sequence[int],
    *,
    settings: Regional | None = None,
    **how: Any,
) -> list[np.ndarray]:
    """Pictures uint8 (height, width, 3) of the scenes, each person inside their box from their own prompt.

    how: further fields of `ScenePainter` (guidance, steps, batch_size, dtype, host, options).
    """
    return ScenePainter(pipeline, regional(settings), **how)(scenes, seeds)

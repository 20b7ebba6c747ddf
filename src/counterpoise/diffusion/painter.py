"""Draws cells with a stock pipeline: each picture from its own prompt and its own seed's noise.

Comes in: a loaded Stable Diffusion pipeline and how to draw. Goes out: uint8 pictures. The loop, the
scheduler and the networks are diffusers' own; here is only what makes a picture depend on its cell alone:
noise from a CPU generator a seed, embeddings a prompt, batches of one fixed size.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch

from counterpoise.diffusion.precision import computed_in, resolved

# A thousand prompts of Stable Diffusion's 77 tokens of 768 numbers; the longest unused go first.
EMBEDDINGS_BYTES = 256 * 2**20


@final
@dataclass(slots=True)
class Painter:
    """A Drawer. Make a new one whenever weights or adapters of the text encoder change (it caches).

    guidance: classifier-free guidance scale, 1 draws without. steps: sampler steps. batch_size: pictures
    drawn together; a shorter rest is filled up, so that float sums are those of a full batch.
    dtype: "float32", "bfloat16" for autocast over fp32 weights, or "auto", the faster of the two on the
    machine, which it then says.
    pushed, push: as `negative_embedding` says.
    latent_size: rows and columns of the latents; None draws at the UNet's own size.
    """

    pipeline: Any
    guidance: float = 1.0
    steps: int = 20
    negative_prompt: str = ""
    batch_size: int = 32
    dtype: str = "float32"
    pushed: str = ""
    push: float = 1.0
    latent_size: tuple[int, int] | None = None
    _embeddings: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype == "auto":
            self.dtype = resolved("auto", self.pipeline.device)

    @property
    def sampler(self) -> str:
        """The scheduler's name as diffusers has it, without its last word: "DDIM", "EulerDiscrete"."""
        return type(self.pipeline.scheduler).__name__.removesuffix("Scheduler")

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Pictures uint8 (n, height, width, 3) for n prompts and n seeds."""
        if len(prompts) != len(seeds):
            raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds")
        parts = []
        for start in range(0, len(prompts), self.batch_size):
            part = slice(start, start + self.batch_size)
            parts.append(self._batch(list(prompts[part]), list(seeds[part])))
        return np.concatenate(parts)

    def noise(self, seeds: Sequence[int]) -> torch.Tensor:
        """Starting noise (n, channels, h, w), float32; row i depends on seeds[i] alone."""
        unet = self.pipeline.unet
        size = self.latent_size or unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        shape = (unet.config.in_channels, height, width)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(rows)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        """Text embeddings (n, tokens, width), each prompt encoded alone, and once while it is remembered."""
        return torch.cat([self._embedded(prompt) for prompt in prompts])

    def _embedded(self, prompt: str) -> torch.Tensor:
        known = self._embeddings.pop(prompt, None)
        if known is None:
            known = self.pipeline.encode_prompt(prompt, self.pipeline.device, 1, False)[0]
            room = EMBEDDINGS_BYTES - sum(old.nbytes for old in self._embeddings.values())
            while room < known.nbytes and self._embeddings:
                room += self._embeddings.pop(next(iter(self._embeddings))).nbytes
        self._embeddings[prompt] = known  # last: a dict keeps the order of use
        return known

    @torch.no_grad()
    def negative_embedding(self) -> torch.Tensor:
        """What guidance leads away from, (1, tokens, width): the negative prompt, and `pushed` beside it at
        `push` times its strength.

        A line in the embeddings, e0 + push (e1 - e0), from the negative prompt's to that of both: 0 is the
        one and 1 the other exactly, as a stock pipeline draws them, and no step takes a network call more.
        """
        without = self.embed([self.negative_prompt])
        if not self.pushed:
            return without
        together = self.embed([", ".join(text for text in (self.negative_prompt, self.pushed) if text)])
        return torch.lerp(without, together, self.push)

    def precision(self) -> AbstractContextManager[Any]:
        """The autocast context that this painter draws in."""
        return computed_in(self.dtype, self.pipeline.device)

    def latents(self, prompts: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        """Final latents of at most one batch, in the pipeline's scale (no decoding)."""
        guided = self.guidance > 1
        with self.precision():
            result = self.pipeline(
                prompt_embeds=self.embed(prompts),
                negative_prompt_embeds=self.negative_embedding().expand(len(prompts), -1, -1)
                if guided
                else None,
                latents=self.noise(seeds).to(self.pipeline.device),
                guidance_scale=self.guidance,
                num_inference_steps=self.steps,
                output_type="latent",
            )
        return result.images

    @torch.no_grad()
    def _batch(self, prompts: list[str], seeds: list[int]) -> np.ndarray:
        n, lack = len(prompts), self.batch_size - len(prompts)
        latents = self.latents(prompts + prompts[-1:] * lack, seeds + seeds[-1:] * lack)
        with self.precision():
            decoded = self.pipeline.vae.decode(latents / self.pipeline.vae.config.scaling_factor).sample
        pixels = (decoded.float().clamp(-1, 1) + 1) * 127.5
        return pixels.round().byte().permute(0, 2, 3, 1).cpu().numpy()[:n]

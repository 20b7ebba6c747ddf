"""Trains the world's UNet and text encoder together on the latents of captioned drawings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from counterpoise.diffusion.load import plain_attention_if_short
from counterpoise.diffusion.precision import computed_in
from counterpoise.lora.training import Progress, Schedule, minimise

CAPTION_DROPOUT = 0.1  # the share of captions replaced by "", which guidance needs
EARLY = 0.7  # of the time steps: from here on almost everything is noise


def tokenize(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> torch.Tensor:
    """int64 (n, tokens), padded to the tokenizer's length as StableDiffusionPipeline pads."""
    ids = tokenizer(
        list(captions), padding="max_length", max_length=tokenizer.model_max_length, truncation=True
    )["input_ids"]
    return torch.tensor(ids)


def diffusion_target(
    scheduler: DDIMScheduler, clean: torch.Tensor, noise: torch.Tensor, steps: torch.Tensor
) -> torch.Tensor:
    """What the UNet is to predict: noise or velocity, as scheduler.config.prediction_type says."""
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return scheduler.get_velocity(clean, noise, steps)
    raise ValueError(f"prediction_type {kind!r} is not one of epsilon, v_prediction")


@final
@dataclass(frozen=True, slots=True)
class Captioned:
    """Captioned latents of one size. latents: (n, 4, h, w), already times the scaling factor. tokens:
    (n, length). share: of the training's steps. unsaid: row numbers that three quarters of the noisiest
    part of a batch are taken from; None takes them from all rows."""

    latents: torch.Tensor
    tokens: torch.Tensor
    share: float = 1.0
    unsaid: torch.Tensor | None = None

    def batch(self, pictures: int, area: int) -> int:
        """Rows of a step that costs as much as so many pictures of `area` latent cells each."""
        return max(1, pictures * area // (self.latents.shape[2] * self.latents.shape[3]))


def train_denoiser(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    schedule: Schedule,
    *,
    scheduler: DDIMScheduler,
    data: Sequence[Captioned],
    empty: torch.Tensor,
    checkpoint: Path,
    early: float = 0.0,
    progress: Progress = lambda step, total, loss: None,
) -> list[tuple[int, float]]:
    """Minimises `denoising_loss`, whose arguments these are, over both networks' parameters."""
    plain_attention_if_short(unet)
    text_encoder.set_attn_implementation("eager")
    loss_of = denoising_loss(
        unet, text_encoder, schedule.batch, scheduler=scheduler, data=data, empty=empty, early=early
    )
    both = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    return minimise(both, loss_of, schedule, checkpoint=checkpoint, progress=progress)


def denoising_loss(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    batch: int,
    *,
    scheduler: DDIMScheduler,
    data: Sequence[Captioned],
    empty: torch.Tensor,
    early: float = 0.0,
) -> Callable[[torch.Generator], torch.Tensor]:
    """Mean squared error of the prediction at drawn time steps, captions dropped at times.

    A step sees latents of one size, drawn from `data` by share; batch counts pictures of the UNet's own size.
    early: the share of a batch that is drawn from the noisiest steps (EARLY on); the rest is uniform.
    empty: the tokens (length,) of no caption.
    """
    device = unet.device
    noisiest = scheduler.config.num_train_timesteps
    shares = torch.tensor([own.share for own in data])
    side = unet.config.sample_size
    area = side * side if isinstance(side, int) else side[0] * side[1]

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        own = data[int(torch.multinomial(shares, 1, generator=generator)) if len(data) > 1 else 0]
        size = own.batch(batch, area)
        dwell = int(size * early)
        rows = torch.randint(len(own.latents), (size,), generator=generator)
        if own.unsaid is not None:
            chosen = torch.randint(len(own.unsaid), (dwell * 3 // 4,), generator=generator)
            rows[: len(chosen)] = own.unsaid[chosen]
        clean, ids = own.latents[rows], own.tokens[rows].clone()
        ids[torch.rand(size, generator=generator) < CAPTION_DROPOUT] = empty
        noise = torch.randn(clean.shape, generator=generator)
        steps = torch.randint(noisiest, (size,), generator=generator)
        steps[:dwell] = torch.randint(int(noisiest * EARLY), noisiest, (dwell,), generator=generator)
        target = diffusion_target(scheduler, clean, noise, steps)
        noisy = scheduler.add_noise(clean, noise, steps)
        with computed_in("auto", device):
            hidden = text_encoder(ids.to(device))[0]
            output = unet(noisy.to(device), steps.to(device), hidden).sample
        return (output.float() - target.to(device)).square().mean()

    return loss_of

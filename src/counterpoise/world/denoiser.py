"""Trains the world's UNet and text encoder together on the latents of captioned drawings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from counterpoise.diffusion.load import plain_attention_if_short
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


def train_denoiser(  # noqa: PLR0913
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    schedule: Schedule,
    *,
    scheduler: DDIMScheduler,
    latents: torch.Tensor,
    tokens: torch.Tensor,
    empty: torch.Tensor,
    checkpoint: Path,
    early: float = 0.0,
    unsaid: torch.Tensor | None = None,
    progress: Progress = lambda step, total, loss: None,
) -> list[tuple[int, float]]:
    """Minimises `denoising_loss`, whose arguments these are, over both networks' parameters."""
    plain_attention_if_short(unet)
    text_encoder.set_attn_implementation("eager")
    loss_of = denoising_loss(
        unet,
        text_encoder,
        schedule.batch,
        scheduler=scheduler,
        latents=latents,
        tokens=tokens,
        empty=empty,
        early=early,
        unsaid=unsaid,
    )
    both = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    return minimise(both, loss_of, schedule, checkpoint=checkpoint, progress=progress)


def denoising_loss(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    batch: int,
    *,
    scheduler: DDIMScheduler,
    latents: torch.Tensor,
    tokens: torch.Tensor,
    empty: torch.Tensor,
    early: float = 0.0,
    unsaid: torch.Tensor | None = None,
) -> Callable[[torch.Generator], torch.Tensor]:
    """Mean squared error of the prediction at drawn time steps, captions dropped at times.

    early: the share of a batch that is drawn from the noisiest steps (EARLY on); the rest is uniform.
    unsaid: row numbers that three quarters of that share are taken from; None takes them from all rows.
    latents: (n, 4, h, w), already times the scaling factor. tokens: (n, length). empty: (length,).
    """
    device = unet.device
    noisiest = scheduler.config.num_train_timesteps

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        dwell = int(batch * early)
        rows = torch.randint(len(latents), (batch,), generator=generator)
        if unsaid is not None:
            chosen = torch.randint(len(unsaid), (dwell * 3 // 4,), generator=generator)
            rows[: len(chosen)] = unsaid[chosen]
        clean, ids = latents[rows], tokens[rows].clone()
        ids[torch.rand(batch, generator=generator) < CAPTION_DROPOUT] = empty
        noise = torch.randn(clean.shape, generator=generator)
        steps = torch.randint(noisiest, (batch,), generator=generator)
        steps[:dwell] = torch.randint(int(noisiest * EARLY), noisiest, (dwell,), generator=generator)
        target = diffusion_target(scheduler, clean, noise, steps)
        noisy = scheduler.add_noise(clean, noise, steps)
        with torch.autocast(device.type, torch.bfloat16):
            hidden = text_encoder(ids.to(device))[0]
            output = unet(noisy.to(device), steps.to(device), hidden).sample
        return (output.float() - target.to(device)).square().mean()

    return loss_of

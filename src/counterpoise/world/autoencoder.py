"""Trains the world's AutoencoderKL on drawings and measures its latents' scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn

from counterpoise.diffusion.precision import computed_in
from counterpoise.lora.training import Progress, Schedule, minimise

SIDE = 64  # pixels of a drawing
# Where faces lie in a drawing (rows, columns, of SIDE) and how much more an error there counts: lips, lashes
# and brows are a fiftieth of the picture, and presentation is read from them.
FACE, FACE_WEIGHT = (slice(20, 44), slice(16, 48)), 4.0
KL_WEIGHT = 1e-4  # nats a latent number; enough to keep the latents smooth, too little to blur a face


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 (n, h, w, 3) to float (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_vae(
    vae: AutoencoderKL,
    images: np.ndarray,
    schedule: Schedule,
    *,
    checkpoint: Path,
    progress: Progress = lambda step, total, loss: None,
) -> list[tuple[int, float]]:
    """Mean absolute error, faces counting more, plus a little KL; sets vae.config.scaling_factor so that
    latents have std 1."""
    weight = torch.ones(images.shape[1:3])
    weight[FACE] = FACE_WEIGHT
    weight /= weight.mean()

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        rows = torch.randint(len(images), (schedule.batch,), generator=generator).numpy()
        batch = to_tensor(images[np.sort(rows)])
        with computed_in("auto", vae.device):
            posterior = vae.encode(batch.to(vae.device)).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator).to(vae.device)
            output = vae.decode(posterior.mean + posterior.std * noise).sample
        kl = posterior.kl().float().mean() / posterior.mean[0].numel()
        return ((output.float() - batch.to(vae.device)).abs() * weight.to(vae.device)).mean() + KL_WEIGHT * kl

    log = minimise(vae, loss_of, schedule, checkpoint=checkpoint, progress=progress)
    latents = encode(vae, images[:2000])
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    return log


def train_decoder(
    vae: AutoencoderKL,
    scenes: Sequence[np.ndarray],
    schedule: Schedule,
    *,
    checkpoint: Path,
    progress: Progress = lambda step, total, loss: None,
) -> list[tuple[int, float]]:
    """Teaches the decoder alone what lies beside and below a person; latents stay what they are.

    scenes: pictures (n, height, width, 3) of one size each, sides multiples of 64, a person in each square.
    A decoder that saw portraits only knows clothes by the canvas's lower edge: in a back row it read their
    colour right in .40 of 48. batch of the schedule: in portraits' areas.
    """
    square = torch.ones(SIDE, SIDE)
    square[FACE] = FACE_WEIGHT
    square /= square.mean()
    with torch.no_grad():
        known = [_posterior(vae, own) for own in scenes]
    vae.requires_grad_(False)
    both = nn.ModuleDict({"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv})
    both.requires_grad_(True)

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        which = int(torch.randint(len(scenes), (1,), generator=generator))
        pictures, (mean, std) = scenes[which], known[which]
        high, wide = pictures.shape[1] // SIDE, pictures.shape[2] // SIDE
        size = max(1, schedule.batch // (high * wide))
        rows = torch.randint(len(pictures), (size,), generator=generator)
        latents = mean[rows] + std[rows] * torch.randn(mean[rows].shape, generator=generator)
        with computed_in("auto", vae.device):
            output = vae.decode(latents.to(vae.device)).sample
        error = (output.float().cpu() - to_tensor(pictures[rows.numpy()])).abs()
        return (error * square.repeat(high, wide)).mean()

    return minimise(both, loss_of, schedule, checkpoint=checkpoint, progress=progress)


def _posterior(vae: AutoencoderKL, pictures: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and standard deviations of the latents, float32."""
    means, stds = [], []
    for start in range(0, len(pictures), 25):
        with computed_in("auto", vae.device):
            posterior = vae.encode(to_tensor(pictures[start : start + 25]).to(vae.device)).latent_dist
        means.append(posterior.mean.float().cpu())
        stds.append(posterior.std.float().cpu())
    return torch.cat(means), torch.cat(stds)


@torch.no_grad()
def encode(vae: AutoencoderKL, images: np.ndarray, *, batch: int = 100) -> torch.Tensor:
    """Posterior means, unscaled, float32 (n, 4, h/8, w/8)."""
    parts = []
    for start in range(0, len(images), batch):
        with computed_in("auto", vae.device):
            posterior = vae.encode(to_tensor(images[start : start + batch]).to(vae.device)).latent_dist
        parts.append(posterior.mean.float().cpu())
    return torch.cat(parts)


@torch.no_grad()
def psnr(vae: AutoencoderKL, images: np.ndarray) -> float:
    """Peak signal-to-noise ratio of reconstructions, in dB."""
    latents = encode(vae, images)
    decoded = torch.cat([vae.decode(part.to(vae.device)).sample.cpu() for part in latents.split(50)])
    error = ((decoded.clamp(-1, 1) - to_tensor(images)) / 2).square().mean()
    return float(-10 * torch.log10(error))

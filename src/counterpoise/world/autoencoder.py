"""Trains the world's AutoencoderKL on drawings and measures its latents' scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from counterpoise.lora.training import Progress, Schedule, minimise

# Where faces lie in a drawing (rows, columns, of 64) and how much more an error there counts: lips, lashes
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
        with torch.autocast(vae.device.type, torch.bfloat16):
            posterior = vae.encode(batch.to(vae.device)).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator).to(vae.device)
            output = vae.decode(posterior.mean + posterior.std * noise).sample
        kl = posterior.kl().float().mean() / posterior.mean[0].numel()
        return ((output.float() - batch.to(vae.device)).abs() * weight.to(vae.device)).mean() + KL_WEIGHT * kl

    log = minimise(vae, loss_of, schedule, checkpoint=checkpoint, progress=progress)
    latents = encode(vae, images[:2000])
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    return log


@torch.no_grad()
def encode(vae: AutoencoderKL, images: np.ndarray, *, batch: int = 100) -> torch.Tensor:
    """Posterior means, unscaled, float32 (n, 4, h/8, w/8)."""
    parts = []
    for start in range(0, len(images), batch):
        with torch.autocast(vae.device.type, torch.bfloat16):
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

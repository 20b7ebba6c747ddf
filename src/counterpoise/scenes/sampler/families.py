"""What differs between the stock pipelines that can draw scenes: one row a family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from counterpoise.errors import UsageError
from counterpoise.scenes.sampler.owners import Grid


@final
@dataclass(frozen=True, slots=True)
class Family:
    """denoiser: the pipeline's part that predicts, and entry: its layer that every prediction enters once.
    joint: text and image attend in one sequence. alternating: guidance's halves are calls of their own,
    positive first. guidance: the pipeline's argument for its scale. clock: scheduler time of a model's time.
    """

    name: str
    denoiser: str
    entry: str
    joint: bool = False
    pooled: bool = False
    alternating: bool = False
    guidance: str = "guidance_scale"
    clock: float = 1.0


SD = Family("Stable Diffusion", "unet", "conv_in")
SDXL = Family("Stable Diffusion XL", "unet", "conv_in", pooled=True)
SD3 = Family("Stable Diffusion 3", "transformer", "pos_embed", joint=True, pooled=True)
FLUX = Family(
    "Flux",
    "transformer",
    "x_embedder",
    joint=True,
    pooled=True,
    alternating=True,
    guidance="true_cfg_scale",
    clock=1000.0,
)
_TRANSFORMERS = {"SD3Transformer2DModel": SD3, "FluxTransformer2DModel": FLUX}


def family_of(pipeline: Any) -> Family:
    """The pipeline's family; UsageError E_MODEL for a model without cross-attention or an unknown one."""
    unet = getattr(pipeline, "unet", None)
    if isinstance(unet, nn.Module):
        names = getattr(unet, "attn_processors", {})
        if type(unet).__name__ != "UNet2DConditionModel" or not any("attn2." in name for name in names):
            raise _unfit(unet, "has no cross-attention, so no prompt can be given to a part of the picture")
        if unet.encoder_hid_proj is not None:
            raise _unfit(unet, "projects its texts (encoder_hid_proj), as with IP-Adapter; unload that first")
        return SD if getattr(pipeline, "text_encoder_2", None) is None else SDXL
    transformer = getattr(pipeline, "transformer", None)
    kind = type(transformer).__name__
    if kind not in _TRANSFORMERS:
        raise _unfit(pipeline if transformer is None else transformer, "is none of the models known here")
    return _TRANSFORMERS[kind]


def _unfit(part: Any, why: str) -> UsageError:
    known = "Stable Diffusion 1 and 2, SDXL, SD3 and Flux pipelines"
    return UsageError(f"{type(part).__name__} {why}; scenes are drawn by {known}", code="E_MODEL")


def denoiser_of(pipeline: Any) -> Any:
    """The network that predicts."""
    return getattr(pipeline, family_of(pipeline).denoiser)


def latent_shape(pipeline: Any, width: int, height: int) -> tuple[int, int, int]:
    """Channels, height and width of the latents of a canvas; UsageError E_CANVAS if it does not divide."""
    family, factor = family_of(pipeline), pipeline.vae_scale_factor
    config = denoiser_of(pipeline).config
    patch = 2 if family is FLUX else config.patch_size if family.joint else 1
    least = factor * patch if family.joint else math.lcm(8, factor)  # UNets' pipelines insist on 8
    if width < 1 or height < 1 or width % least or height % least:
        reason = f"canvas {width} x {height}: {family.name} here draws multiples of {least} pixels"
        raise UsageError(reason, code="E_CANVAS")
    channels = config.in_channels // 4 if family is FLUX else config.in_channels
    return channels, height // factor, width // factor


def packed(pipeline: Any, latents: Tensor) -> Tensor:
    """Latents (n, channels, h, w) as the pipeline takes them."""
    if family_of(pipeline) is not FLUX:
        return latents
    made: Tensor = pipeline._pack_latents(latents, *latents.shape)
    return made


def unpacked(pipeline: Any, latents: Tensor, width: int, height: int) -> Tensor:
    """The pipeline's latents as (n, channels, h, w)."""
    if family_of(pipeline) is not FLUX:
        return latents
    made: Tensor = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)
    return made


def decoded(pipeline: Any, latents: Tensor) -> Tensor:
    """Latents (n, channels, h, w) as pixels (n, 3, height, width) in [-1, 1] or slightly beyond, float32."""
    vae = pipeline.vae
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    raised = vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
    try:
        if raised:  # such a decoder overflows in half precision; float32 and back keeps every weight's bits
            vae.float()
        ready = latents / vae.config.scaling_factor + shift
        pixels: Tensor = vae.decode(ready.to(vae.dtype)).sample
    finally:
        if raised:
            vae.half()
    return pixels.float()


def grids(pipeline: Any, latent: Grid) -> list[Grid]:
    """Grids of the layers that attend, finest first, for latents of this height and width."""
    family = family_of(pipeline)
    config = denoiser_of(pipeline).config
    if family.joint:
        patch = 2 if family is FLUX else config.patch_size
        return [(latent[0] // patch, latent[1] // patch)]
    unet, now = pipeline.unet, latent
    found = []
    for block in [*unet.down_blocks, unet.mid_block]:
        if getattr(block, "attentions", None):
            found.append(now)
        if getattr(block, "downsamplers", None):
            odd = config.downsample_padding or 0  # padded, an odd side's half is rounded up
            now = (now[0] + odd) // 2, (now[1] + odd) // 2
    return found


def divides(grids_: Sequence[Grid]) -> bool:
    """Whether every coarser grid is the finest one with whole cells joined."""
    height, width = grids_[0]
    return all(height % h == 0 and width % w == 0 and height // h == width // w for h, w in grids_)

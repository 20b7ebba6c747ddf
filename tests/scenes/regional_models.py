"""Tiny random-weight pipelines of the real classes, one a family, and scenes for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from counterpoise.scenes.sampler.scene import Figure, Scene
from counterpoise.world import model as parts

WORDS = ["a", "portrait", "of", "woman", "man", "boss", "two", "people", "red", "blue", "team"]


def tokenizer(folder: Path) -> Any:
    return parts.new_tokenizer(WORDS, folder)


def clip(vocabulary: Any, *, projected: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    end = vocabulary.eos_token_id
    config = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=16, projection_dim=16,
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=parts.TOKENS,
        bos_token_id=end - 1, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def t5(vocabulary: Any, width: int = 16) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(vocab_size=len(vocabulary), d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )


def vae(channels: int = 4, shift: float | None = None) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=channels,
        up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, norm_num_groups=4, sample_size=16,
        shift_factor=shift,
    )  # fmt: skip


def sd(folder: Path) -> Any:
    from diffusers import UNet2DConditionModel

    words = tokenizer(folder)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=2, norm_num_groups=4,
    )  # fmt: skip
    return parts.assemble(vae=vae(), unet=unet, text_encoder=clip(words), tokenizer=words)


def sdxl(folder: Path) -> Any:
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

    words = tokenizer(folder)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=2, norm_num_groups=4,
        use_linear_projection=True, transformer_layers_per_block=(1, 2), addition_embed_type="text_time",
        addition_time_embed_dim=4, projection_class_embeddings_input_dim=16 + 6 * 4,
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=vae(), unet=unet, scheduler=parts.new_scheduler(), text_encoder=clip(words), tokenizer=words,
        text_encoder_2=clip(words, projected=True), tokenizer_2=words, add_watermarker=False,
    )  # fmt: skip


def sd3(folder: Path) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    words = tokenizer(folder)
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        caption_projection_dim=16, joint_attention_dim=32, pooled_projection_dim=32, out_channels=16,
        qk_norm="rms_norm", dual_attention_layers=(0,), pos_embed_max_size=64,
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae(16, 0.1),
        text_encoder=clip(words, projected=True), tokenizer=words, tokenizer_2=words,
        text_encoder_2=clip(words, projected=True), text_encoder_3=t5(words, 32), tokenizer_3=words,
    )  # fmt: skip


def flux(folder: Path) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    words = tokenizer(folder)
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae(16, 0.1), text_encoder=clip(words),
        tokenizer=words, text_encoder_2=t5(words), tokenizer_2=words, transformer=transformer,
    )  # fmt: skip


MAKERS = {"sd": sd, "sdxl": sdxl, "sd3": sd3, "flux": flux}


def made(name: str, folder: Path) -> Any:
    """The pipeline of this family, always of the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        pipeline = MAKERS[name](folder)
    if "transformer" in pipeline.components:  # else random weights hardly listen to their text
        pipeline.transformer.context_embedder.weight.data.mul_(30)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


PROMPTS = ("a red woman", "a blue man", "a boss", "a man", "red people")


def row_of(
    count: int, *, prompts: tuple[str, ...] = PROMPTS, gap: int = 0, prompt: str = "two people"
) -> Scene:
    """`count` people side by side, 16 x 16 pixels each, `gap` pixels of background between and around."""
    people = tuple(
        Figure((gap + i * (16 + gap), 0, gap + i * (16 + gap) + 16, 16), prompts[i % len(prompts)])
        for i in range(count)
    )
    return Scene(gap + count * (16 + gap), 16, prompt, people)

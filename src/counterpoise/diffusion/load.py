"""Loads a stock diffusers pipeline from a folder, and says in one line why it can't."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from counterpoise.errors import RefusedInputError, UsageError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

SHORT = 256  # tokens
NETWORKS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3", "vae")


def load_pipeline(folder: Path, *, device: str = "cpu") -> DiffusionPipeline:
    """The pipeline in `folder`, fp32, eval mode, without gradients; nothing is fetched from anywhere.

    Raises UsageError when the folder is not a pipeline's, RefusedInputError when its files are damaged.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise UsageError(
            f"no model at {folder}: expected a diffusers folder with model_index.json, or the name 'world'",
            code="E_MODEL_MISSING",
            file=str(folder),
        )
    quieten()
    from diffusers import DiffusionPipeline

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline = DiffusionPipeline.from_pretrained(
                folder, local_files_only=True, torch_dtype=torch.float32, use_safetensors=True
            )
    except Exception as error:
        raise RefusedInputError(
            f"the model in {folder} does not load ({type(error).__name__}: {error}); "
            "is the download complete?",
            code="E_MODEL_DAMAGED",
            file=str(folder),
        ) from error
    for network in networks(pipeline).values():
        network.requires_grad_(False).eval()
    pipeline.set_progress_bar_config(disable=True)
    if device == "cpu" and isinstance(unet := getattr(pipeline, "unet", None), torch.nn.Module):
        plain_attention_if_short(unet)
    return pipeline.to(device)


def plain_attention_if_short(unet: Any) -> None:
    """Attention in plain matrix products, for a UNet whose pictures have at most SHORT tokens.

    On a CPU, at these lengths, they are a fifth faster than the fused kernel, and a third in its backward
    pass; over more tokens the fused kernel saves memory that matters more.
    """
    size = unet.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    if height * width <= SHORT:
        from diffusers.models.attention_processor import AttnProcessor

        unet.set_attn_processor(AttnProcessor())


def networks(pipeline: Any) -> dict[str, torch.nn.Module]:
    """The pipeline's networks by component name, in a fixed order."""
    found = {name: getattr(pipeline, name, None) for name in NETWORKS}
    return {name: part for name, part in found.items() if isinstance(part, torch.nn.Module)}


def quieten() -> None:
    """No hub, no progress bars of others, no warnings about image processors that we never use."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    for theirs in (transformers_logging, diffusers_logging):
        theirs.set_verbosity_error()
        theirs.disable_progress_bar()

"""A user's own folder of captioned pictures, as a retraining takes it.

In: a folder of pictures, each with a text file of its name beside it, or a metadata.jsonl of
{"file_name": ..., "text": ...} lines as the datasets library reads it. Out: captions and the model's latents.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.remedies.drawings import Data
from counterpoise.world.autoencoder import encode

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_BATCH = 16


def captioned_pairs(folder: Path) -> list[tuple[Path, str]]:
    """(picture, caption) pairs of a folder, by name.

    UsageError E_DATA for a folder without any; RefusedInputError E_DATA for a line or name that is wrong.
    """
    index = folder / "metadata.jsonl"
    if not folder.is_dir():
        raise UsageError(f"no folder of pictures at {folder}", code="E_DATA", file=str(folder))
    pairs = list(_indexed(index)) if index.is_file() else list(_beside(folder))
    if not pairs:
        raise UsageError(
            f"{folder} holds no captioned picture: expected NAME.png with NAME.txt, or a metadata.jsonl",
            code="E_DATA",
            file=str(folder),
        )
    return sorted(pairs)


def folder_data(
    pipeline: Any, folder: Path, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> Data:
    """The pictures, cropped to their middle square at the model's size, as its latents, with their captions.

    RefusedInputError E_PICTURE for a file that is no picture.
    """
    pairs = captioned_pairs(folder)
    scale = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
    size = pipeline.unet.config.sample_size * scale
    latents = []
    for start in range(0, len(pairs), _BATCH):
        part = pairs[start : start + _BATCH]
        latents.append(encode(pipeline.vae, np.stack([_square(file, size) for file, _ in part])))
        progress(start + len(part), len(pairs))
    scaled = torch.cat(latents) * pipeline.vae.config.scaling_factor
    return Data([caption for _, caption in pairs], scaled)


def _beside(folder: Path) -> Iterator[tuple[Path, str]]:
    for picture in folder.iterdir():
        words = picture.with_suffix(".txt")
        if picture.suffix.lower() in PICTURES and words.is_file():
            yield picture, words.read_text("utf-8").strip()


def _indexed(index: Path) -> Iterator[tuple[Path, str]]:
    for number, line in enumerate(index.read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            picture, caption = (index.parent / row["file_name"]).resolve(), row["text"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            reason = f"{index}, line {number}: expected file_name and text ({error!r:.80})"
            raise RefusedInputError(reason, code="E_DATA", file=str(index)) from error
        if not isinstance(caption, str) or not picture.is_relative_to(index.parent.resolve()):
            reason = f"{index}, line {number}: expected a text, and a file inside the folder"
            raise RefusedInputError(reason, code="E_DATA", file=str(index))
        yield picture, caption.strip()


def _square(file: Path, size: int) -> np.ndarray:
    try:
        with Image.open(file) as image:
            whole = image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        reason = f"{file} is not a picture that can be read ({type(error).__name__})"
        raise RefusedInputError(reason, code="E_PICTURE", file=str(file)) from error
    side = min(whole.size)
    left, top = (whole.width - side) // 2, (whole.height - side) // 2
    square = whole.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))

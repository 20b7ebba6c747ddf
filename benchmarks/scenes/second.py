"""A second reader, which mends nothing: other drawings and another seed than the one that ships.

Made once in a few minutes and kept. What the shipped reader chose to keep is read again by this one, which
shares neither its weights nor its training pictures with it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from counterpoise.diffusion.precision import computed_in
from counterpoise.lora.training import Schedule
from counterpoise.measure.heads import HeadReader, load_reader
from counterpoise.world.autoencoder import encode
from counterpoise.world.data import make_dataset
from counterpoise.world.reader import accuracy, train_reader
from counterpoise.world.table import load_table

SEED, HELD_OUT, DRAWINGS = 77, 78, 6000
SCHEDULE = Schedule(steps=900, batch=64, lr=2e-3, seed=99)


def second_reader(folder: Path, vae: object) -> HeadReader:
    """The reader, found in `folder` or trained there; its card holds its accuracy on drawings held out."""
    if not (folder / "reader.json").exists():
        table = load_table()
        data = make_dataset(folder / "drawings", DRAWINGS, seed=SEED, workers=1)
        fresh = make_dataset(folder / "drawings", 1000, seed=HELD_OUT, workers=1)
        images = np.asarray(data.images)
        decoded = _decoded(vae, images[: DRAWINGS // 2])
        reader = train_reader(
            table.attributes, [images, decoded], data.labels, SCHEDULE, checkpoint=folder / "reader.ckpt"
        )
        reader.name = "second"
        held = accuracy(reader, _decoded(vae, np.asarray(fresh.images)), fresh.labels)
        reader.card["accuracy"] = {name: round(each.right, 5) for name, each in held.items()}
        reader.save(folder)
    return load_reader(folder)


@torch.no_grad()
def _decoded(vae: object, images: np.ndarray) -> np.ndarray:
    parts = []
    for latents in encode(vae, images).split(100):  # type: ignore[arg-type]
        with computed_in("auto", "cpu"):
            pixels = vae.decode(latents).sample  # type: ignore[attr-defined]
        scaled = (pixels.float().clamp(-1, 1) + 1) * 127.5
        parts.append(scaled.round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)

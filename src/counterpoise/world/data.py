"""The training set: captioned drawings, made on all cores, the same for the same seed and size.

Comes in: the planted table, a number, a seed. Goes out: captions, attribute indices and pictures as
memory-mapped arrays in a folder, written once and found again when training resumes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from counterpoise.files import write_whole
from counterpoise.world.drawing import SIZE, draw
from counterpoise.world.grammar import sample
from counterpoise.world.table import load_table

CHUNK = 1000


@final
@dataclass(frozen=True, slots=True)
class DataSet:
    """captions: n strings. labels: int8 (n, attributes) in the table's order. images: uint8 (n, S, S, 3)."""

    captions: list[str]
    labels: np.ndarray
    images: np.ndarray


def make_chunk(seed: int, chunk: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """CHUNK captioned drawings that depend on (seed, chunk) alone."""
    table, rng = load_table(), np.random.default_rng([seed, chunk])
    captions, labels, images = [], [], []
    for _ in range(CHUNK):
        item = sample(table, rng)
        captions.append(item.caption)
        labels.append([values.index(item.person[name]) for name, values in table.attributes.items()])
        images.append(draw(item.person, rng))
    return captions, np.array(labels, np.int8), np.stack(images)


def make_dataset(
    folder: Path,
    count: int,
    *,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    workers: int | None = None,
) -> DataSet:
    """Draws `count` captioned pictures (rounded up to whole thousands) into `folder`, or finds them there."""
    chunks = -(-count // CHUNK)
    done = folder / f"data-{seed}-{chunks}.json"
    labels_file, images_file = done.with_suffix(".labels.npy"), done.with_suffix(".images.npy")
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shape = (chunks * CHUNK, SIZE, SIZE, 3)
        images = np.lib.format.open_memmap(images_file, mode="w+", dtype=np.uint8, shape=shape)
        captions: list[str] = []
        labels: list[np.ndarray] = []
        with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
            for i, part in enumerate(pool.map(make_chunk, [seed] * chunks, range(chunks))):
                captions += part[0]
                labels.append(part[1])
                images[i * CHUNK : (i + 1) * CHUNK] = part[2]
                progress(i + 1, chunks)
        images.flush()
        np.save(labels_file, np.concatenate(labels))
        write_whole(done, json.dumps(captions))
    return DataSet(
        captions=json.loads(done.read_text("utf-8")),
        labels=np.load(labels_file),
        images=np.load(images_file, mmap_mode="r"),
    )

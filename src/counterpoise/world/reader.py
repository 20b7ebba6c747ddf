"""Trains the world's reader: drawings, roughened as a decoder roughens them, in; a HeadReader out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from counterpoise.diffusion.precision import computed_in
from counterpoise.lora.training import Progress, Schedule, minimise
from counterpoise.measure.heads import HeadNetwork, HeadReader
from counterpoise.world.autoencoder import to_tensor

THRESHOLD = 0.80


def roughen(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What a decoder does to a drawing: a shift of up to two pixels, blur, a colour cast, noise."""
    shift = torch.randint(-2, 3, (2,), generator=generator).tolist()
    out = torch.roll(pictures, shift, (2, 3))
    if torch.rand((), generator=generator) < 0.5:
        out = functional.avg_pool2d(functional.pad(out, (1, 1, 1, 1), mode="replicate"), 3, 1)
    cast = 0.05 * torch.randn(len(out), 3, 1, 1, generator=generator)
    amount = 0.12 * torch.rand(len(out), 1, 1, 1, generator=generator)
    return (out + cast + amount * torch.randn(out.shape, generator=generator)).clamp(-1, 1)


def train_reader(
    attributes: Mapping[str, tuple[str, ...]],
    sources: Sequence[np.ndarray],
    labels: np.ndarray,
    schedule: Schedule,
    *,
    checkpoint: Path,
    progress: Progress = lambda step, total, loss: None,
) -> HeadReader:
    """sources: uint8 pictures of the same people (drawn, decoded), any of them picked for each batch.

    labels: int8 (n, attributes), in the order of `attributes`.
    """
    network = HeadNetwork(attributes)
    truth = torch.from_numpy(np.array(labels)).long()

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        source = sources[int(torch.randint(len(sources), (), generator=generator))]
        rows = torch.randint(len(source), (schedule.batch,), generator=generator).sort().values
        pictures = roughen(to_tensor(source[rows.numpy()]), generator)
        with computed_in("auto", "cpu"):
            logits = network(pictures)
        return torch.stack(
            [
                functional.cross_entropy(logits[name].float(), truth[rows, i])
                for i, name in enumerate(attributes)
            ]
        ).sum()

    minimise(network, loss_of, schedule, checkpoint=checkpoint, progress=progress)
    return HeadReader(network, attributes, name="world", version="training", threshold=THRESHOLD)


class Accuracy(NamedTuple):
    """right: share of all pictures read rightly. wrong: share misread. abstained: share not read."""

    right: float
    wrong: float
    abstained: float
    n: int


def accuracy(reader: HeadReader, images: np.ndarray, labels: np.ndarray) -> dict[str, Accuracy]:
    """Reading against truth for every attribute; an abstention counts as not right."""
    readings = reader(images)
    found = {}
    for i, (name, values) in enumerate(reader.attributes.items()):
        read = [row[name].value for row in readings]
        right = sum(value == values[labels[j, i]] for j, value in enumerate(read))
        abstained = sum(value is None for value in read)
        n = len(images)
        found[name] = Accuracy(right / n, (n - right - abstained) / n, abstained / n, n)
    return found

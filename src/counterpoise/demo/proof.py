"""The demo's proof on the weights: folded, the model draws the same pictures at the base's price."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import final

import numpy as np

from counterpoise.audit.arms import Ways
from counterpoise.diffusion.painter import Painter
from counterpoise.lora import Adapter


@final
@dataclass(frozen=True, slots=True)
class FoldProof:
    """Folded against mounted and against base. Times are medians of alternating batches, in seconds.

    max_pixel_difference: of 255, over n pictures drawn in float32 mounted and folded.
    changed_pixels: share of colour values that differ at all.
    """

    n: int
    max_pixel_difference: int
    changed_pixels: float
    base_seconds: float
    folded_seconds: float
    time_ratio: float


def prove_fold(
    ways: Ways, adapter: Adapter, prompts: list[str], *, n: int, rounds: int, seed: int
) -> FoldProof:
    """Draws n pictures mounted and folded in float32; times `rounds` batches of base and folded in turn."""
    asked = [prompts[i % len(prompts)] for i in range(n)]
    seeds = [seed + i for i in range(n)]
    with ways.host.mounted(adapter):
        mounted = ways.painter(dtype="float32")(asked, seeds)
    with ways.folding(adapter):
        folded = ways.painter(dtype="float32")(asked, seeds)
    difference = np.abs(mounted.astype(np.int16) - folded.astype(np.int16))
    size = ways.drawing.batch_size
    base_times, folded_times = [], []
    for i in range(rounds + 1):
        base_seconds = _seconds(ways.painter(), prompts[0], size)
        with ways.folding(adapter):
            folded_seconds = _seconds(ways.painter(), prompts[0], size)
        if i:  # the first round warms up
            base_times.append(base_seconds)
            folded_times.append(folded_seconds)
    base_median, folded_median = statistics.median(base_times), statistics.median(folded_times)
    return FoldProof(
        n=n,
        max_pixel_difference=int(difference.max()),
        changed_pixels=float((difference > 0).mean()),
        base_seconds=base_median,
        folded_seconds=folded_median,
        time_ratio=folded_median / base_median,
    )


def _seconds(painter: Painter, prompt: str, size: int) -> float:
    painter.embed([prompt, painter.negative_prompt])
    started = time.perf_counter()
    painter([prompt] * size, range(size))
    return time.perf_counter() - started

"""What a scene costs beside a plain picture of its canvas: alternating batches, processor time, medians."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

from counterpoise.scenes.auditing.figures import Figure
from counterpoise.scenes.sampler.drawing import ScenePainter
from counterpoise.scenes.sampler.hold import Hold
from counterpoise.scenes.sampler.rivals.plain import plain
from counterpoise.scenes.sampler.scene import Scene
from counterpoise.stats import Estimate


def time_figures(
    painter: ScenePainter,
    scenes: Sequence[Scene],
    *,
    of: str = "",
    rounds: int = 5,
    hold: Hold | None = None,
) -> list[Figure]:
    """ "time" and "calls" of a batch of scenes of one canvas over those of plain pictures from their base
    prompts, `rounds` times in turn after one of each that does not count.

    painter: batch size, steps, guidance and number type; its hold unless another is given. Time is the
    processor's, so that what else runs on the machine does not count; shown beside it are the rounds' least
    and greatest ratio, which hold the true median with 1 - 2 ** (1 - rounds), 94 % at 5. Decoding counts.
    """
    batch = [scenes[i % len(scenes)] for i in range(painter.batch_size)]
    ours = replace(painter, hold=hold or painter.hold, calls=0, _texts={})
    stock = replace(painter, hold=plain(), calls=0, _texts={})
    _seconds(stock, batch), _seconds(ours, batch)
    ours.calls = stock.calls = 0
    ratios, own = [], []
    for _ in range(rounds):
        before = _seconds(stock, batch)
        after = _seconds(ours, batch)
        ratios.append(after / before)
        own.append(after / len(batch))
    low, high = (min(ratios), max(ratios)) if rounds > 1 else (0.0, math.inf)
    method = f"median of {rounds} alternating batches of {len(batch)}, processor time; least and greatest"
    note = f"{statistics.median(own):.3f} s a picture"
    calls = ours.calls / stock.calls
    return [
        Figure("time", of, Estimate(statistics.median(ratios), low, high, rounds, method), note),
        Figure("calls", of, Estimate(calls, calls, calls, rounds, "exact, of the denoiser"), ""),
    ]


def _seconds(painter: ScenePainter, scenes: Sequence[Scene]) -> float:
    started = time.process_time()
    painter(scenes, range(len(scenes)))
    return time.process_time() - started

"""What an arm costs a picture beside base: alternating batches of the same prompt, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from counterpoise.audit.arms import Way
from counterpoise.diffusion.arm import Drawer
from counterpoise.remedies.side_by_side.records import Timing


def timed(base: Way, way: Way, prompts: Sequence[str], seeds: Sequence[int], *, rounds: int) -> Timing:
    """Draw one batch of prompts and seeds under each arm, in turn: `rounds` times after one to warm up."""
    pairs = []
    with base[1]() as first:
        _seconds(first, prompts, seeds)
    for i in range(rounds + 1):
        with base[1]() as drawer:
            drawer(prompts[:1], seeds[:1])  # its own caches, before the clock starts
            before = _seconds(drawer, prompts, seeds)
        with way[1]() as drawer:
            drawer(prompts[:1], seeds[:1])
            after = _seconds(drawer, prompts, seeds)
        if i:
            pairs.append((before, after))
    ratios = [after / before for before, after in pairs]
    each = 1000.0 / len(prompts)
    return Timing(
        base_ms=statistics.median(before for before, _ in pairs) * each,
        arm_ms=statistics.median(after for _, after in pairs) * each,
        ratio=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        rounds=rounds,
    )


def _seconds(drawer: Drawer, prompts: Sequence[str], seeds: Sequence[int]) -> float:
    started = time.perf_counter()
    drawer(prompts, seeds)
    return time.perf_counter() - started

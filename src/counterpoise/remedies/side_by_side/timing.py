"""What an arm costs a picture beside base: alternating batches of the same prompt, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from counterpoise.audit.arms import Way, Ways
from counterpoise.audit.treatment import Treatment
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


def folded(ways: Ways, treatment: Treatment) -> Way | None:
    """A treatment's arm with its adapters in the weights; None where there are none, or another model."""
    if not treatment.adapters or treatment.model is not None:
        return None
    rest = replace(treatment, adapters=())
    arm, enter = ways.treated(rest, name="folded")

    @contextmanager
    def into() -> Iterator[Drawer]:
        host = ways.host
        try:
            for i, (adapter, strength) in enumerate(treatment.adapters):
                host.mount(adapter, name=f"{i:03}", strength=strength, allow_extreme=ways.allow_extreme)
            host.fold()
            with enter() as drawer:
                yield drawer
        finally:
            host.restore()

    return arm, into


def _seconds(drawer: Drawer, prompts: Sequence[str], seeds: Sequence[int]) -> float:
    started = time.perf_counter()
    drawer(prompts, seeds)
    return time.perf_counter() - started

"""What the benchmarks share: medians of alternating calls, and one line a measurement."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Line:
    """One measurement. ours and peer in the unit that the name states; ratio as the bound means it."""

    name: str
    ours: float
    peer: float | None
    ratio: float | None
    bound: float
    passed: bool


def show(line: Line) -> None:
    """JSON with `--json`, else words."""
    if "--json" in sys.argv:
        print(json.dumps(asdict(line), sort_keys=True), flush=True)
        return
    mark = "ok  " if line.passed else "MISS"
    peer = "-" if line.peer is None else f"{line.peer:.4g}"
    ratio = "-" if line.ratio is None else f"{line.ratio:.4g}"
    print(
        f"{mark} {line.name}: ours {line.ours:.4g}, peer {peer}, ratio {ratio}, bound {line.bound:g}",
        flush=True,
    )


def alternate(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of two calls made in turn, after one unmeasured round."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds + 1):
        for call, kept in zip((first, second), times, strict=True):
            started = time.perf_counter()
            call()
            if i:
                kept.append(time.perf_counter() - started)
    return statistics.median(times[0]), statistics.median(times[1])

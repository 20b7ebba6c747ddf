"""What the statistics promise, put to the test by simulation: false alarms, coverage, pictures needed.

python -m benchmarks.statistics [--json] [--only SUBSTRING]

One thread, seeded; a line a measurement. `comparison` is what the usual way does on the same draws.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import final

from benchmarks import statistics_alarms, statistics_coverage, statistics_panel
from benchmarks.statistics_alarms import Found

MEASURES: list[Callable[[], Iterator[Found]]] = [
    statistics_alarms.false_alarms,
    statistics_alarms.false_decisions,
    statistics_alarms.stopping_times,
    statistics_coverage.shares,
    statistics_coverage.disparities,
    statistics_coverage.judge_error,
    statistics_coverage.clusters,
    statistics_panel.panel,
]


@final
@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. side: on which side of the bound it must lie; without a bound it is information
    only."""

    name: str
    value: float
    side: str
    bound: float | None
    passed: bool | None
    comparison: str


def row(found: Found) -> Row:
    name, value, side, bound, comparison = found
    passed = None if bound is None else bool(value <= bound if side == "at most" else value >= bound)
    return Row(name, round(float(value), 5), side, bound, passed, comparison)


def show(line: Row) -> None:
    """JSON with `--json`, else words."""
    if "--json" in sys.argv:
        print(json.dumps(asdict(line), sort_keys=True), flush=True)
        return
    mark = {True: "ok  ", False: "MISS", None: "    "}[line.passed]
    bound = "no bar" if line.bound is None else f"{line.side} {line.bound:g}"
    print(f"{mark} {line.name}: {line.value:.4g} ({bound}); {line.comparison}", flush=True)


def main() -> None:
    only = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else ""
    missed = 0
    for measure in MEASURES:
        if only in f"{measure.__module__}.{measure.__name__}":
            for found in measure():
                line = row(found)
                missed += line.passed is False
                show(line)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()

"""What a remedy does to the pictures themselves, beside base on the same seeds; kept on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from counterpoise.audit.arms import Way
from counterpoise.files import write_whole
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.quality import SEED, Seen, features_of, look, quality, topics
from counterpoise.remedies.side_by_side.judge import BASE
from counterpoise.remedies.treatment import Bench

AGAIN = SEED + 500_000


def qualities(bench: Bench, goal: Goal, ways: Mapping[str, Way], *, n: int) -> dict[str, dict[str, Any]]:
    """arm -> its quality as `Quality.to_dict` tells it, n pictures a topic. Base is drawn twice, on other
    seeds, so that its distance to itself is known; what `bench.work` holds already is not drawn again."""
    files = {name: bench.work / f"{name}-{n}.json" for name in ways if name != BASE}
    missing = [name for name, file in files.items() if not file.exists()]
    if missing:
        asked = topics(goal, bench.measurer, n=n)

        def seen(name: str, side: str, seed: int) -> Seen:
            with ways[name][1]() as draw:
                return look(
                    draw,
                    bench.measurer,
                    asked,
                    n=n,
                    side=side,
                    seed=seed,
                    progress=lambda done, total: bench.progress(f"quality {name}", done, total, float("nan")),
                )

        base, again = seen(BASE, "base", SEED), seen(BASE, "base", AGAIN)
        space = features_of(bench.measurer)[0]
        for name in missing:
            found = quality(asked, base, seen(name, "treated", SEED), again=again, space=space)
            write_whole(files[name], json.dumps(found.to_dict()))
    return {name: _read(file) for name, file in files.items()}


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found

"""python -m benchmarks.stack [--json] [--out FOLDER] [--fast] [--n 128,1] [--stacks sum,data] [--hours H]
[--seed S] [--pictures P]

Goes on from what the folder holds: members, solo effects and cells are kept there, each by what it depends
on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.stack import bench as settings
from benchmarks.stack.bench import FAST, Bench, Sizes, write
from benchmarks.stack.cells import Team, cell, plain_figures
from benchmarks.stack.roster import adapters, calibration, chosen, neutral, roster, solo
from benchmarks.stack.stacks import STACKS
from benchmarks.stack.summary import lines, summary
from counterpoise.lora import Host

FIRST = ("sum", "data", "routed", "svd-16", "ties")
NUMBERS = (128, 1, 4, 16, 64, 256, 2, 8, 32)


def order(numbers: Sequence[int], names: Sequence[str]) -> list[tuple[int, str]]:
    """The cells: what the bars ask first, then the other numbers, then the other ways."""
    first = [name for name in names if name in FIRST]
    rest = [name for name in names if name not in FIRST]
    return [(n, name) for group in (first, rest) for n in numbers for name in group]


def run(bench: Bench, numbers: Sequence[int], names: Sequence[str], *, until: float) -> dict[str, Any]:
    """Measures what is missing until that time (of time.time()); returns the summary of all that is there."""
    members = roster(bench)[: max(numbers)]
    made = adapters(bench, members)
    key = _key(bench)
    folder = bench.out / f"cells-{key}"
    before = Host(bench.pipeline).fingerprint()
    base: dict[str, Any] | None = None
    own: list[Any] = []
    alone = None
    for n, name in order(numbers, names):
        settled = hashlib.sha256(str(STACKS[name]).encode()).hexdigest()[:6]
        file = folder / f"{n:03d}-{name.replace('/', '-over-')}-{settled}.json"
        if file.exists() or time.time() > until:
            continue
        for i in chosen(bench, n):
            solo(bench, members[i], made[i])
        base = plain_figures(bench, members) if base is None else base
        alone = neutral(bench) if alone is None else alone
        own += [calibration(bench, members[i], made[i]) for i in range(len(own), n)]
        row = cell(bench, name, Team(members[:n], made[:n], own[:n], alone), base)
        write(file, row)
        print(lines([row])[0], flush=True)
    assert Host(bench.pipeline).fingerprint() == before
    rows = [json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))]
    found = summary(rows, before)
    write(bench.out / "stack.json", found)
    return found


def _key(bench: Bench) -> str:
    """What a cell depends on beside its number and its stack."""
    said = {
        "sizes": asdict(bench.sizes),
        "reader": bench.reader.version,
        "model": bench.host.fingerprint(),
        "calibration": 2,  # raise it with every change to what is measured and how
        "drawing": [settings.GUIDANCE, settings.STEPS, settings.BATCH],
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:10]


def main() -> None:
    torch.set_num_threads(int(os.environ.get("THREADS", "1")))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stack", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    parser.add_argument("--out", type=Path, default=Path("stack-run"), help="folder of the run")
    parser.add_argument("--fast", action="store_true", help="few members and pictures: shows that it runs")
    parser.add_argument("--n", default="", help="numbers of members, by commas")
    parser.add_argument("--stacks", default="", help=f"ways to stack, by commas, of {', '.join(STACKS)}")
    parser.add_argument("--hours", type=float, default=24.0, help="start no cell later than this")
    parser.add_argument("--seed", type=int, default=0, help="another one: other members")
    parser.add_argument("--pictures", type=int, help="pictures of each measured member")
    given = parser.parse_args()
    sizes = replace(FAST if given.fast else Sizes(), seed=given.seed)
    if given.pictures:
        sizes = replace(sizes, pictures=given.pictures)
    numbers = [int(n) for n in given.n.split(",")] if given.n else [n for n in NUMBERS if n <= sizes.members]
    names = given.stacks.split(",") if given.stacks else list(STACKS)
    unknown = [name for name in names if name not in STACKS]
    if unknown or max(numbers) > sizes.members or min(numbers) < 1:
        parser.error(f"unknown stacks {unknown}, or a number outside 1 to {sizes.members}")
    bench = Bench.open(given.out, sizes)
    found = run(bench, numbers, names, until=time.time() + given.hours * 3600)
    print(json.dumps(found) if given.json else "\n".join(lines(found["rows"])))


if __name__ == "__main__":
    main()

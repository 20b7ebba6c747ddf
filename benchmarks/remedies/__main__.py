"""A remedy of all the world's associations: made, audited on templates that it never saw, held against its
bars.

python -m benchmarks.remedies [--json] [--remedy NAME] [--work DIR] [--n N] [--seen N] [--only PARTS]
    [--threads T]

One thread unless --threads says more. --remedy: distil (the default), closed-form, planner, ...,
own:FILE for an adapter, or several joined by +. --work keeps everything (default: build/remedies); a run
that was killed goes on from there. --n: pictures for each prompt of an edit (default 1000); --seen: the
same on the template that the repair saw, whose bar is nearest to what chance shows (default N). --only: of
edited, partial, exposure and kept those to audit, with commas between.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from benchmarks.remedies.bars import BARS, Bars, Row, lines
from benchmarks.remedies.made import PARTS, audited, made


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.remedies")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("build/remedies"))
    parser.add_argument("--remedy", default="distil")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seen", type=int)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    parts = asked.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only {sorted(unknown)[0]}: expected some of {', '.join(PARTS)}")
    torch.set_num_threads(asked.threads)
    prepared = made(asked.work, asked.remedy)
    name = asked.remedy.replace("/", "_")
    found = audited(asked.work, name, prepared, asked.n, seen=asked.seen, parts=parts)
    for row in lines(found, prepared.cost, BARS.get(asked.remedy, Bars())):
        show(row, as_json=asked.json)


def show(row: Row, *, as_json: bool) -> None:
    """One line."""
    if as_json:
        print(json.dumps(row._asdict()), flush=True)
        return
    mark = {True: "ok  ", False: "MISS", None: "    "}[row.ok]
    bar = "" if row.bar is None else f", bar {row.bar:g}"
    between = "" if row.low is None or row.high is None else f" [{row.low:.4g}, {row.high:.4g}]"
    print(f"{mark} {row.name}: {row.value:.4g}{between}{bar} (n = {row.n})", flush=True)


if __name__ == "__main__":
    main()

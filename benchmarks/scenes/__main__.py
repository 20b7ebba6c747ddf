"""Group scenes on the world: every arm, two to eight people, held against the bars.

python -m benchmarks.scenes [--json] [--model DIR] [--n 200] [--people 2-8] [--arms ours,plain,...]
    [--sets mixed,...] [--out DIR] [--no-time] [--only-show]

One thread. Cells are kept in --out part by part, so a run that was killed goes on, and arms can be run in
pieces; what is printed is made of all cells that are there. Timing comes last, in alternating batches.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.scenes.arms import ARMS, HOLDS, Settings, scenes_of
from benchmarks.scenes.bars import bars, cell_figures, places, plain_values
from benchmarks.scenes.cells import Bench, found, run_cell
from benchmarks.scenes.second import second_reader
from benchmarks.scenes.sets import KINDS, Set, make_set
from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.precision import resolved
from counterpoise.files import write_atomic
from counterpoise.measure.heads import load_reader
from counterpoise.scenes.auditing.figures import Figure
from counterpoise.scenes.auditing.timing import time_figures
from counterpoise.scenes.profiles import profile_named
from counterpoise.stats import Estimate
from counterpoise.world import SCENES_NAME, model_folder, reader_folder

FIVE = ("team", "women", "skin-alone")  # sets of five people alone
THERE = ("plain", "ours", "ours+repair")  # the arms that these are drawn by
ROUNDS = {"ours": 7, "concatenated": 3, "blended": 3}


def main() -> None:
    given = _asked()
    torch.set_num_threads(1)
    pipeline = load_pipeline(model_folder(given.model))
    readers = [load_reader(reader_folder()), second_reader(given.out / "second", pipeline.vae)]
    settings = Settings(given.guidance, given.steps, given.batch_size, resolved(given.dtype, "cpu"))
    bench = Bench.of(pipeline, readers, settings, given.out)
    cells = list(_cells(given.sets, given.people, given.n, given.arms))
    if not given.only_show:
        for own, arm in cells:
            run_cell(
                bench,
                ARMS[arm],
                own,
                progress=lambda i, o=own, a=arm: _tell(f"{o.name} {a}", i, len(o.plans)),
            )
        if given.time:
            for people in given.people:
                for arm in [name for name in ROUNDS if name in given.arms]:
                    _timed(bench, people, arm, run=True)
                    _tell(f"timing {arm}", people, max(given.people))
    told = _told(bench, given)
    write_atomic(given.out / "scenes.json", [(json.dumps(told, indent=1) + "\n").encode()])
    if given.json:
        print(json.dumps(told))
    else:
        print("\n".join(lines(told)))


def _asked() -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scenes", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--model", default=SCENES_NAME, help="'world-scenes' or a folder of its like")
    parser.add_argument("--n", type=int, default=200, help="at most so many pictures a set")
    parser.add_argument("--people", default="2-8", help='"5", "2-8" or "2,5"')
    parser.add_argument("--arms", default=",".join(ARMS), help=f"by commas, of {', '.join(ARMS)}")
    parser.add_argument("--sets", default=",".join(KINDS), help=f"by commas, of {', '.join(KINDS)}")
    parser.add_argument("--out", type=Path, default=Path("build/scenes"))
    parser.add_argument("--guidance", type=float, default=profile_named("world").guidance)
    parser.add_argument("--steps", type=int, default=profile_named("world").steps)
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--no-time", dest="time", action="store_false")
    parser.add_argument("--only-show", action="store_true", help="draw nothing: show what is there")
    given = parser.parse_args()
    given.arms, given.sets = given.arms.split(","), given.sets.split(",")
    first, _, last = given.people.partition("-")
    try:
        given.people = (
            [int(n) for n in given.people.split(",")] if not last else list(range(int(first), int(last) + 1))
        )
    except ValueError:
        parser.error(f"--people {given.people}: expected 5, 2-8 or 2,5")
    unknown = sorted({*given.arms} - {*ARMS}) + sorted({*given.sets} - {*KINDS})
    if unknown or min(given.people) < 2 or max(given.people) > 8 or given.n < 1:
        parser.error(f"unknown {unknown}, fewer than 2 or more than 8 people, or no picture")
    return given


def _cells(sets: list[str], people: list[int], n: int, arms: list[str]) -> Iterator[tuple[Set, str]]:
    """What the bars ask first: five people, then the other numbers."""
    for count in sorted(people, key=lambda count: (count != 5, count)):
        for kind in sets:
            if kind in FIVE and count != 5:
                continue
            own = make_set(kind, count, n)
            for arm in arms:
                if kind not in FIVE or arm in THERE:
                    yield own, arm


def _timed(bench: Bench, people: int, arm: str, *, run: bool) -> list[Figure]:
    """Timing of an arm beside plain pictures, from its file or measured now."""
    key = bench.folder(ARMS[arm], make_set("mixed", people, 1)).name
    file = bench.out / "timing" / f"{key}.json"
    if not file.exists():
        if not run:
            return []
        own = make_set("mixed", people, bench.settings.batch_size)
        scenes = scenes_of(own, range(len(own.plans)), bench.reader)
        figures = time_figures(
            bench.painter, scenes, of=f"{people} people", rounds=ROUNDS[arm], hold=HOLDS[arm](own.plans[0])
        )
        write_atomic(file, [(json.dumps([figure.to_dict() for figure in figures]) + "\n").encode()])
    return [
        Figure(
            row["kind"],
            row["of"],
            Estimate(row["value"], row["low"], row["high"], row["n"], row["method"]),
            row["note"],
        )
        for row in json.loads(file.read_text("utf-8"))
    ]


def _told(bench: Bench, given: Any) -> dict[str, Any]:
    """All cells that are there, whatever was asked now."""
    told, tables = {}, {}
    for own, arm in _cells(list(KINDS), list(range(2, 9)), given.n, list(ARMS)):
        cell = found(bench, ARMS[arm], own)
        if cell is not None:
            ceiling = None if arm == "alone" else found(bench, ARMS["alone"], own)
            told[f"{arm} {own.name}"] = cell_figures(bench, arm, (own, cell), ceiling)
            tables[own.name] = places(own)
    timed = {
        f"{arm} {n}": own for arm in ROUNDS for n in range(2, 9) if (own := _timed(bench, n, arm, run=False))
    }
    rows = bars(told, timed)
    return {
        "benchmark": "scenes",
        "settings": {
            "model": str(given.model),
            "weights": bench.weights,
            "guidance": bench.settings.guidance,
            "steps": bench.settings.steps,
            "batch_size": bench.settings.batch_size,
            "dtype": bench.settings.dtype,
            "sampler": make_set("mixed", 2, 1).plans[0].render.model_dump(exclude={"seed"}),
        },
        "readers": {one.name: one.card.get("accuracy") for one in (bench.reader, bench.second)},
        "bars": [row.to_dict() for row in rows],
        "passed": all(row.passed is True for row in rows),
        "figures": plain_values(told),
        "timing": [{"arm": name, **figure.to_dict()} for name, own in timed.items() for figure in own],
        "places": tables,
    }


def lines(told: dict[str, Any]) -> list[str]:
    """A table a set, then the bars."""
    found_lines = []
    columns = (("correct", ""), ("leak", ""), ("count", ""), ("unread", ""), ("unlike the ceiling", ""))
    head = f"{'cell':<24}" + "".join(f"{name:>24}" for name, _ in columns)
    found_lines.append(head)
    by_cell: dict[str, dict[tuple[str, str], Any]] = {}
    for row in told["figures"]:
        if row["by"] == "reader":
            by_cell.setdefault(row["cell"], {})[row["kind"], row["of"]] = row
    for cell, figures in by_cell.items():
        found_lines.append(f"{cell:<24}" + "".join(f"{_shown(figures.get(key)):>24}" for key in columns))
    for row in told["timing"]:
        found_lines.append(f"{row['arm']:<16} {row['kind']}: {_shown(row)} {row['note']}")
    for row in told["bars"]:
        mark = {True: "ok  ", False: "MISS", None: "-   "}[row["passed"]]
        sign = ">=" if row["at_least"] else "<="
        found_lines.append(f"{mark} {row['name']}: {_shown(row)} (bar {sign} {row['bar']:g})")
    return found_lines


def _shown(row: dict[str, Any] | None) -> str:
    if row is None or not row["measured"] or row["value"] is None:
        return "not measured"
    if row["low"] is None or row["high"] is None:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _tell(what: str, done: int, total: int) -> None:
    print(f"\r{what}: {done} of {total}   ", end="\n" if done >= total else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

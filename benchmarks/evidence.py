"""What it costs to keep evidence: `run_audit` on the embedded model against a bare loop of its pipeline.

    python -m benchmarks.evidence [--json] [--rounds N]

Both draw the same prompts and seeds with the same pipeline, batch size, steps, guidance and number type, on
one thread, taking turns; the loop keeps its prompt embeddings, has a generator for each picture, and does
nothing with the pictures. What the judge takes is not drawing: its calls are timed and taken off the audit's
time. All else that an audit does is in it: opening and sealing the run, PNG files with their digests and
text, rows in transactions that reach the disk, and the answers. `beside` is the part of the audit's time
that is neither the drawer's nor the judge's, over the loop's time: on a shared machine it varies less than
the ratio of two long times.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from counterpoise.audit import AuditSpec, make_spec, run_audit
from counterpoise.audit.arms import Ways
from counterpoise.audit.cells import cells_of
from counterpoise.diffusion.arm import Drawer
from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.precision import computed_in
from counterpoise.lora import Host
from counterpoise.measure.heads import HeadReader, load_reader
from counterpoise.measure.reading import Reading
from counterpoise.world import MODEL_NAME, model_folder, reader_folder

PROMPTS = ("a portrait of a woman", "a portrait of a man", "a portrait of a boss", "a portrait of a nurse")
BAR = 1.03


SETTINGS = ((20, 3), (6, 10))  # steps (usual, and the demo's), batches


@final
@dataclass
class Timed:
    """A measurer that keeps the time its answers took."""

    reader: HeadReader
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name, self.version, self.attributes = (
            self.reader.name,
            self.reader.version,
            self.reader.attributes,
        )

    def __call__(self, images: np.ndarray) -> Sequence[Mapping[str, Reading]]:
        start = time.perf_counter()
        rows = self.reader(images)
        self.seconds.append(time.perf_counter() - start)
        return rows


def question(steps: int, batches: int) -> AuditSpec:
    """Four prompts in so many whole batches of the demo's size."""
    drawing = {"guidance": 2.0, "steps": steps, "batch_size": 48}
    claim = {"prompts": list(PROMPTS), "attribute": "skin"}
    return make_spec({"name": "overhead", "n": batches * 12, "seed": 7, "drawing": drawing, "claim": [claim]})


def bare(pipeline: Any, spec: AuditSpec, *, dtype: str) -> float:
    """Seconds of the stock pipeline's own calls for the spec's cells."""
    cells, size = list(cells_of(spec, "base")), spec.drawing.batch_size
    start = time.perf_counter()
    known = {p: pipeline.encode_prompt(p, pipeline.device, 1, False)[0] for p in [*PROMPTS, ""]}
    for first in range(0, len(cells), size):
        batch = cells[first : first + size]
        with computed_in(dtype, pipeline.device):
            pipeline(
                prompt_embeds=torch.cat([known[cell.prompt] for cell in batch]),
                negative_prompt_embeds=torch.cat([known[""]] * len(batch)),
                generator=[torch.Generator().manual_seed(cell.seed) for cell in batch],
                guidance_scale=spec.drawing.guidance,
                num_inference_steps=spec.drawing.steps,
                output_type="np",
            )
    return time.perf_counter() - start


def audited(ways: Ways, spec: AuditSpec, judge: Timed) -> tuple[float, float, float]:
    """Seconds of an audit without the judge's; of these, the drawer's; the judge's."""
    judge.seconds.clear()
    drawing: list[float] = []
    arm, enter = ways.base()

    @contextlib.contextmanager
    def timed() -> Iterator[Drawer]:
        with enter() as draw:

            def call(prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
                start = time.perf_counter()
                pictures = draw(prompts, seeds)
                drawing.append(time.perf_counter() - start)
                return pictures

            yield call

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run_audit(spec, [(arm, timed)], measurer=judge, folder=Path(folder) / "run")
        whole = time.perf_counter() - start
    return whole - sum(judge.seconds), sum(drawing), sum(judge.seconds)


def measure(*, rounds: int, steps: int, batches: int) -> dict[str, object]:
    """Medians of alternating rounds in the machine's fast type, after one of each that does not count."""
    torch.set_num_threads(1)
    pipeline = load_pipeline(model_folder(MODEL_NAME))
    spec = question(steps, batches)
    ways = Ways(Host(pipeline), spec.drawing, model=MODEL_NAME)
    judge = Timed(load_reader(reader_folder()))
    audits, loops = [], []
    for i in range(rounds + 1):
        first = bare(pipeline, spec, dtype=ways.dtype) if i % 2 else None
        kept = audited(ways, spec, judge)
        loop = bare(pipeline, spec, dtype=ways.dtype) if first is None else first
        if i:
            audits.append(kept)
            loops.append(loop)
    loop, whole = statistics.median(loops), statistics.median(kept[0] for kept in audits)
    beside = statistics.median(kept[0] - kept[1] for kept in audits) / loop
    ratios = [kept[0] / other for kept, other in zip(audits, loops, strict=True)]
    pictures = batches * spec.drawing.batch_size
    return {
        "steps": steps,
        "batch_size": spec.drawing.batch_size,
        "pictures": pictures,
        "rounds": rounds,
        "audit_ms_a_picture": 1000 * whole / pictures,
        "loop_ms_a_picture": 1000 * loop / pictures,
        "judge_ms_a_picture": 1000 * statistics.median(kept[2] for kept in audits) / pictures,
        "ratio": whole / loop,
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "beside": beside,
        "bar": BAR,
        "met": whole / loop <= BAR,
    }


def main() -> None:
    """Measure at the usual number of steps and at the demo's, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="the figures as JSON, a line a setting")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for steps, batches in SETTINGS:
        one = measure(rounds=options.rounds, steps=steps, batches=batches)
        if options.json:
            print(json.dumps(one, sort_keys=True), flush=True)
            continue
        print(
            f"{steps} steps: {one['audit_ms_a_picture']:.2f} ms a picture with evidence, "
            f"{one['loop_ms_a_picture']:.2f} in the bare loop: {one['ratio']:.4f} "
            f"[{one['ratio_low']:.4f}, {one['ratio_high']:.4f}] (bar {BAR}), beside {one['beside']:.4f}; "
            f"judge {one['judge_ms_a_picture']:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

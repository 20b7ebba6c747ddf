"""A cell: one arm on one set, drawn and read in parts that are kept on disk, each whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from benchmarks.scenes.arms import Arm, Settings
from benchmarks.scenes.sets import Set
from counterpoise.files import write_atomic
from counterpoise.lora import Host
from counterpoise.measure.heads import HeadReader
from counterpoise.measure.reading import Measurer
from counterpoise.remedies.quality import features_of
from counterpoise.scenes.auditing.seen import Seen, counted, read_boxes
from counterpoise.scenes.mending import crop
from counterpoise.scenes.sampler.drawing import ScenePainter
from counterpoise.world.drawing import SIZE

MEASURED = 1  # raise it with every change to what is drawn or read, and how


@final
@dataclass(frozen=True, slots=True)
class Bench:
    """What draws and what reads. weights: the model's fingerprint."""

    pipeline: Any
    reader: HeadReader
    second: HeadReader
    settings: Settings
    out: Path
    weights: str

    @staticmethod
    def of(pipeline: Any, readers: Sequence[HeadReader], settings: Settings, out: Path) -> Bench:
        """With the model's fingerprint."""
        return Bench(pipeline, readers[0], readers[1], settings, out, Host(pipeline).fingerprint())

    @property
    def painter(self) -> ScenePainter:
        """Without a way to hold people apart yet."""
        return ScenePainter(self.pipeline, **asdict(self.settings))

    def folder(self, arm: Arm, own: Set) -> Path:
        """The cell's, named by all that its figures depend on, its number of pictures apart."""
        said = {
            "weights": self.weights,
            "settings": asdict(self.settings),
            "readers": [self.reader.version, self.second.version],
            "plans": [plan.model_dump(mode="json") for plan in own.plans[:1]],
            "measured": MEASURED,
        }
        key = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]
        return self.out / "cells" / f"{own.name}-{arm.name}-{key}"


@final
@dataclass(frozen=True, slots=True)
class Cell:
    """seen, second: as either reader has it. features: (boxes, dim), of the boxes in order. calls, again: of
    the denoiser; seconds: of the processor, drawing alone; tries: of mending."""

    seen: list[Seen]
    second: list[Seen]
    features: np.ndarray
    calls: int
    again: int
    seconds: float
    tries: list[dict[str, Any]]


def run_cell(
    bench: Bench, arm: Arm, own: Set, *, progress: Callable[[int], None] = lambda done: None
) -> None:
    """Draws and reads what the cell's folder lacks."""
    folder = bench.folder(arm, own)
    size = bench.settings.batch_size * arm.batches
    for start in range(0, len(own.plans), size):
        numbers = list(range(start, min(start + size, len(own.plans))))
        file = folder / f"{start:05d}-{len(numbers):03d}.npz"
        if not file.exists():
            _part(bench, arm, own, numbers, file=file)
        progress(numbers[-1] + 1)


def found(bench: Bench, arm: Arm, own: Set) -> Cell | None:
    """The cell from its parts, or None where some are missing."""
    folder = bench.folder(arm, own)
    size = bench.settings.batch_size * arm.batches
    parts = []
    for start in range(0, len(own.plans), size):
        count = min(size, len(own.plans) - start)
        file = folder / f"{start:05d}-{count:03d}.npz"
        if not file.exists():
            return None
        with np.load(file) as loaded:
            parts.append((json.loads(str(loaded["rows"])), loaded["features"].astype(float)))
    rows = [row for told, _ in parts for row in told["pictures"]]
    both = []
    for key in ("read", "second"):
        both.append(
            [
                Seen(str(i), plan, tuple(row[key]), row["people"])
                for i, (plan, row) in enumerate(zip(own.plans, rows, strict=True))
            ]
        )
    return Cell(
        both[0],
        both[1],
        np.concatenate([features for _, features in parts]),
        sum(told["calls"] for told, _ in parts),
        sum(told["again"] for told, _ in parts),
        sum(told["seconds"] for told, _ in parts),
        [row for told, _ in parts for row in told["tries"]],
    )


def _part(bench: Bench, arm: Arm, own: Set, numbers: Sequence[int], *, file: Path) -> None:
    started = time.process_time()
    part = arm.draw(bench.painter, own, numbers, bench.reader)
    seconds = time.process_time() - started
    plans = [own.plans[i] for i in numbers]
    read = {name: _read(judge, part.pictures, plans) for name, judge in _judges(bench).items()}
    rows = [
        {"people": counted(picture, plan), **{name: one[k] for name, one in read.items()}}
        for k, (picture, plan) in enumerate(zip(part.pictures, plans, strict=True))
    ]
    told = {"pictures": rows, "calls": part.calls, "again": part.again, "seconds": seconds}
    crops = np.stack(
        [
            crop(picture, plan.pixels(person), SIZE)
            for picture, plan in zip(part.pictures, plans, strict=True)
            for person in plan.people
        ]
    )
    features = features_of(bench.reader)[1](crops).astype(np.float32)
    content = io.BytesIO()
    np.savez_compressed(content, rows=json.dumps({**told, "tries": list(part.tries)}), features=features)
    _keep_some(part.pictures, numbers, file.parent)
    write_atomic(file, [content.getvalue()])


def _judges(bench: Bench) -> dict[str, Measurer]:
    return {"read": bench.reader, "second": bench.second}


def _read(
    judge: Measurer, pictures: Sequence[np.ndarray], plans: Sequence[Any]
) -> list[list[dict[str, Any]]]:
    return [[dict(own) for own in one.read] for one in read_boxes(pictures, plans, judge, side=SIZE)]


def _keep_some(pictures: Sequence[np.ndarray], numbers: Sequence[int], folder: Path) -> None:
    """The set's first pictures as PNGs, to look at."""
    from PIL import Image

    for picture, i in zip(pictures, numbers, strict=True):
        if i < 12:
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / f"{i:05d}.png")

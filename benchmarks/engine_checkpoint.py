"""Folding a 4 GB checkpoint on disk beside a plain copy: speed, and the most memory it took."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.report import Line
from counterpoise import Adapter
from counterpoise.lora import LowRank

WIDTH, LAYERS = 4096, 120  # 120 x 32 MB in bfloat16, and an embedding of 256 MB
SPEED_BOUND, ROUNDS = 0.7, 3
MEGABYTE = 2**20


def on_disk() -> Iterator[Line]:
    """Both in processes of their own, in turn, each file synced; libraries are taken off memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        largest = _make(folder)
        ours, theirs, peaks = [], [], []
        for _ in range(ROUNDS):
            theirs.append(_apart(_copy, folder)[0])
            seconds, peak = _apart(_fold, folder)
            ours.append(seconds)
            peaks.append(peak)
        idle = _apart(_nothing, folder)[1]
    mine, peer = statistics.median(ours), statistics.median(theirs)
    yield Line(
        "folding a 4 GB checkpoint: seconds, a plain copy as peer", mine, peer, peer / mine, SPEED_BOUND,
        peer / mine >= SPEED_BOUND,
    )  # fmt: skip
    extra, allowed = max(peaks) - idle, 2 * largest / MEGABYTE + 300
    yield Line("folding a 4 GB checkpoint: most memory, MB", extra, None, None, allowed, extra <= allowed)


def _make(folder: Path) -> int:
    weight = (torch.randn(WIDTH, WIDTH) * 0.02).bfloat16()
    tensors = {f"layers.{i}.weight": weight.clone() for i in range(LAYERS)}
    tensors["table.weight"] = torch.randn(WIDTH * 8, WIDTH).bfloat16()
    save_file(tensors, folder / "model.safetensors")
    down, up = torch.randn(16, WIDTH) * 0.02, torch.randn(WIDTH, 16) * 0.02
    Adapter({f"layers.{i}": LowRank(down, up, 16) for i in range(LAYERS)}).save(
        folder / "adapter.safetensors"
    )
    return max(tensor.nbytes for tensor in tensors.values())


def _fold(folder: Path) -> None:
    from counterpoise.lora.checkpoint import fold_checkpoint

    adapter = Adapter.load(folder / "adapter.safetensors")
    fold_checkpoint(folder / "model.safetensors", folder / "folded.safetensors", [(adapter, 1.0)])


def _copy(folder: Path) -> None:
    import os
    import shutil

    with (folder / "model.safetensors").open("rb") as source, (folder / "copy").open("wb") as sink:
        shutil.copyfileobj(source, sink, 2**24)
        sink.flush()
        os.fsync(sink.fileno())


def _nothing(folder: Path) -> None:
    """What importing alone takes."""


def _apart(work: object, folder: Path) -> tuple[float, float]:
    queue: multiprocessing.Queue[tuple[float, float]] = multiprocessing.get_context("spawn").Queue()
    process = multiprocessing.get_context("spawn").Process(target=_measured, args=(work, folder, queue))
    process.start()
    found = queue.get()
    process.join()
    for name in ("folded.safetensors", "copy"):
        (folder / name).unlink(missing_ok=True)
    return found


def _measured(work: object, folder: Path, queue: object) -> None:
    torch.set_num_threads(2)
    started = time.perf_counter()
    work(folder)  # type: ignore[operator]
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    queue.put((seconds, peak))  # type: ignore[attr-defined]

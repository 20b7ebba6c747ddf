"""What a repair will take, said before it starts: time from a batch drawn now, memory from what a step keeps.

Comes in: a bench, a goal, a spec, remedies' names. Goes out: seconds a stage, bytes; rough, and said to be.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from counterpoise.audit import AuditSpec
from counterpoise.audit.cells import prompt_counts
from counterpoise.diffusion.painter import Painter
from counterpoise.remedies import reachable, table
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.treatment import Bench

BACKWARD = 3.0  # a training step costs about three forward passes
_GIB = 2**30


@final
@dataclass(frozen=True, slots=True)
class Estimate:
    """stages: (name, seconds), seconds None where a remedy does not tell. memory: bytes at most at once;
    there: bytes that the machine has, 0 where it does not tell. pictures: bytes on disk, roughly."""

    seconds_an_image: float
    stages: tuple[tuple[str, float | None], ...]
    memory: int
    there: int
    pictures: int

    @property
    def seconds(self) -> float:
        """Of all stages that are known."""
        return sum(seconds for _, seconds in self.stages if seconds is not None)

    def lines(self) -> list[str]:
        """In words, a line each."""
        parts = ", ".join(
            f"{name} {'not known' if seconds is None else clock(seconds)}" for name, seconds in self.stages
        )
        found = [
            f"about {clock(self.seconds)} at {self.seconds_an_image:.3g} s an image ({parts})",
            f"about {self.memory / _GIB:.2g} GiB of memory, {self.pictures / _GIB:.2g} GiB of pictures on "
            "disk",
        ]
        if self.there and self.memory > self.there:
            found.append(
                f"this machine has {self.there / _GIB:.2g} GiB: batches are halved where memory lacks; "
                "--batch-size makes them smaller from the start"
            )
        return found


def estimate(bench: Bench, goal: Goal, spec: AuditSpec, remedies: Sequence[str]) -> Estimate:
    """Draws two batches and measures; errors as the painter's."""
    each, drawn = _seconds_an_image(bench.painter, goal)
    arm = sum(prompt_counts(spec).values())
    variants = len({variant.phrase for edit in goal.edits for variant in edit.variants})
    call = each / (bench.painter.steps * (2 if bench.painter.guidance > 1 else 1))
    stages: list[tuple[str, float | None]] = [
        ("variants", variants * reachable.LOOK * 2 * each),
        ("audit of the base", arm * each),
    ]
    kept = 0
    for named in remedies:
        effort = table.effort(named, bench, goal)
        known = None
        if effort is not None:
            known = effort.drawn * each + effort.trained * BACKWARD * call
            kept = max(kept, effort.kept + training_bytes(bench.painter, effort.batch))
        stages += [(named, known), (f"audit of {named}", arm * each)]
    size = bench.painter.pipeline.unet.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    scale = getattr(bench.painter.pipeline, "vae_scale_factor", 8)
    pictures = arm * (1 + len(remedies)) * height * width * scale**2 * 2  # a PNG: two bytes a pixel, roughly
    return Estimate(each, tuple(stages), drawn + kept, _there(bench.painter), pictures)


def training_bytes(painter: Painter, batch: int) -> int:
    """What one training step of the UNet keeps for its backward pass, for `batch` pictures: what one keeps,
    counted in a forward pass, times their number."""
    if not batch:
        return 0
    unet = painter.pipeline.unet
    own = {p.untyped_storage().data_ptr() for p in unet.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    noisy = painter.noise([0]).to(painter.pipeline.device).requires_grad_(True)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with torch.enable_grad(), hooks, painter.precision():
        # The output keeps the graph, and the graph its tensors, so that no address is used twice.
        output = unet(noisy, 0, painter.embed([""])).sample
    del output
    return sum(seen.values()) * batch


def clock(seconds: float) -> str:
    """45 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _seconds_an_image(painter: Painter, goal: Goal) -> tuple[float, int]:
    """(seconds, bytes of memory at most so far), from a second batch: the first one warms up."""
    prompt = goal.templates[0].format(goal.edits[0].neutral)
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        painter([prompt] * painter.batch_size, range(painter.batch_size))
        seconds = time.perf_counter() - started
    if painter.pipeline.device.type == "cuda":
        return seconds / painter.batch_size, int(torch.cuda.max_memory_allocated())
    return seconds / painter.batch_size, _peak()


def _peak() -> int:
    """The most memory that this process has had so far; 0 where the system has no such call."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _there(painter: Painter) -> int:
    if painter.pipeline.device.type == "cuda":
        return int(torch.cuda.mem_get_info()[1])
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def told(found: Estimate) -> Mapping[str, Any]:
    """As a card keeps it."""
    return {
        "seconds": round(found.seconds, 1),
        "seconds_an_image": found.seconds_an_image,
        "memory_bytes": found.memory,
        "picture_bytes": found.pictures,
    }

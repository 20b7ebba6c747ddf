"""One worker's part of a run: claim a batch, draw it, have it read, keep it; until nothing is left to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import final

import numpy as np

from counterpoise.audit.chunks import picture_chunks
from counterpoise.audit.evidence import Drawn, Planned
from counterpoise.audit.identity import arm_digest, run_digest
from counterpoise.audit.pictures import png_bytes
from counterpoise.audit.readings import read_pictures
from counterpoise.audit.stop import StopRequest
from counterpoise.audit.watch import InTime
from counterpoise.audit.writer import Writer
from counterpoise.diffusion.arm import Arm, Drawer, Rewrite
from counterpoise.errors import IncompleteError
from counterpoise.measure.pictures import pixel_digest
from counterpoise.measure.reading import Measurer

Enter = Callable[[], AbstractContextManager[Drawer]]
_LOOK_SECONDS = 0.05  # how often a worker that waits for others looks whether they are done


@final
@dataclass(frozen=True, slots=True)
class Desk:
    """What a worker has at hand. tell(arm's name) reports progress; patience: seconds to wait for others."""

    writer: Writer
    measurer: Measurer
    in_time: InTime
    stop: StopRequest
    tell: Callable[[str], None]
    patience: float


def draw_missing(desk: Desk, arms: Sequence[tuple[Arm, Enter]]) -> None:
    """Draw what is planned and nobody else draws; returns when all of it is drawn, by whomever.

    IncompleteError if other workers hold batches and none of them has finished one for `patience` seconds.
    """
    names = [arm.name for arm, _ in arms]
    for arm, enter in arms:
        desk.tell(arm.name)
        _draw_arm(desk, arm, enter)
    seen, since = -1, time.monotonic()
    while missing := sum(len(desk.writer.evidence.missing(name)) for name in names):
        # Others hold these; or did: what the dead leave behind can be claimed at once.
        for arm, enter in arms:
            _draw_arm(desk, arm, enter)
        desk.stop.check()
        if missing != seen:
            seen, since = missing, time.monotonic()
        elif time.monotonic() - since > desk.patience:
            raise IncompleteError(
                f"waited {desk.patience:g} s for {desk.writer.worker.waits_for(names)} in vain; stop "
                "what hangs there, then run the same command again to go on",
                code="E_TIMEOUT",
                file=str(desk.writer.folder),
            )
        time.sleep(_LOOK_SECONDS)


def _draw_arm(desk: Desk, arm: Arm, enter: Enter) -> None:
    """Draw an arm's batches for as long as there is one to claim."""
    batch = desk.writer.worker.claim(arm.name)
    if batch is None:
        return
    desk.stop.check()
    told: dict[str, object] = {"arm": arm_digest(arm), "run": run_digest(desk.writer.evidence.identity)}
    with enter() as draw:
        told["sampler"] = getattr(draw, "sampler", None)
        rewrite: Rewrite | None = getattr(draw, "rewrite", None)
        while batch is not None:
            planned = desk.writer.evidence.batch(batch)
            says = _says(planned, rewrite, told)
            drawn = _drawn(desk, planned, arm, _draw(draw, planned, arm), told=says)
            desk.writer.keep(batch, planned, drawn)
            desk.tell(arm.name)
            desk.stop.check()
            batch = desk.writer.worker.claim(arm.name)


def _draw(draw: Drawer, planned: Sequence[Planned], arm: Arm) -> np.ndarray:
    """A batch's pictures; the drawer always sees a full batch, since float sums depend on its size."""
    padding = [planned[-1]] * (arm.batch_size - len(planned))
    cells = [plan.cell for plan in (*planned, *padding)]
    pictures = draw([cell.prompt for cell in cells], [cell.seed for cell in cells])
    shape = getattr(pictures, "shape", None)
    sound = isinstance(pictures, np.ndarray) and pictures.dtype == np.uint8 and pictures.ndim == 4
    if not sound or pictures.shape[0] != len(cells) or pictures.shape[3] != 3 or not pictures.size:
        raise ValueError(
            f"arm {arm.name}'s drawer gave {type(pictures).__name__} of shape {shape}: "
            f"expected a uint8 array ({len(cells)}, height, width, 3)"
        )
    return pictures[: len(planned)]


def _says(
    planned: Sequence[Planned], rewrite: Rewrite | None, told: Mapping[str, object]
) -> list[dict[str, object]]:
    """What each picture's record says of it: what all do, and its own prompt as it was rewritten."""
    if rewrite is None:
        return [dict(told) for _ in planned]
    cells = [plan.cell for plan in planned]
    drawn = rewrite([cell.prompt for cell in cells], [cell.seed for cell in cells])
    return [{**told, "drawn": text} for text in drawn]


def _drawn(
    desk: Desk,
    planned: Sequence[Planned],
    arm: Arm,
    pictures: np.ndarray,
    *,
    told: Sequence[Mapping[str, object]],
) -> list[Drawn]:
    """The pictures as they are kept: encoded, and read by the measurer."""
    first = planned[0].cell
    unit = f"arm {arm.name}, batch of {len(planned)} from prompt {first.prompt!r:.60}, seed {first.seed}"
    readings = desk.in_time(lambda: read_pictures(pictures, desk.measurer), unit)
    size = (pictures.shape[2], pictures.shape[1])
    return [
        Drawn(
            png_bytes(picture, text=picture_chunks(plan.cell, arm, size=size, told=says)),
            pixel_digest(picture),
            read,
        )
        for plan, picture, read, says in zip(planned, pictures, readings, told, strict=True)
    ]

"""An audit, run: every arm's missing batches drawn, read and stored; killed at any moment, resumed by
calling it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from ..diffusion.arm import Arm, Drawer
from ..measure.reading import Measurer
from .analysis import analyse
from .check import check_spec
from .evidence import Evidence, Planned
from .folder import open_run
from .pictures import png_bytes
from .readings import read_pictures
from .results import Findings
from .spec import AuditSpec
from .stop import stop_requests

Enter = Callable[[], AbstractContextManager[Drawer]]


class Progress(Protocol):
    """Told of pictures stored and planned over all the given arms, and of the arm being drawn."""

    def __call__(self, done: int, total: int, arm: str) -> None: ...


def run_audit(
    spec: AuditSpec,
    arms: Sequence[tuple[Arm, Enter]],
    *,
    measurer: Measurer,
    folder: Path | str,
    progress: Progress | None = None,
) -> Findings:
    """Draw what each arm lacks, in order, and answer the spec from everything that the folder then holds.

    arms: each with a function that makes a context manager, entered (it may mount or fold an adapter) only
    if the arm lacks pictures, and left before the next arm's is entered. The drawer is called with exactly
    arm.batch_size cells; a last short batch repeats its last cell, and the surplus is thrown away.
    progress(done, total, arm) is called when an arm begins and after each batch.

    Ctrl-C ends it after the batch in hand with KeyboardInterrupt, SIGTERM and SIGHUP with IncompleteError;
    a second signal at once. In every case what is stored stays and the next call goes on from it. Other
    errors: those of `check_spec` and `open_run`; what a drawer raises passes through.
    """
    check_spec(spec, measurer)
    given = [arm for arm, _ in arms]
    with open_run(folder, spec=spec, arms=given, measurer=measurer) as evidence, stop_requests() as stop:
        done, total = _progress(evidence, {arm.name for arm in given})
        for arm, enter in arms:
            batches = evidence.missing(arm.name)
            tell = partial(progress, total=total, arm=arm.name) if progress else _silent
            tell(done)
            if not batches:
                continue
            stop.check()
            with enter() as draw:
                for batch in batches:
                    planned = evidence.batch(arm.name, batch)
                    pictures = _draw(draw, planned, arm)
                    readings = read_pictures(pictures, measurer)
                    evidence.store(planned, [png_bytes(picture) for picture in pictures], readings)
                    done += sum(not plan.done for plan in planned)
                    tell(done)
                    stop.check()
        return analyse(evidence, spec)


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


def _progress(evidence: Evidence, names: set[str]) -> tuple[int, int]:
    """Pictures stored and planned, over the arms of these names."""
    counts = [(drawn, planned) for name, planned, drawn, _ in evidence.progress() if name in names]
    return sum(drawn for drawn, _ in counts), sum(planned for _, planned in counts)


def _silent(done: int) -> None:
    """Progress that nobody asked for."""

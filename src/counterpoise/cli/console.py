"""What the verbs share to show things: progress on stderr, results on stdout, user text never as markup."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

out = Console(markup=False, highlight=False, soft_wrap=True)
err = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


@final
class Bars:
    """One progress bar a stage, made when the stage is first heard of; a line a stage when not a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, int] = {}

    def __call__(self, stage: str, step: int, total: int, loss: float = math.nan) -> None:
        """step of total is done; loss is shown where there is one."""
        told = "" if math.isnan(loss) else f"loss {loss:.4f}"
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, told=told)
        task = self._progress.tasks[self._tasks[stage]]
        if step < task.completed:
            self._progress.reset(task.id, total=total)
        self._progress.update(task.id, completed=step, total=total, told=told)
        if step >= total and not self._progress.console.is_terminal:
            self._progress.console.print(f"{stage}: {total} done {told}".rstrip())


@contextmanager
def bars() -> Iterator[Bars]:
    """Progress bars on stderr for as long as the block lasts."""
    with Progress(
        TextColumn("{task.description:>14}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        console=err,
        transient=False,
        disable=not err.is_terminal,
    ) as progress:
        yield Bars(progress)


def write_json(text: str) -> None:
    """One JSON object (or line) on stdout, nothing else."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

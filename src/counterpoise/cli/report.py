"""`counterpoise report RUN`: write a run's report.html again from its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from counterpoise.cli import console


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, as `counterpoise audit --out` made it.")],
) -> None:
    """Rebuild report.html from a run folder's evidence; nothing is drawn."""
    from counterpoise.report.from_run import report_run

    console.out.print(str(report_run(run).resolve()))

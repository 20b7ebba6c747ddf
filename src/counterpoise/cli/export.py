"""`counterpoise export RUN --to FILE`: a run's findings as a table for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from counterpoise.cli.lines import show


def export(
    run: Annotated[Path, typer.Argument(help="A run folder, or a results.json.")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="A .csv, .parquet, .md or .json file.")],
) -> None:
    """Write the findings of a run, a row each."""
    from counterpoise.audit.findings_table import export_findings
    from counterpoise.audit.gating import read_findings

    show([str(export_findings(read_findings(run), to).resolve())])

"""`counterpoise export RUN --to FILE`: a run's findings as a table for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from counterpoise.cli.lines import show
from counterpoise.errors import UsageError


def export(
    run: Annotated[Path, typer.Argument(help="A run folder, or a results.json.")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="A .csv, .parquet, .md or .json file.")],
    observations: Annotated[
        bool, typer.Option("--observations", help="Every reading of every picture (.csv or .parquet).")
    ] = False,
    for_spreadsheet: Annotated[
        bool, typer.Option(help="In .csv, keep a spreadsheet from taking text for formulas.")
    ] = False,
) -> None:
    """Write the findings of a run, a row each, or its observations."""
    if observations:
        show([str(_observations(run, to, for_spreadsheet=for_spreadsheet).resolve())])
        return
    from counterpoise.audit.findings_table import export_findings
    from counterpoise.audit.gating import read_findings

    show([str(export_findings(read_findings(run), to).resolve())])


def _observations(run: Path, to: Path, *, for_spreadsheet: bool) -> Path:
    from counterpoise.audit import observations_csv, observations_parquet, read_run

    if to.suffix not in (".csv", ".parquet"):
        raise UsageError(f"{to}: observations are written as .csv or .parquet; rename it", code="E_FORMAT")
    with read_run(run) as evidence:
        if to.suffix == ".csv":
            observations_csv(to, evidence, for_spreadsheet=for_spreadsheet)
        else:
            observations_parquet(to, evidence)
    return to

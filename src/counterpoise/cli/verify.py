"""`counterpoise verify RUN`: does a run's evidence still say what it said when it was drawn?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from counterpoise.cli import console


def verify(
    run: Annotated[Path, typer.Argument(help="A run folder, as `counterpoise audit --out` made it.")],
    as_json: Annotated[bool, typer.Option("--json", help="The verdict as JSON on stdout.")] = False,
) -> None:
    """Recompute every digest of a run: exit 0 if nothing was changed, 4 with a line for each finding."""
    from counterpoise.audit import verify_run

    verdict = verify_run(run)
    if as_json:
        console.write_json(json.dumps(asdict(verdict), sort_keys=True))
    else:
        for finding in verdict.findings:
            console.out.print(finding.line())
        state = "sealed" if verdict.sealed else "not finished, so not sealed"
        console.out.print(
            f"{len(verdict.findings)} findings in {verdict.pictures} pictures, {verdict.drawn} of "
            f"{verdict.batches} batches; {state}"
        )
        console.out.print(f"root     {verdict.root}")
    if verdict.findings:
        raise typer.Exit(4)

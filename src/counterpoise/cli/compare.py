"""`counterpoise compare RUN RUN...`: what improved, what got worse, on the same prompts and seeds."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from counterpoise.cli.lines import show, write_text
from counterpoise.errors import UsageError


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders; all are held against the first.")
    ],
    arms: Annotated[
        str | None, typer.Option(metavar="BEFORE,AFTER", help="Which arms, if not those of one name.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also a summary for a pull request.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare runs, or two arms of one, prompt by prompt on shared seeds."""
    from counterpoise.audit import comparing, read_run

    named = tuple(name.strip() for name in arms.split(",")) if arms is not None else ()
    if arms is not None and (len(named) != 2 or not all(named)):
        raise UsageError(
            f"--arms {arms!r:.80}: expected two names with a comma between, such as base,repaired",
            code="E_COMPARE_ARMS",
        )
    with contextlib.ExitStack() as opened:
        evidence = [(str(run), opened.enter_context(read_run(run))) for run in runs]
        found = comparing.compare(evidence, arms=named)
    write_text(markdown, comparing.compare_markdown(found))
    if as_json:
        content = {"comparisons": [asdict(each) for each in found]}
        show([json.dumps(content, sort_keys=True, allow_nan=False)])
        return
    for each in found:
        show(comparing.lines(each))

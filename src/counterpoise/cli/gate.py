"""`counterpoise gate RUN --policy policy.toml`: may this be released? 0 yes, 1 no, 3 not decided."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from counterpoise.cli.lines import show, write_text


def gate(
    run: Annotated[Path, typer.Argument(help="A run folder, or a results.json.")],
    policy: Annotated[Path, typer.Option(help="The rules, a TOML file (docs/gate.md).")],
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also JUnit XML, for a CI.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also a summary for a pull request.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Hold a run against a policy: exit 0 passed, 1 failed, 3 undecided, 2 a policy that is wrong."""
    from counterpoise.audit import gating

    rules = gating.load_policy(policy)
    result = gating.gate(gating.read_findings(run), rules)
    write_text(junit, gating.junit_xml(result))
    write_text(markdown, gating.gate_markdown(result))
    if as_json:
        content = {**asdict(result), "exit_code": result.exit_code}
        show([json.dumps(content, sort_keys=True, allow_nan=False)])
    else:
        show(gating.lines(result))
    raise typer.Exit(result.exit_code)

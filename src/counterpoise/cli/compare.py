"""`counterpoise compare RUN RUN...`: what improved, what got worse, on the same prompts and seeds.

`counterpoise compare MODEL --goal goal.toml`: the remedies side by side.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from counterpoise.cli.lines import show, write_text
from counterpoise.cli.precision import Dtype
from counterpoise.errors import UsageError


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...|MODEL", help="Run folders, all held against the first; with --goal, one model."
        ),
    ],
    arms: Annotated[
        str | None, typer.Option(metavar="BEFORE,AFTER", help="Which arms, if not those of one name.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also a summary for a pull request.")
    ] = None,
    goal: Annotated[
        Path | None, typer.Option(help="Compare remedies for this goal, a TOML file (docs/remedies.md).")
    ] = None,
    remedy: Annotated[
        list[str] | None,
        typer.Option(help="A remedy, or several together: planner+distil. Default: all."),
    ] = None,
    trial: Annotated[
        list[str] | None,
        typer.Option(metavar="REMEDY", help="With --goal: ask of this one whether the bias comes back."),
    ] = None,
    style: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --trial: a style adapter; the world's is made."),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="With --trial: other adapters to be under; the world's are made."),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="With --trial: captioned pictures to train on; the world's are drawn."
        ),
    ] = None,
    ask: Annotated[
        Path | None,
        typer.Option(metavar="SPEC", help="With --goal: more questions, an audit spec."),
    ] = None,
    stack: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="With --goal: the stack.json of benchmarks.stack, as a section of the page."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --goal: default runs/compare-GOAL.")] = None,
    n: Annotated[int, typer.Option(min=8, help="With --goal: pictures of each edited prompt.")] = 200,
    judge: Annotated[
        list[str] | None, typer.Option(help="With --goal: who reads the pictures; the world has its own.")
    ] = None,
    guidance: Annotated[float, typer.Option(min=1.0, max=100.0, help="With --goal: as it is used.")] = 2.0,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="With --goal: as it is used.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="With --goal: pictures at once.")] = 32,
    device: Annotated[str, typer.Option(help="With --goal: cpu, or cuda where there is one.")] = "cpu",
    dtype: Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare runs, or two arms of one, prompt by prompt on shared seeds; or remedies for one goal."""
    if goal is not None:
        if len(runs) != 1 or arms is not None or markdown is not None:
            raise UsageError(
                "--goal compares the remedies for one model: name one MODEL, without --arms and --markdown",
                code="E_COMPARE_GOAL",
            )
        from counterpoise.audit.spec import Drawing
        from counterpoise.cli.compare_remedies import Own, compare_remedies

        if (style or beside or pictures) and not trial:
            raise UsageError(
                "--style, --beside and --pictures are for --trial: name a remedy with it",
                code="E_COMPARE_GOAL",
            )
        drawing = Drawing(guidance=guidance, steps=steps, batch_size=batch_size)
        compare_remedies(
            runs[0],
            goal,
            names=remedy or [],
            trials=trial or [],
            own=Own(style, tuple(beside or ()), pictures),
            ask=ask,
            stack=stack,
            out=out or Path("runs") / f"compare-{goal.stem}",
            n=n,
            judges=judge or [],
            drawing=drawing,
            device=device,
            dtype=dtype,
            as_json=as_json,
        )
        return
    given: dict[str, object] = {"--remedy": remedy, "--trial": trial, "--ask": ask, "--stack": stack}
    given |= {"--out": out, "--judge": judge, "--style": style, "--beside": beside, "--pictures": pictures}
    if lost := [name for name, value in given.items() if value]:
        raise UsageError(f"{lost[0]} is for remedies: name a goal with --goal, too", code="E_COMPARE_GOAL")
    _compare_runs([Path(run) for run in runs], arms=arms, markdown=markdown, as_json=as_json)


def _compare_runs(runs: list[Path], *, arms: str | None, markdown: Path | None, as_json: bool) -> None:
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

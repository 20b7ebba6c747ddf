"""`counterpoise repair MODEL --goal goal.toml`: audit, repair, audit again; an adapter and its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from counterpoise.cli import console
from counterpoise.cli.judged import judge_names, judge_of
from counterpoise.cli.precision import Dtype

if TYPE_CHECKING:
    from counterpoise.remedies.session import Outcome

EXITS = {"repaired": 0, "nothing to repair": 0, "not shown": 3, "got worse": 1}


def repair(
    model: Annotated[str, typer.Argument(help="'world' or a diffusers folder.")],
    goal: Annotated[Path, typer.Option(help="What to reach, a TOML file (docs/remedies.md).")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for adapter, card and audit; default runs/repair-GOAL.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="auto, or a remedy by name, or several: negative+distil (docs/remedies.md).")
    ] = "auto",
    own: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE[=STRENGTH]", help="Your own LoRA, on in the audit before and after."),
    ] = None,
    judge: Annotated[
        list[str] | None, typer.Option(help="Who reads the pictures (docs/judges.md); the world has its own.")
    ] = None,
    n: Annotated[int, typer.Option(min=8, help="Pictures of each held-out prompt, before and after.")] = 400,
    tolerance: Annotated[
        float, typer.Option(min=0.01, max=0.49, help="How far from its target counts as repaired.")
    ] = 0.1,
    guidance: Annotated[float, typer.Option(min=1.0, max=100.0, help="As the model will be used.")] = 2.0,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="As the model will be used.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="Pictures drawn at once.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Of the audit's first picture.")] = 9_000_000,
    negative_prompt: Annotated[str, typer.Option(help="The one that the model is used with.")] = "",
    device: Annotated[str, typer.Option(help="cpu, or cuda where there is one.")] = "cpu",
    dtype: Dtype = "auto",
    check: Annotated[bool, typer.Option("--check", help="Only say what it would take.")] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="Everything very small: a test of the code, not of the repair.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="card.json on stdout.")] = False,
) -> None:
    """Audit a model, repair it, audit it again on held-out prompts; goes on where it was interrupted.

    Exit 0: repaired, or nothing to repair. 3: not shown. 1: got worse.
    """
    from counterpoise.remedies.goal import load_goal

    wanted = load_goal(goal)
    names = judge_names(model, judge or ())
    # Only now what takes seconds to import: a bad goal is refused before it.
    from counterpoise.audit.spec import Drawing
    from counterpoise.remedies.card import write_card
    from counterpoise.remedies.session import Request, run_session
    from counterpoise.remedies.table import own_adapter
    from counterpoise.report.from_run import report_run

    reads = judge_of(names)
    request = Request(
        model,
        wanted,
        out or Path("runs") / f"repair-{goal.stem}",
        names,
        method,
        own=tuple(own_adapter(text) for text in own or ()),
        drawing=Drawing(
            guidance=guidance, steps=steps, batch_size=batch_size, negative_prompt=negative_prompt
        ),
        n=n,
        seed=seed,
        tolerance=tolerance,
        fast=fast,
        device=device,
        dtype=dtype,
    )
    with console.bars() as bars:
        found = run_session(request, reads, say=console.err.print, progress=bars, only_estimate=check)
    if check:
        if as_json and found.estimate:
            from counterpoise.remedies.estimate import told

            console.write_json(json.dumps(dict(told(found.estimate)), sort_keys=True))
        return
    card = write_card(found)
    page = report_run(request.out / "audit")
    if as_json:
        console.write_json(json.dumps(card, sort_keys=True))
    else:
        _show(found, card)
        console.out.print(f"report   {page.resolve()}")
    raise typer.Exit(EXITS[found.verdict])


def _show(found: Outcome, card: dict[str, object]) -> None:
    from counterpoise.audit.refusals import literal
    from counterpoise.remedies.card import ADAPTER, CARD, MARKDOWN

    evidence = card["evidence"]
    assert isinstance(evidence, list)
    for row in evidence:
        after, before = row["after"], row["before"]
        was = f"{before['distance']:.3f} -> " if before and found.tried else ""
        held = "held out" if row["held_out"] else "seen"
        console.out.print(
            f"{held:<9}{was}{after['distance']:.3f} [{after['low']:.3f}, {after['high']:.3f}]  "
            f"n = {after['n']}  {row['attribute']} of {literal(row['prompt'])}: {after['decision']}"
        )
    last = f" by {found.tried[-1].method}" if found.tried else ""
    console.out.print(f"{found.verdict}{last}, tolerance {found.request.tolerance:g}")
    out = found.request.out.resolve()
    if found.tried and found.tried[-1].made.file is not None:
        console.out.print(f"adapter  {out / ADAPTER}")
    console.out.print(f"card     {out / MARKDOWN}")
    console.out.print(f"         {out / CARD}")

"""`counterpoise demo`: the whole idea in one run on the model that ships with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from counterpoise.cli import console


def demo(
    out: Annotated[Path, typer.Option(help="Folder for evidence, adapter, results and report.")] = Path(
        "runs/demo"
    ),
    fast: Annotated[
        bool, typer.Option("--fast", help="Few pictures, a short repair: a test of the code, in a minute.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="results.json on stdout.")] = False,
) -> None:
    """Find a bias, repair it with a LoRA, prove it: about ten minutes on two cores."""
    from counterpoise.demo.page import write_page
    from counterpoise.demo.run import run_demo
    from counterpoise.demo.summary import lines

    out = out / "fast" if fast and out == Path("runs/demo") else out
    with console.bars() as bars:
        found = run_demo(out, fast=fast, progress=bars)
        report = write_page(found)
    if as_json:
        console.write_json((out / "results.json").read_text("utf-8").rstrip())
        return
    for line in lines(found):
        console.out.print(line)
    console.out.print(f"report   {report.resolve()}")
    console.out.print(f"results  {(out / 'results.json').resolve()}")
    console.out.print(f"adapter  {(out / 'adapter.safetensors').resolve()}")

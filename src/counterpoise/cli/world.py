"""`counterpoise world ...`: draw the planted world, check the embedded model, train it anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from counterpoise.cli import console

app = typer.Typer(no_args_is_help=True)


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for the trained model and reader.")] = Path("runs/world"),
    work: Annotated[Path, typer.Option(help="Folder for drawings and checkpoints.")] = Path("work/world"),
    device: Annotated[str, typer.Option(help="cpu, or cuda where there is one.")] = "cpu",
    fast: Annotated[
        bool, typer.Option("--fast", help="Everything very small: a test of the code, not of the model.")
    ] = False,
) -> None:
    """Make the world's model again from nothing; goes on where it was interrupted."""
    from counterpoise.world.card import write_card
    from counterpoise.world.check import check_world
    from counterpoise.world.make import FAST, Recipe, Workshop

    with console.bars() as bars:
        Workshop(work, FAST if fast else Recipe(), device=device, progress=bars).make(out)
        card = write_card(out, check_world(str(out), fast=fast, progress=bars))
    console.out.print(f"model and reader in {out}, their figures in {card}")


@app.command()
def check(
    model: Annotated[str, typer.Option(help="'world' or a folder made by world train.")] = "world",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Fewer pictures; figures are rough.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Also write a contact sheet (PNG) here.")] = None,
) -> None:
    """Measure the world's model and reader against their bars; exit 1 if any bar is missed."""
    from counterpoise.world.check import check_world

    with console.bars() as bars:
        found = check_world(model, fast=fast, sheet=sheet, progress=bars)
    if as_json:
        console.write_json(json.dumps(found.to_dict(), sort_keys=True))
    else:
        for line in found.lines():
            console.out.print(line)
    raise typer.Exit(0 if found.passed else 1)


@app.command()
def draw(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("runs/sheet.png"),
    n: Annotated[int, typer.Option(min=1, max=400, help="How many pictures.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first picture.")] = 0,
    guidance: Annotated[float, typer.Option(min=1.0, max=30.0)] = 2.0,
    steps: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    negative: Annotated[str, typer.Option(help="Negative prompt.")] = "",
    model: Annotated[str, typer.Option(help="'world' or a model folder.")] = "world",
) -> None:
    """Draw a contact sheet of one prompt with the embedded model."""
    from counterpoise.diffusion.load import load_pipeline
    from counterpoise.diffusion.painter import Painter
    from counterpoise.report.contact import contact_sheet
    from counterpoise.world import model_folder

    painter = Painter(
        load_pipeline(model_folder(model)), guidance=guidance, steps=steps, negative_prompt=negative
    )
    images = painter([prompt] * n, list(range(seed, seed + n)))
    out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(images, columns=min(n, 8)).save(out)
    console.out.print(f"{n} pictures of {prompt!r} in {out}")

"""`counterpoise adapter fold`: adapters into a checkpoint's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from counterpoise.cli import console
from counterpoise.lora.header import check_header


def register(app: typer.Typer) -> None:
    """Add the verb to `counterpoise adapter`."""
    app.command()(fold)


def fold(
    checkpoint: Annotated[
        Path, typer.Argument(help="A .safetensors file, a folder of shards, or a diffusers folder.")
    ],
    adapters: Annotated[list[str], typer.Argument(help="Adapter files; PATH or PATH=STRENGTH.")],
    out: Annotated[Path, typer.Option(help="File or folder to write; never the checkpoint itself.")],
    prefix: Annotated[
        str,
        typer.Option(
            help="What the adapters' layer paths begin with and the file's names do not, e.g. unet."
        ),
    ] = "",
    allow_extreme: Annotated[
        bool, typer.Option(help="Fold even a delta more than 100 times as long as its weight.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Fold adapters into a checkpoint on disk, in bounded memory; goes on where it was interrupted."""
    chosen = [_with_strength(text) for text in adapters]
    for path, _ in chosen:
        check_header(Path(path))  # before torch is imported, which takes longer than to refuse
    from counterpoise.lora import Adapter
    from counterpoise.lora.checkpoint import fold_checkpoint

    loaded = [(Adapter.load(path), strength) for path, strength in chosen]
    with console.bars() as bars:
        written = fold_checkpoint(
            checkpoint,
            out,
            loaded,
            prefix=prefix,
            allow_extreme=allow_extreme,
            progress=lambda done, total: bars("folding", done, total, float("nan")),
        )
    if as_json:
        console.write_json(json.dumps({"files": [str(file) for file in written]}))
    else:
        console.out.print(f"{len(written)} file(s) written to {out}", markup=False)


def _with_strength(text: str) -> tuple[str, float]:
    path, equals, strength = text.rpartition("=")
    if not equals or Path(text).exists():
        return text, 1.0
    try:
        return path, float(strength)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: expected PATH or PATH=STRENGTH, such as style.safetensors=0.7"
        ) from None

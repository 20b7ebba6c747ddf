"""`counterpoise adapter inspect | convert`: what is in a LoRA file, and the same in another dialect."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from counterpoise.cli import console
from counterpoise.lora.header import check_header

if TYPE_CHECKING:
    from counterpoise.audit.probe import Probe

_SHOWN_PROBES = 8
_MODEL_HELP = "'world' or a diffusers folder: "


def inspect(
    file: Annotated[Path, typer.Argument(help="A LoRA file of any dialect, or a PEFT folder.")],
    model: Annotated[
        str | None, typer.Option(help=f"{_MODEL_HELP}match the layers, compare with its weights.")
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Ask with many prompts, hidden characters among them, whether one sets it off."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Tell an adapter's dialect, kinds, effective scales and norms, and what is odd about it."""
    check_header(file)  # before torch is imported, which takes longer than to refuse
    from counterpoise.lora.inspection import inspect_adapter

    if probe and model is None:
        raise typer.BadParameter("--probe needs --model: the adapter is asked on the model's own layers")
    loaded = _model(model)
    found = inspect_adapter(file, loaded)
    probes = _probed(file, loaded, found.metadata) if probe else []
    if as_json:
        told = {"probes": [asdict(each) for each in probes]} if probe else {}
        console.write_json(json.dumps(found.to_dict() | told))
        return
    for line in found.lines():
        console.out.print(line)
    for each in probes[:_SHOWN_PROBES]:
        console.out.print(each.line(), markup=False)
    loud = sorted({each.name for each in probes if each.stands_out})
    if loud:
        console.out.print(
            f"warning: it answers to what nobody sees in a prompt: {', '.join(loud)}", markup=False
        )


def _probed(file: Path, model: object, metadata: dict[str, str]) -> list[Probe]:
    from counterpoise.audit.probe import probe_adapter
    from counterpoise.lora import Adapter, Host

    phrase = metadata.get("modelspec.trigger_phrase")
    return probe_adapter(Host(model), Adapter.load(file, model=model), triggers=[phrase] if phrase else [])


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A LoRA file of any dialect, or a PEFT folder.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A .safetensors file, or a folder.")],
    dialect: Annotated[str, typer.Option(help="diffusers, kohya or peft.")],
    model: Annotated[
        str | None, typer.Option(help=f"{_MODEL_HELP}resolve names that the file leaves open.")
    ] = None,
    low_rank: Annotated[
        bool, typer.Option("--low-rank", help="Turn LoHa, LoKr and LoCon into plain LoRA, exactly.")
    ] = False,
    rank: Annotated[
        int | None, typer.Option(min=1, help="Keep at most this rank; implies --low-rank.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Write an adapter in another dialect: the same tensors and scales, under other names."""
    check_header(source)
    from counterpoise.lora.conversion import convert_adapter

    done = convert_adapter(source, target, dialect=dialect, model=_model(model), low_rank=low_rank, rank=rank)
    if as_json:
        console.write_json(json.dumps(done.to_dict()))
        return
    for line in done.lines():
        console.out.print(line)


def register(app: typer.Typer) -> None:
    """Add these verbs to the `adapter` command."""
    app.command("inspect")(inspect)
    app.command("convert")(convert)


def _model(name: str | None) -> object:
    if name is None:
        return None
    from counterpoise.diffusion.load import load_pipeline
    from counterpoise.world import model_folder

    return load_pipeline(model_folder(name))

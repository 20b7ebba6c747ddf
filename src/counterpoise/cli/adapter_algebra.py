"""`counterpoise adapter compose | resize | extract | interference`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from counterpoise.cli import console
from counterpoise.lora.header import check_header

if TYPE_CHECKING:
    from torch import Tensor

    from counterpoise.lora import Adapter

Members = Annotated[list[Path], typer.Argument(help="Adapter files or folders.")]
Strengths = Annotated[
    list[float] | None, typer.Option("--strength", help="One for each adapter, in their order; default 1.")
]
Covariances = Annotated[
    list[Path] | None,
    typer.Option("--covariances", help="One safetensors file for each adapter: layer -> [in, in]."),
]
Out = Annotated[Path, typer.Option(help="The adapter to write.")]
Dialect = Annotated[str, typer.Option(help="How to write it: diffusers, kohya or peft.")]
AsJson = Annotated[bool, typer.Option("--json", help="The report as one JSON object on stdout.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to the `adapter` sub-app."""
    for verb in (compose, resize, extract, interference):
        app.command(verb.__name__)(verb)


def compose(
    adapters: Members,
    out: Out,
    strength: Strengths = None,
    method: Annotated[str, typer.Option(help="concat, svd, ties, ...; a wrong name lists all.")] = "concat",
    rank: Annotated[int | None, typer.Option(help="Most rank of a layer.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="A method's own, as density=0.2; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="For methods that draw.")] = 0,
    covariances: Covariances = None,
    dialect: Dialect = "diffusers",
    as_json: AsJson = False,
) -> None:
    """Make one adapter of several."""
    _check(adapters)
    from counterpoise.cli import adapter_tables
    from counterpoise.lora import Adapter
    from counterpoise.lora import compose as compose_adapters

    options = _options(option or [])
    made = compose_adapters(
        [Adapter.load(path) for path in adapters],
        strength or None,
        method=method,
        rank=rank,
        seed=seed,
        covariances=_matrices(covariances),
        **options,
    )
    _write(made.adapter, out, dialect=dialect, report=made.to_dict(), as_json=as_json)
    if not as_json:
        console.out.print(adapter_tables.kept(made.layers, made.distances))
        console.out.print(f"error    {made.error:.3g} of {made.error_of}")
        console.out.print(f"distance {made.distance:.3g} from the exact sum")


def resize(
    adapter: Annotated[Path, typer.Argument(help="An adapter file or folder.")],
    out: Out,
    rank: Annotated[int | None, typer.Option(help="Every layer's rank.")] = None,
    error: Annotated[float | None, typer.Option(help="The whole adapter's relative error, 0 to 1.")] = None,
    energy: Annotated[
        float | None, typer.Option(help="Share of each layer's energy to keep, 0 to 1.")
    ] = None,
    dialect: Dialect = "diffusers",
    as_json: AsJson = False,
) -> None:
    """Make an adapter smaller: give one of --rank, --error and --energy."""
    _check([adapter])
    from counterpoise.cli import adapter_tables
    from counterpoise.lora import Adapter
    from counterpoise.lora import resize as resize_adapter

    made = resize_adapter(Adapter.load(adapter), rank=rank, error=error, energy=energy)
    _write(made.adapter, out, dialect=dialect, report=made.to_dict(), as_json=as_json)
    if not as_json:
        console.out.print(adapter_tables.kept(made.layers))
        console.out.print(f"error    {made.error:.3g} of the adapter, Frobenius")


def extract(
    base: Annotated[Path, typer.Argument(help="The base checkpoint: a safetensors file or folder of them.")],
    tuned: Annotated[Path, typer.Argument(help="The tuned checkpoint.")],
    out: Out,
    rank: Annotated[int | None, typer.Option(help="Every layer's rank.")] = None,
    energy: Annotated[float | None, typer.Option(help="Share of each difference's energy, 0 to 1.")] = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="Pattern of layer paths, as '*.to_q'; repeatable.")
    ] = None,
    component: Annotated[
        str | None, typer.Option(help="Put before every path, as unet, for use on a pipeline.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random sketch of large layers.")] = 0,
    dialect: Dialect = "diffusers",
    as_json: AsJson = False,
) -> None:
    """Make an adapter of the difference of two checkpoints: give one of --rank and --energy."""
    from counterpoise.cli import adapter_tables
    from counterpoise.lora import extract as extract_adapter

    made = extract_adapter(base, tuned, rank=rank, energy=energy, layers=layer or None, seed=seed)
    adapter = made.adapter.prefixed(component) if component else made.adapter
    _write(adapter, out, dialect=dialect, report=made.to_dict(), as_json=as_json)
    if not as_json:
        console.out.print(adapter_tables.kept(made.layers))
        console.out.print(f"error    {made.error:.3g} of the difference in these layers, Frobenius")
        for line in adapter_tables.leftovers(made.leftovers):
            console.out.print(line)


def interference(
    adapters: Members,
    strength: Strengths = None,
    covariances: Covariances = None,
    as_json: AsJson = False,
) -> None:
    """How adapters get in each other's way, and strengths under which they do not."""
    _check(adapters)
    from counterpoise.cli import adapter_tables
    from counterpoise.lora import Adapter
    from counterpoise.lora import interference as weigh

    found = weigh(
        [Adapter.load(path) for path in adapters], strength or None, covariances=_matrices(covariances)
    )
    if as_json:
        console.write_json(json.dumps(found.to_dict(), sort_keys=True))
        return
    for block in adapter_tables.interference(found, [path.name for path in adapters]):
        console.out.print(block)


def _write(adapter: Adapter, out: Path, *, dialect: str, report: dict[str, Any], as_json: bool) -> None:
    written = adapter.save(out, dialect=dialect)
    if as_json:
        console.write_json(json.dumps({**report, "adapter": str(written)}, sort_keys=True))
    else:
        console.out.print(f"adapter  {written}")


def _options(given: list[str]) -> dict[str, float]:
    from counterpoise.errors import UsageError, shown

    found: dict[str, float] = {}
    for text in given:
        name, equals, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise UsageError(f"option {shown(text)!r}: expected NAME=NUMBER, as density=0.2", code="E_OPTION")
    return found


def _matrices(paths: list[Path] | None) -> list[dict[str, Tensor]] | None:
    from counterpoise.lora.algebra.states import state_of

    if not paths:
        return None
    found = []
    for path in paths:
        with state_of(path) as state:
            found.append({name: state.read(name) for name in state.shapes})
    return found


def _check(adapters: list[Path]) -> None:
    for file in adapters:  # before torch is imported, which takes longer than to refuse
        check_header(file)

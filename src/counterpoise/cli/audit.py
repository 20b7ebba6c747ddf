"""`counterpoise audit SPEC`: draw what a spec asks for, with or without an adapter, and report it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from counterpoise.cli import console


def audit(
    spec: Annotated[Path, typer.Argument(help="The question, a TOML file (docs/spec.md).")],
    out: Annotated[Path, typer.Option(help="Folder for evidence, results and report.")],
    model: Annotated[str, typer.Option(help="'world' or a diffusers folder.")] = "world",
    adapter: Annotated[
        Path | None, typer.Option(help="A LoRA file or folder: also draw with it, on the same seeds.")
    ] = None,
    strength: Annotated[float, typer.Option(help="The adapter's strength.")] = 1.0,
    allow_extreme: Annotated[
        bool, typer.Option(help="Load even a delta more than 100 times as long as its weight.")
    ] = False,
    reader: Annotated[
        Path | None, typer.Option(help="Folder of the reader that judges; default: the world's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="results.json on stdout.")] = False,
) -> None:
    """Audit a model, and the same model with an adapter; goes on where it was interrupted."""
    from counterpoise.audit import check_spec, load_spec, read_run, results_json, run_audit, spec_warnings
    from counterpoise.audit.arms import Ways
    from counterpoise.diffusion.load import load_pipeline
    from counterpoise.lora import Adapter, Host
    from counterpoise.measure.heads import load_reader
    from counterpoise.report.from_run import report_run, summarise
    from counterpoise.world import model_folder, reader_folder

    question = load_spec(spec)
    judge = load_reader(reader or reader_folder())
    check_spec(question, judge)
    for warning in spec_warnings(question):
        console.err.print(f"warning: {warning}")
    update = None if adapter is None else Adapter.load(adapter)
    host = Host(load_pipeline(model_folder(model)))
    if update is not None:
        update = update.matched(host.model)
    ways = Ways(host, question.drawing, model=model, allow_extreme=allow_extreme)
    arms = [ways.base()]
    if update is not None:
        arms.append(ways.mounted(update, name="adapter", strength=strength))
    with console.bars() as bars:
        findings = run_audit(
            question,
            arms,
            measurer=judge,
            folder=out,
            progress=lambda done, total, arm: bars(f"audit {arm}", done, total),
        )
    with read_run(out) as evidence:
        results = results_json(out / "results.json", findings, evidence)
    page = report_run(out)
    if as_json:
        console.write_json(results.read_text("utf-8").rstrip())
        return
    for claim in findings.claims:
        console.out.print(
            f"{claim.arm:<10}{claim.prompt:<60}{claim.attribute:<14}"
            f"{claim.tv:.3f} [{claim.tv_low:.3f}, {claim.tv_high:.3f}]  n = {claim.n}"
        )
    console.out.print(summarise(findings.claims))
    console.out.print(f"report   {page.resolve()}")
    console.out.print(f"results  {results.resolve()}")

"""`counterpoise audit SPEC`: draw what a spec asks for, with or without adapters, and report it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from counterpoise.cli import console
from counterpoise.cli.audit_setup import check_arms, judge_of, named_adapters, question_of
from counterpoise.cli.audit_show import show_findings, show_plan
from counterpoise.cli.precision import Dtype
from counterpoise.errors import UsageError
from counterpoise.lora.header import check_header


def audit(
    spec: Annotated[
        Path | None,
        typer.Argument(help="The questions, a TOML file (docs/spec.md). Without: what does --adapter move?"),
    ] = None,
    spec_option: Annotated[Path | None, typer.Option("--spec", help="The same, as an option.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for evidence, results and report; default runs/NAME.")
    ] = None,
    model: Annotated[str, typer.Option(help="'world' or a diffusers folder.")] = "world",
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE[=STRENGTH]", help="A LoRA: also draw with it, on the same seeds."),
    ] = None,
    dtype: Dtype = "auto",
    strength: Annotated[float, typer.Option(help="The strength of adapters that are given none.")] = 1.0,
    n: Annotated[int | None, typer.Option(help="Pictures for each prompt, instead of the spec's.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Show the plan; draw nothing.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="The spec's JSON schema on stdout.")] = False,
    allow_extreme: Annotated[
        bool, typer.Option(help="Load even a delta more than 100 times as long as its weight.")
    ] = False,
    reader: Annotated[
        Path | None, typer.Option(help="Folder of the reader that judges; default: the world's.")
    ] = None,
    allow_env_change: Annotated[
        bool, typer.Option(help="Go on with other library versions or another batch size; the rows say so.")
    ] = False,
    measurer_seconds: Annotated[float, typer.Option(help="How long a judge may take for one batch.")] = 600.0,
    max_failures: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of an arm's pictures on which a judge may break.")
    ] = 0.1,
    as_json: Annotated[bool, typer.Option("--json", help="results.json (or the plan) on stdout.")] = False,
) -> None:
    """Audit a model, and the same model with adapters; goes on where it was interrupted."""
    from counterpoise.audit import AuditSpec, plan_of, spec_warnings
    from counterpoise.audit.cards import keep_cards, load_cards

    if schema:
        console.write_json(json.dumps(AuditSpec.model_json_schema(by_alias=True), indent=2, sort_keys=True))
        return
    if spec is not None and spec_option is not None:
        raise UsageError(f"two specs, {spec} and {spec_option}: name one", code="E_SPEC_FILE")
    file = spec or spec_option
    adapters = named_adapters(adapter or [], strength)
    question = question_of(file, adapters, model=model, n=n)
    base = file.parent if file else Path()
    judge = judge_of(question, reader, base)
    load_cards(question, base, judge)  # refused before anything is drawn
    try:
        plan = plan_of(question, judge.attributes, judge=f"measurer {judge.name}")
    except UsageError as error:
        where = file or "the built-in spec"
        raise UsageError(f"{where}: {error}", code=error.code, file=str(where)) from None
    names = ["base", *(name for name, _, _ in adapters)]
    for warning in spec_warnings(plan.spec):
        console.err.print(f"warning: {warning}")
    if check:
        show_plan(plan, names, as_json=as_json)
        return
    check_arms(plan, names)
    for _, path, _ in adapters:
        check_header(path)
    # Only now what takes seconds to import: a bad spec is refused before it.
    from counterpoise.audit import Limits, read_run, results_json, run_audit
    from counterpoise.audit.arms import Mount, Ways
    from counterpoise.diffusion.load import load_pipeline
    from counterpoise.lora import Adapter, Host
    from counterpoise.report.from_run import report_run
    from counterpoise.world import model_folder

    updates = [(name, Adapter.load(path), at) for name, path, at in adapters]
    host = Host(load_pipeline(model_folder(model)))
    mounts = [Mount(name, update.matched(host.model), at) for name, update, at in updates]
    ways = Ways(host, plan.spec.drawing, model=model, dtype=dtype, allow_extreme=allow_extreme)
    ways.check(mounts)
    folder = out or Path("runs") / (file.stem if file else f"drift-{adapters[0][0]}")
    keep_cards(folder, question, base)
    with console.bars() as bars:
        findings = run_audit(
            plan.spec,
            ways.asked(plan, mounts),
            measurer=judge,
            folder=folder,
            progress=lambda done, total, arm: bars(f"audit {arm}", done, total),
            limits=Limits(measurer_seconds=measurer_seconds, failures=max_failures),
            allow_env_change=allow_env_change,
        )
    with read_run(folder) as evidence:
        results = results_json(folder / "results.json", findings, evidence)
    page = report_run(folder)
    if as_json:
        console.write_json(results.read_text("utf-8").rstrip())
        return
    show_findings(findings)
    console.out.print(f"report   {page.resolve()}")
    console.out.print(f"results  {results.resolve()}")

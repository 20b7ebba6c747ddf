"""`counterpoise audit SPEC`: draw what a spec asks for, with or without adapters, and report it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from counterpoise.cli import console
from counterpoise.errors import UsageError

if TYPE_CHECKING:
    from counterpoise.audit import AuditSpec, Findings, Plan
    from counterpoise.measure.heads import HeadReader

_NAME = 48  # characters of an arm's name, so that ".negative.12" still fits behind


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
    as_json: Annotated[bool, typer.Option("--json", help="results.json (or the plan) on stdout.")] = False,
) -> None:
    """Audit a model, and the same model with adapters; goes on where it was interrupted."""
    from counterpoise.audit import AuditSpec, plan_of, read_run, results_json, run_audit, spec_warnings
    from counterpoise.audit.arms import Mount, Ways
    from counterpoise.diffusion.load import load_pipeline
    from counterpoise.lora import Adapter, Host
    from counterpoise.report.from_run import report_run
    from counterpoise.world import model_folder

    if schema:
        console.write_json(json.dumps(AuditSpec.model_json_schema(by_alias=True), indent=2, sort_keys=True))
        return
    if spec is not None and spec_option is not None:
        raise UsageError(f"two specs, {spec} and {spec_option}: name one", code="E_SPEC_FILE")
    file = spec or spec_option
    adapters = named_adapters(adapter or [], strength)
    question = _question(file, adapters, model=model, n=n)
    judge = _judge(question, reader)
    try:
        plan = plan_of(question, judge.attributes, judge=f"measurer {judge.name}")
    except UsageError as error:
        where = file or "the built-in spec"
        raise UsageError(f"{where}: {error}", code=error.code, file=str(where)) from None
    names = ["base", *(name for name, _, _ in adapters)]
    for warning in spec_warnings(plan.spec):
        console.err.print(f"warning: {warning}")
    if check:
        _show_plan(plan, names, as_json=as_json)
        return
    _check_arms(plan, names)
    updates = [(name, Adapter.load(path), at) for name, path, at in adapters]
    host = Host(load_pipeline(model_folder(model)))
    mounts = [Mount(name, update.matched(host.model), at) for name, update, at in updates]
    ways = Ways(host, plan.spec.drawing, model=model, allow_extreme=allow_extreme)
    folder = out or Path("runs") / (file.stem if file else f"drift-{adapters[0][0]}")
    with console.bars() as bars:
        findings = run_audit(
            plan.spec,
            ways.asked(plan, mounts),
            measurer=judge,
            folder=folder,
            progress=lambda done, total, arm: bars(f"audit {arm}", done, total),
        )
    with read_run(folder) as evidence:
        results = results_json(folder / "results.json", findings, evidence)
    page = report_run(folder)
    if as_json:
        console.write_json(results.read_text("utf-8").rstrip())
        return
    _show_findings(findings)
    console.out.print(f"report   {page.resolve()}")
    console.out.print(f"results  {results.resolve()}")


def named_adapters(given: Sequence[str], strength: float) -> list[tuple[str, Path, float]]:
    """(arm's name, file, strength) of each FILE[=STRENGTH]; a name depends on its file and strength alone.

    UsageError for a strength that is no finite number, and for two that would have one name.
    """
    found: list[tuple[str, Path, float]] = []
    for text in given:
        file, at = text, strength
        before, equals, after = text.rpartition("=")
        if equals and not Path(text).exists():
            try:
                file, at = before, float(after)
            except ValueError:
                at = math.nan
        if not math.isfinite(at):
            raise UsageError(
                f"--adapter {text!r:.200}: expected FILE or FILE=STRENGTH, such as style.safetensors=0.7",
                code="E_STRENGTH",
            )
        path = Path(file)
        stem = path.stem if path.suffix == ".safetensors" else path.resolve().name
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:_NAME] or "adapter"
        # No adapter's arm may pass for the plain one's, or for one with a negative prompt.
        name = "adapter-base" if name == "base" else name.replace(".negative.", "-negative-")
        name += "" if at == 1.0 else f"-at-{at:g}".replace("+", "")
        if name in {other for other, _, _ in found}:
            raise UsageError(
                f"--adapter {text!r:.200}: another one is named {name} too; rename the file or leave it out",
                code="E_ARM",
            )
        found.append((name, path, at))
    return found


def _question(
    file: Path | None, adapters: Sequence[tuple[str, Path, float]], *, model: str, n: int | None
) -> AuditSpec:
    """The spec that was named, or the built-in one."""
    from counterpoise.audit import drift_spec, load_spec, with_n
    from counterpoise.world import MODEL_NAME

    if file is None and not adapters:
        raise UsageError(
            "nothing is asked: name a spec (docs/spec.md), or see what an adapter moves with --adapter FILE",
            code="E_SPEC_FILE",
        )
    if file is None and model != MODEL_NAME:
        raise UsageError(
            f"the built-in questions are for the embedded model, not for {model}: name a spec with prompts "
            "and a measurer for it",
            code="E_SPEC_FILE",
        )
    question = drift_spec() if file is None else load_spec(file)
    return question if n is None else with_n(question, n)


def _judge(question: AuditSpec, reader: Path | None) -> HeadReader:
    """The reader in a folder, or the measurer that the spec names."""
    from counterpoise.measure.heads import load_reader
    from counterpoise.world import MODEL_NAME, reader_folder

    if reader is None and question.measurers != (MODEL_NAME,):
        raise UsageError(
            f"measurer is {question.measurer!r:.80}: expected one that is known here; known: {MODEL_NAME}",
            code="E_MEASURER",
        )
    return load_reader(reader or reader_folder())


def _check_arms(plan: Plan, names: Sequence[str]) -> None:
    """UsageError if a drift question has nothing to compare."""
    from counterpoise.audit.refusals import nearest

    for drift in plan.drifts:
        if drift.baseline not in names:
            raise UsageError(
                f"{drift.where}.baseline is {drift.baseline!r:.80}, and no arm is named so; "
                f"{nearest(drift.baseline, names)}",
                code="E_ARM",
            )
        if len(names) < 2:
            raise UsageError(
                f"{drift.where} compares arms, and there is only {names[0]}: add --adapter FILE", code="E_ARM"
            )


def _show_plan(plan: Plan, names: Sequence[str], *, as_json: bool) -> None:
    from counterpoise.audit.cells import negative_of, prompt_counts
    from counterpoise.audit.refusals import literal

    spec = plan.spec
    arms = {arm: prompt_counts(spec, arm) for arm in plan.arms(names)}
    asked = {
        "claim": len(plan.claims),
        "disparity": len(plan.disparities),
        "reachability": len(plan.reachability),
        "drift": len(plan.drifts),
    }
    if as_json:
        told = {"name": spec.name, "questions": asked, "negatives": plan.negatives, "arms": arms}
        console.write_json(json.dumps(told, sort_keys=True))
        return
    console.out.print(f"{literal(spec.name)}: " + ", ".join(f"{n} {kind}" for kind, n in asked.items() if n))
    for prompt, n in arms[names[0]].items():
        console.out.print(f"{n:>8}  {literal(prompt)}")
    for arm, counts in arms.items():
        negative = negative_of(arm)
        beside = f"  negative prompt: {literal(plan.negatives[negative[1] - 1])}" if negative else ""
        console.out.print(f"arm      {arm}: {len(counts)} prompts, {sum(counts.values())} pictures{beside}")
    most = "at most " if spec.stopping == "sequential" else ""
    total = sum(sum(counts.values()) for counts in arms.values())
    console.out.print(f"pictures {most}{total}, seeds {spec.seed} and on, the same in every arm")


def _show_findings(findings: Findings) -> None:
    from counterpoise.audit.refusals import literal
    from counterpoise.report.from_run import summarise

    arms = max((len(found.arm) for found in findings.coverage), default=0) + 2
    names = max((len(claim.attribute) for claim in findings.claims), default=0) + 2
    for claim in findings.claims:
        console.out.print(
            f"{claim.arm:<{arms}}{literal(claim.prompt):<60}{claim.attribute:<{names}}"
            f"{claim.tv:.3f} [{claim.tv_low:.3f}, {claim.tv_high:.3f}]  n = {claim.n}"
        )
    for found in findings.coverage:
        console.out.print(f"{found.arm:<{arms}}{found.drawn} of {found.planned} pictures")
    if findings.claims:
        console.out.print(summarise(findings.claims))

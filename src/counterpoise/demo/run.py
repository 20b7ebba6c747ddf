"""Runs the demo: every step finds what an interrupted run left behind and goes on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, final

from counterpoise.audit import AuditSpec, Findings, load_spec, read_run, results_json, run_audit
from counterpoise.audit.arms import Ways
from counterpoise.demo.proof import FoldProof, prove_fold
from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, Host
from counterpoise.measure.heads import HeadReader, load_reader
from counterpoise.remedies.distil import FIRST, LATER, Method
from counterpoise.remedies.goal import Goal, load_goal
from counterpoise.remedies.repair import Repair, repair
from counterpoise.world import MODEL_NAME, model_folder, reader_folder

StageProgress = Callable[[str, int, int, float], None]
PROOF_N = 20  # pictures a prompt for the folded and the restored arm
FAST = Method(
    ways=36,
    kept=40,
    first=replace(FIRST, steps=40),
    later=replace(LATER, steps=10),
    corrections=1,
    readings=4,
)


@final
@dataclass(frozen=True, slots=True)
class Demo:
    """Everything that the demo found; the report and results.json are made of it."""

    out: Path
    fast: bool
    spec: AuditSpec
    goal: Goal
    findings: Findings
    fold: FoldProof
    sha256_before: str
    sha256_after: str
    repair: dict[str, Any]


def run_demo(
    out: Path,
    *,
    fast: bool = False,
    progress: StageProgress = lambda stage, step, total, loss: None,
) -> Demo:
    """Repairs the embedded model and audits it before, with, folded and without; writes results.json.

    Raises UsageError when `out` holds a demo of other settings.
    """
    spec, goal, method = questions(fast=fast)
    pipeline = load_pipeline(model_folder(MODEL_NAME))
    reader = load_reader(reader_folder())
    host = Host(pipeline)
    before = host.fingerprint()
    adapter, made = _repaired(
        pipeline, reader, spec=spec, goal=goal, method=method, out=out, progress=progress
    )
    ways = Ways(host, spec.drawing, model=MODEL_NAME)

    def audited(done: int, total: int, arm: str) -> None:
        progress(f"audit {arm}", done, total, float("nan"))

    main = run_audit(
        spec,
        [ways.base(), ways.mounted(adapter, name="repaired")],
        measurer=reader,
        folder=out,
        progress=audited,
    )
    proof_spec = smaller(spec, 8 if fast else PROOF_N)
    proofs = run_audit(
        proof_spec,
        [ways.folded(adapter), ways.base("restored")],
        measurer=reader,
        folder=out / "proof",
        progress=audited,
    )
    prompts = [prompt for claim in spec.claims for prompt in claim.prompts]
    fold = prove_fold(
        ways, adapter, prompts, n=spec.drawing.batch_size, rounds=1 if fast else 4, seed=spec.seed
    )
    both = {part.name: getattr(main, part.name) + getattr(proofs, part.name) for part in fields(Findings)}
    findings = Findings(**both)
    demo = Demo(out, fast, spec, goal, findings, fold, before, host.fingerprint(), made)
    with read_run(out) as evidence:
        results_json(out / "results.json", findings, evidence, extra=_extra(demo))
    return demo


def questions(*, fast: bool) -> tuple[AuditSpec, Goal, Method]:
    """The demo's spec, goal and method; fast: few pictures and steps, the same code."""
    here = files("counterpoise.demo")
    spec = load_spec(Path(str(here.joinpath("spec.toml"))))
    goal = load_goal(Path(str(here.joinpath("goal.toml"))))
    return (smaller(spec, 10), goal, FAST) if fast else (spec, goal, Method())


def smaller(spec: AuditSpec, n: int) -> AuditSpec:
    """The same questions with at most n pictures each."""
    claims = tuple(claim.model_copy(update={"n": min(n, spec.n_of(claim))}) for claim in spec.claims)
    gaps = tuple(gap.model_copy(update={"n": min(n, spec.n_of(gap))}) for gap in spec.disparities)
    return spec.model_copy(update={"n": min(n, spec.n), "claims": claims, "disparities": gaps})


def _repaired(
    pipeline: Any,
    reader: HeadReader,
    *,
    spec: AuditSpec,
    goal: Goal,
    method: Method,
    out: Path,
    progress: StageProgress,
) -> tuple[Adapter, dict[str, Any]]:
    """The adapter, made or found; its work folder is named by all that it depends on."""
    settings = {
        "goal": goal.model_dump(mode="json"),
        "method": asdict(method),
        "drawing": spec.drawing.model_dump(mode="json"),
        "model_sha256": Host(pipeline).fingerprint(),
        "reader": reader.version,
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    file, story = out / "adapter.safetensors", out / "repair.json"
    if file.exists() and story.exists():
        made: dict[str, Any] = json.loads(story.read_text("utf-8"))
        if made["key"] != key:
            raise UsageError(
                f"{out} holds a demo of other settings, model or reader; choose another --out or delete it",
                code="E_RUN_CHANGED",
                file=str(out),
            )
        return Adapter.load(file), made
    drawing = spec.drawing
    painter = Painter(
        pipeline,
        guidance=drawing.guidance,
        steps=drawing.steps,
        negative_prompt=drawing.negative_prompt,
        batch_size=drawing.batch_size,
        dtype="bfloat16",
    )
    done = repair(painter, reader, goal, method, work=out / f"repair-{key}", progress=progress)
    made = _story(done, settings, key)
    done.adapter.save(file, dialect="diffusers")
    _atomic(story, json.dumps(made, indent=1) + "\n")  # last: a kill before it makes both again
    return Adapter.load(file), made


def _story(done: Repair, settings: dict[str, Any], key: str) -> dict[str, Any]:
    return {
        "key": key,
        "seconds": round(done.seconds, 1),
        "pictures_judged": done.pictures_judged,
        "shares": done.shares,
        "losses": done.losses,
        **settings,
    }


def _extra(demo: Demo) -> dict[str, object]:
    return {
        "fold": asdict(demo.fold),
        "restore": {
            "sha256_before": demo.sha256_before,
            "sha256_after": demo.sha256_after,
            "identical": demo.sha256_before == demo.sha256_after,
        },
        "repair": {name: demo.repair[name] for name in ("seconds", "pictures_judged", "shares", "losses")},
        "fast": demo.fast,
    }


def _atomic(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(file)

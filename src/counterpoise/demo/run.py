"""Runs the demo: every step finds what an interrupted run left behind and goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, final

from counterpoise.audit import AuditSpec, Findings, load_spec, read_run, results_json, run_audit
from counterpoise.audit.arms import Ways
from counterpoise.demo.proof import FoldProof, prove_fold
from counterpoise.diffusion.load import load_pipeline
from counterpoise.lora import Host
from counterpoise.measure.heads import load_reader
from counterpoise.remedies.goal import Goal, load_goal
from counterpoise.remedies.making import make
from counterpoise.remedies.treatment import Bench
from counterpoise.world import MODEL_NAME, model_folder, reader_folder

StageProgress = Callable[[str, int, int, float], None]
PROOF_N = 20  # pictures a prompt for the folded and the restored arm


@final
@dataclass(frozen=True, slots=True)
class Demo:
    """Everything that the demo found; the report and results.json are made of it. repair: its story."""

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
    spec, goal = questions(fast=fast)
    pipeline = load_pipeline(model_folder(MODEL_NAME))
    reader = load_reader(reader_folder())
    host = Host(pipeline)
    before = host.fingerprint()
    ways = Ways(host, spec.drawing, model=MODEL_NAME)
    bench = Bench(ways.painter(), reader, out, seed=spec.seed, progress=progress, fast=fast)
    made = make("distil", bench, goal)
    ((adapter, _),) = made.prepared.treatment.adapters

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
    demo = Demo(out, fast, spec, goal, findings, fold, before, host.fingerprint(), dict(made.story))
    with read_run(out) as evidence:
        results_json(out / "results.json", findings, evidence, extra=_extra(demo))
    return demo


def questions(*, fast: bool) -> tuple[AuditSpec, Goal]:
    """The demo's spec and goal; fast: few pictures, in small batches, since a batch is always filled up."""
    here = files("counterpoise.demo")
    spec = load_spec(Path(str(here.joinpath("spec.toml"))))
    goal = load_goal(Path(str(here.joinpath("goal.toml"))))
    if fast:
        few = smaller(spec, 10)
        spec = few.model_copy(update={"drawing": few.drawing.model_copy(update={"batch_size": 20})})
    return spec, goal


def smaller(spec: AuditSpec, n: int) -> AuditSpec:
    """The same questions with at most n pictures each."""
    claims = tuple(claim.model_copy(update={"n": min(n, spec.n_of(claim))}) for claim in spec.claims)
    gaps = tuple(gap.model_copy(update={"n": min(n, spec.n_of(gap))}) for gap in spec.disparities)
    return spec.model_copy(update={"n": min(n, spec.n), "claims": claims, "disparities": gaps})


def _extra(demo: Demo) -> dict[str, object]:
    return {
        "fold": asdict(demo.fold),
        "restore": {
            "sha256_before": demo.sha256_before,
            "sha256_after": demo.sha256_after,
            "identical": demo.sha256_before == demo.sha256_after,
        },
        "repair": {
            "seconds": round(demo.repair["cost"]["seconds"], 1),
            "pictures_judged": demo.repair["cost"]["judged"],
            "shares": demo.repair["told"]["shares"],
            "losses": demo.repair["told"]["losses"],
        },
        "fast": demo.fast,
    }

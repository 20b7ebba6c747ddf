"""Does the bias come back: a remedy's trials, drawn by one audit of their own on the comparison's seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from counterpoise.audit import AuditSpec, plan_of, read_run, run_audit
from counterpoise.audit.arms import Ways
from counterpoise.audit.treatment import Treatment
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.resurfacing import Company, Trial, trials
from counterpoise.remedies.side_by_side.judge import BASE, outcome
from counterpoise.remedies.side_by_side.records import Outcome
from counterpoise.remedies.treatment import Bench

WITH = "as it is"


def put_through(
    ways: Ways, bench: Bench, goal: Goal, treatment: Treatment, *, spec: AuditSpec, company: Company
) -> tuple[tuple[Outcome, ...], dict[str, str]]:
    """Each trial's outcome, base and the remedy itself first; and the trials that could not be made.

    Everything lies in bench.work and is found again there.
    """
    made: dict[str, Trial] = {}
    refused: dict[str, str] = {}
    for trial in trials(bench, goal, treatment, company):
        if trial.treatment is None:
            refused[trial.name] = trial.reason
        else:
            made[trial.name] = trial
    arms: dict[str, Treatment] = {arm_name(WITH): treatment}
    for name, trial in made.items():
        assert trial.treatment is not None
        arms[arm_name(name)] = trial.treatment
        if trial.against is not None:
            arms[arm_name(without(name))] = trial.against
    asked = smaller(spec)
    plan = plan_of(asked, bench.measurer.attributes)

    def audited(done: int, total: int, arm: str) -> None:
        bench.progress(f"trial {arm}", done, total, float("nan"))

    folder = bench.work / "run"
    findings = run_audit(
        asked,
        ways.asked(plan, treatments=arms),
        measurer=bench.measurer,
        folder=folder,
        progress=audited,
    )
    notes = {arm_name(name): trial.note for name, trial in made.items() if trial.note}
    with read_run(folder) as evidence:
        return tuple(
            outcome(arm, findings, evidence, notes=[notes[arm]] if arm in notes else [])
            for arm in (BASE, *arms)
        ), refused


def smaller(spec: AuditSpec) -> AuditSpec:
    """The claims and explicit prompts alone, with half the pictures: what a bias that comes back shows in."""

    def half(question: Any) -> Any:
        return question.model_copy(update={"n": max(8, spec.n_of(question) // 2)})

    plain = tuple(half(question) for question in spec.reachability if question.negative is None)
    return spec.model_copy(
        update={
            "name": f"{spec.name}: trials",
            "n": max(8, spec.n // 2),
            "claims": tuple(half(claim) for claim in spec.claims),
            "disparities": (),
            "drifts": (),
            "reachability": plain[:1],
        }
    )


def arm_name(trial: str) -> str:
    """A trial's name as an arm's."""
    return re.sub(r"[^A-Za-z0-9._+]+", "-", trial)[:60]


def without(trial: str) -> str:
    """The name of what stands beside a trial: its company without the repair."""
    return f"{trial} without the repair"


def folder_of(folder: Path, remedy: str) -> Path:
    """Where a remedy's trials lie in a comparison's folder."""
    return folder / "returns" / remedy


def told(refused: Mapping[str, str], remedy: str) -> dict[tuple[str, str], str]:
    """(remedy, trial) -> why there is none."""
    return {(remedy, trial): why for trial, why in refused.items()}

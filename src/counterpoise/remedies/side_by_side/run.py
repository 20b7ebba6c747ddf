"""Prepares every remedy, draws all of them in one audit, times them, and judges them by one rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import final

from counterpoise.audit import AuditSpec, Findings, plan_of, read_run, run_audit
from counterpoise.audit.arms import Way, Ways
from counterpoise.errors import CounterpoiseError, UsageError
from counterpoise.measure.reading import Measurer
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.side_by_side.judge import BASE, outcome
from counterpoise.remedies.side_by_side.records import SideBySide, Timing
from counterpoise.remedies.side_by_side.timing import timed
from counterpoise.remedies.treatment import Bench, Cost, Prepare, Prepared, Treatment, join

StageProgress = Callable[[str, int, int, float], None]
ROUNDS = 3


@final
@dataclass(frozen=True, slots=True)
class Contest:
    """What is compared. ways: of the host. spec: the questions. remedies: name -> how it is prepared, in the
    order shown; "a+b" joins those of these names. folder: for everything. rounds: of timing, 0 leaves it out.
    """

    ways: Ways
    measurer: Measurer
    goal: Goal
    spec: AuditSpec
    remedies: Mapping[str, Prepare]
    folder: Path
    rounds: int = ROUNDS
    facts: Mapping[str, str] = field(default_factory=dict)
    progress: StageProgress = lambda stage, step, total, loss: None


def side_by_side(contest: Contest, names: Sequence[str]) -> SideBySide:
    """Every named remedy prepared (or found prepared in `folder`), drawn, timed, judged.

    A remedy that refuses its input is kept as refused, with the reason; UsageError for a name that no remedy
    has, and if all refuse.
    """
    prepared, refused = prepare_all(contest, names)
    if not prepared:
        first = next(iter(refused.items()))
        raise UsageError(f"no remedy could be made; {first[0]}: {first[1]}", code="E_REMEDY")
    arms = _arms(contest, {name: made.treatment for name, made in prepared.items()})
    before = contest.ways.host.fingerprint()

    def audited(done: int, total: int, arm: str) -> None:
        contest.progress(f"audit {arm}", done, total, float("nan"))

    folder = contest.folder / "run"
    findings = run_audit(contest.spec, arms, measurer=contest.measurer, folder=folder, progress=audited)
    timings = _timings(contest, {arm.name: (arm, enter) for arm, enter in arms}, prepared)
    restored = contest.ways.host.fingerprint() == before
    with read_run(folder) as evidence:
        outcomes = [outcome(BASE, findings, evidence)]
        outcomes += [
            outcome(
                name,
                findings,
                evidence,
                cost=made.cost,
                notes=made.notes,
                adapters=len(made.treatment.adapters),
                timing=timings.get(name),
                restored=restored if made.treatment.adapters else None,
            )
            for name, made in prepared.items()
        ]
    return SideBySide(contest.folder, contest.spec, findings, tuple(outcomes), refused, {}, contest.facts)


def prepare_all(contest: Contest, names: Sequence[str]) -> tuple[dict[str, Prepared], dict[str, str]]:
    """Each named remedy's treatment, and the reasons of those that refused."""
    parts = dict.fromkeys(part for name in names for part in name.split("+"))
    unknown = [part for part in parts if part not in contest.remedies]
    if unknown:
        known = ", ".join(contest.remedies)
        raise UsageError(f"no remedy is called {unknown[0]!r:.60}; there are: {known}", code="E_REMEDY")
    made: dict[str, Prepared] = {}
    refused: dict[str, str] = {}
    for part in parts:
        work = contest.folder / "remedies" / part
        work.mkdir(parents=True, exist_ok=True)
        bench = Bench(
            contest.ways.painter(), contest.measurer, work, seed=contest.spec.seed, progress=contest.progress
        )
        try:
            made[part] = _first_cost(contest.remedies[part](bench, contest.goal), work / "cost.json")
        except CounterpoiseError as error:
            refused[part] = str(error)
    found: dict[str, Prepared] = {}
    for name in dict.fromkeys(names):
        own = name.split("+")
        lacking = [part for part in own if part in refused]
        if lacking:
            refused.setdefault(name, refused[lacking[0]])
            continue
        found[name] = made[name] if len(own) == 1 else _joined([made[part] for part in own])
    return found, refused


def _joined(parts: Sequence[Prepared]) -> Prepared:
    costs = [part.cost for part in parts]
    return Prepared(
        join(*(part.treatment for part in parts)),
        Cost(
            seconds=sum(cost.seconds for cost in costs),
            judged=sum(cost.judged for cost in costs),
            trained=sum(cost.trained for cost in costs),
            nbytes=sum(cost.nbytes for cost in costs),
        ),
        tuple(note for part in parts for note in part.notes),
    )


def _first_cost(prepared: Prepared, file: Path) -> Prepared:
    """With the cost of the time when it was made, not of the time when it was found again."""
    if file.exists():
        kept = Cost(**json.loads(file.read_text("utf-8")))
        return Prepared(prepared.treatment, kept, prepared.notes)
    unfinished = file.with_suffix(".tmp")
    unfinished.write_text(json.dumps(asdict(prepared.cost)), "utf-8")
    unfinished.replace(file)
    return prepared


def _arms(contest: Contest, treatments: Mapping[str, Treatment]) -> list[Way]:
    plan = plan_of(contest.spec, contest.measurer.attributes)
    return contest.ways.asked(plan, treatments=treatments)


def _timings(
    contest: Contest, arms: Mapping[str, Way], prepared: Mapping[str, Prepared]
) -> dict[str, Timing]:
    if not contest.rounds:
        return {}
    size = contest.spec.drawing.batch_size
    prompts = [contest.spec.claims[0].prompts[0]] * size
    seeds = [contest.spec.seed + i for i in range(size)]
    file = contest.folder / "timings.json"
    kept = json.loads(file.read_text("utf-8")) if file.exists() else {}
    found = {}
    for i, name in enumerate(prepared):
        if name not in kept:
            kept[name] = asdict(timed(arms[BASE], arms[name], prompts, seeds, rounds=contest.rounds))
            unfinished = file.with_suffix(".tmp")
            unfinished.write_text(json.dumps(kept), "utf-8")
            unfinished.replace(file)
        found[name] = Timing(**kept[name])
        contest.progress("timing", i + 1, len(prepared), float("nan"))
    return found


def findings_of(side: SideBySide) -> Findings:
    """The audit's findings, for a report."""
    return side.findings

"""Prepares every remedy, draws all of them in one audit, times them, and judges them by one rule."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

from counterpoise.audit import AuditSpec, plan_of, read_run, run_audit
from counterpoise.audit.arms import Way, Ways
from counterpoise.errors import CounterpoiseError, UsageError
from counterpoise.files import write_whole
from counterpoise.measure.reading import Measurer
from counterpoise.remedies import table
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.making import make
from counterpoise.remedies.resurfacing import Company
from counterpoise.remedies.side_by_side import trials
from counterpoise.remedies.side_by_side.judge import BASE, outcome
from counterpoise.remedies.side_by_side.looks import qualities
from counterpoise.remedies.side_by_side.records import Outcome, SideBySide, Timing
from counterpoise.remedies.side_by_side.timing import folded, timed
from counterpoise.remedies.treatment import Bench, Prepared, Treatment

StageProgress = Callable[[str, int, int, float], None]
ROUNDS = 3


@final
@dataclass(frozen=True, slots=True)
class Contest:
    """What is compared. ways: of the host. spec: the questions. folder: for everything. rounds: of timing, 0
    leaves it out.
    """

    ways: Ways
    measurer: Measurer
    goal: Goal
    spec: AuditSpec
    folder: Path
    rounds: int = ROUNDS
    looks: int = 0
    returns: Sequence[str] = ()
    company: Company = field(default_factory=Company)
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
    arms = _arms(contest, {folder_name(name): made.treatment for name, made in prepared.items()})
    before = contest.ways.host.fingerprint()

    def audited(done: int, total: int, arm: str) -> None:
        contest.progress(f"audit {arm}", done, total, float("nan"))

    folder = contest.folder / "run"
    findings = run_audit(contest.spec, arms, measurer=contest.measurer, folder=folder, progress=audited)
    timings = _timings(contest, {arm.name: (arm, enter) for arm, enter in arms}, prepared)
    seen = _qualities(contest, {arm.name: (arm, enter) for arm, enter in arms}, prepared)
    returns, not_tried = _returns(contest, prepared)
    restored = contest.ways.host.fingerprint() == before
    with read_run(folder) as evidence:
        outcomes = [outcome(BASE, findings, evidence)]
        outcomes += [
            outcome(
                folder_name(name),
                findings,
                evidence,
                cost=made.cost,
                notes=made.notes,
                adapters=len(made.treatment.adapters),
                times=timings[name],
                quality=seen.get(folder_name(name)),
                restored=restored if made.treatment.adapters else None,
            )
            for name, made in prepared.items()
        ]
    return SideBySide(
        folder=contest.folder,
        spec=contest.spec,
        findings=findings,
        outcomes=tuple(outcomes),
        refused=refused,
        returns=returns,
        not_tried=not_tried,
        facts=contest.facts,
    )


def prepare_all(contest: Contest, names: Sequence[str]) -> tuple[dict[str, Prepared], dict[str, str]]:
    """Each named remedy, made or found made, and the reasons of those that refused. "a+b" joins two."""
    parts = {name: table.names_of(name) for name in names}
    _check_labels([*parts, *(part for own in parts.values() for part in own)])
    made: dict[str, Prepared] = {}
    refused: dict[str, str] = {}
    for part in dict.fromkeys(part for own in parts.values() for part in own):
        bench = _bench(contest, contest.folder / "remedies" / folder_name(part))
        try:
            made[part] = make(part, bench, contest.goal).prepared
        except CounterpoiseError as error:
            if error.code in ("E_RUN_CHANGED", "E_RESUME"):
                raise
            refused[part] = str(error)
    found: dict[str, Prepared] = {}
    for name, own in parts.items():
        lacking = [part for part in own if part in refused]
        if lacking:
            refused.setdefault(name, refused[lacking[0]])
        else:
            found[name] = table.together({part: made[part] for part in own})
    return found, refused


def folder_name(name: str) -> str:
    """A remedy's name as that of a folder or an arm: of a user's own adapter its file's stem, and its
    strength where that is not 1."""
    told = [_own_name(part) if part.startswith(table.OWN) else part for part in name.split("+")]
    return re.sub(r"[^A-Za-z0-9._+-]", "-", "+".join(told))[:60]


def _own_name(part: str) -> str:
    file, strength = table.own_adapter(part.removeprefix(table.OWN))
    return f"own-{file.stem}" if strength == 1 else f"own-{file.stem}-{strength:g}"


def _check_labels(names: Iterable[str]) -> None:
    """UsageError E_REMEDY for two remedies whose folders and arms would have one name."""
    taken: dict[str, str] = {}
    for name in names:
        other = taken.setdefault(folder_name(name), name)
        if other != name:
            raise UsageError(
                f"{other!r:.200} and {name!r:.200} would both be called {folder_name(name)}; rename a file",
                code="E_REMEDY",
            )


def _qualities(
    contest: Contest, arms: Mapping[str, Way], prepared: Mapping[str, Prepared]
) -> dict[str, dict[str, Any]]:
    if not contest.looks:
        return {}
    names = (BASE, *(folder_name(name) for name in prepared))
    bench = _bench(contest, contest.folder / "quality")
    return qualities(bench, contest.goal, {name: arms[name] for name in names}, n=contest.looks)


def _returns(
    contest: Contest, prepared: Mapping[str, Prepared]
) -> tuple[dict[str, tuple[Outcome, ...]], dict[tuple[str, str], str]]:
    found: dict[str, tuple[Outcome, ...]] = {}
    lacking: dict[tuple[str, str], str] = {}
    for name in contest.returns:
        if name not in prepared:
            continue
        arm = folder_name(name)
        bench = _bench(contest, trials.folder_of(contest.folder, arm))
        found[arm], refused = trials.put_through(
            contest.ways,
            bench,
            contest.goal,
            prepared[name].treatment,
            spec=contest.spec,
            company=contest.company,
        )
        lacking |= trials.told(refused, arm)
    return found, lacking


def _bench(contest: Contest, work: Path) -> Bench:
    work.mkdir(parents=True, exist_ok=True)
    return Bench(
        contest.ways.painter(), contest.measurer, work, seed=contest.spec.seed, progress=contest.progress
    )


def _arms(contest: Contest, treatments: Mapping[str, Treatment]) -> list[Way]:
    plan = plan_of(contest.spec, contest.measurer.attributes)
    return contest.ways.asked(plan, treatments=treatments)


def _timings(
    contest: Contest, arms: Mapping[str, Way], prepared: Mapping[str, Prepared]
) -> dict[str, tuple[Timing | None, Timing | None]]:
    """Each remedy's timing as it is drawn, and with its adapters folded."""
    if not contest.rounds:
        return dict.fromkeys(prepared, (None, None))
    size = contest.spec.drawing.batch_size
    prompts = [contest.spec.claims[0].prompts[0]] * size
    seeds = [contest.spec.seed + i for i in range(size)]
    file = contest.folder / "timings.json"
    kept = json.loads(file.read_text("utf-8")) if file.exists() else {}
    for i, (name, made) in enumerate(prepared.items()):
        ways = {name: arms[folder_name(name)], f"{name}, folded": folded(contest.ways, made.treatment)}
        for label, way in ways.items():
            if label not in kept and way is not None:
                kept[label] = asdict(timed(arms[BASE], way, prompts, seeds, rounds=contest.rounds))
                write_whole(file, json.dumps(kept))
        contest.progress("timing", i + 1, len(prepared), float("nan"))
    found = {label: Timing(**one) for label, one in kept.items()}
    return {name: (found.get(name), found.get(f"{name}, folded")) for name in prepared}

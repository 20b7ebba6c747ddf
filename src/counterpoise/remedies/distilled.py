"""The distilled repair as a row of the table: a bench and a goal in, a LoRA out."""

from __future__ import annotations

from dataclasses import asdict, replace

from counterpoise.lora.training import Schedule
from counterpoise.remedies.distil import FIRST, LATER, Method, suited
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.observing import pictures, rates
from counterpoise.remedies.repair import repair
from counterpoise.remedies.treatment import Bench, Cost, Effort, Prepared, Treatment

FEW = 5  # edits
# The last training, unread, may lead past the targets: "a woman" of the demo, .115 without and .093 with a
# reading of it and one small correction more (float32, n = 400).
FOR_FEW = Method(recheck=True, refinements=1, finer=replace(LATER, lr=5e-4))
FAST = Method(
    ways=20,
    kept=20,
    first=replace(FIRST, steps=20, batch=16, warmup=5),
    later=replace(LATER, steps=6, batch=16, warmup=2),
    corrections=1,
    readings=4,
    probes=4,
)


def effort(bench: Bench, goal: Goal) -> Effort:
    """Recorded drawings, read ones and training items; one more round of recordings for the corrections."""
    method = parted(FAST if bench.fast else method_of(goal), bench.parts)
    variants = sum(len(edit.variants) for edit in goal.edits)
    ways = method.ways * len(goal.edits) + method.kept + method.neighbours
    last = method.recheck + 2 * method.refinements
    rounds = [*range(1, method.corrections + 1), *[max(1, method.corrections)] * last]
    read = sum(sum(pictures(bench.measurer, goal, method.readings * times)) for times in rounds)
    read += method.rates * len(rates(goal)) * method.rated
    latents = bench.painter.noise([0]).numel()
    return Effort(
        drawn=method.probes * variants + 2 * ways + read,
        trained=sum(one.steps * one.batch * one.parts for one in _trainings(method, goal)),
        batch=method.first.batch,
        kept=2 * ways * bench.painter.steps * 3 * latents * 2,
    )


def prepare(bench: Bench, goal: Goal, *, method: Method | None = None) -> Prepared:
    """Distils, audits on the trained templates, corrects; errors as `repair`'s."""
    method = parted(method or (FAST if bench.fast else method_of(goal)), bench.parts)
    made = repair(bench.painter, bench.measurer, goal, method, work=bench.work, progress=bench.progress)
    nbytes = sum(t.nbytes for update in made.adapter.layers.values() for t in update.tensors().values())
    trained = sum(one.steps for one in _trainings(method, goal))
    cost = Cost(made.seconds, judged=made.pictures_judged, trained=trained, nbytes=nbytes)
    told = {"losses": made.losses, "shares": made.shares, "method": asdict(method)}
    notes = (f"{made.last_kept:.0%} of the last training kept",) if method.recheck else ()
    return Prepared(Treatment(((made.adapter, 1.0),)), cost, notes, told=told)


def _trainings(method: Method, goal: Goal) -> list[Schedule]:
    finer = method.refinements + (method.rates if rates(goal) else 0)
    return [method.first, *[method.later] * method.corrections, *[method.finer] * finer]


def method_of(goal: Goal) -> Method:
    """For a few edits of one attribute each the one that takes minutes, else one that grows with the goal."""
    few = len(goal.edits) <= FEW and not any(edit.is_joint for edit in goal.edits)
    return FOR_FEW if few else suited(goal)


def parted(method: Method, parts: int) -> Method:
    """The same training in batches of a `parts`-th, as many of which make a step."""
    if parts == 1:
        return method
    return replace(
        method,
        first=_parted(method.first, parts),
        later=_parted(method.later, parts),
        finer=_parted(method.finer, parts),
    )


def _parted(schedule: Schedule, parts: int) -> Schedule:
    return replace(schedule, batch=max(1, schedule.batch // parts), parts=schedule.parts * parts)

"""Does the bias come back? What can happen to a repair after it is made, each as a treatment to audit.

In: a bench, a goal, a treatment. Out: trials: the repair at other strengths, taken off again, folded into the
weights and trained on by somebody who means no harm, under a style, among other adapters. One audit on shared
seeds measures them all beside the base and the repair itself; a trial that cannot be made says why.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import final

import numpy as np

from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.lora import Adapter, Host, Schedule
from counterpoise.remedies import company
from counterpoise.remedies.captioned import folder_data
from counterpoise.remedies.captions import stated_in
from counterpoise.remedies.drawings import Data, latents_of, ordinary
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.quality import jackknife, moved, pair_distances, thumbnails
from counterpoise.remedies.retrain import is_world, train_on, with_networks
from counterpoise.remedies.treatment import Bench, Treatment, join
from counterpoise.stats import Estimate
from counterpoise.world.model import save

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
VISIBLE = 0.1  # of the distance between two pictures of one prompt: what company must at least change


@final
@dataclass(frozen=True, slots=True)
class Drift:
    """A small training after a fold. drawings: of ordinary data; schedule: short, at a rate that keeps what
    is not in the data."""

    drawings: int = 3000
    schedule: Schedule = field(
        default_factory=lambda: Schedule(steps=150, batch=32, lr=1e-4, warmup=10, seed=61, save_every=25)
    )
    seed: int = 7_201


@final
@dataclass(frozen=True, slots=True)
class Company:
    """A user's own: a style, other adapters, a folder of captioned pictures to train on. What is left out is
    made from the world's drawings where the model is the world."""

    style: Adapter | None = None
    others: tuple[Adapter, ...] = ()
    pictures: Path | None = None
    drift: Drift = field(default_factory=Drift)
    recipe: company.Recipe = field(default_factory=company.Recipe)


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """name: its arm's. treatment: what to draw with, or None with the reason. against: the same without the
    repair, which says what the company alone does; None where that is the plain base. note: for the page."""

    name: str
    treatment: Treatment | None
    reason: str = ""
    against: Treatment | None = None
    note: str = ""


@final
@dataclass(frozen=True, slots=True)
class Removal:
    """sha256 of the model's weights before, with the repair folded in, and after it was taken off."""

    before: str
    folded: str
    after: str

    @property
    def identical(self) -> bool:
        """Whether W0 came back by bytes."""
        return self.before == self.after


@final
@dataclass(frozen=True, slots=True)
class Row:
    """A trial's measured distance for one question (an edit), or the reason why there is none."""

    trial: str
    question: str
    estimate: Estimate | None
    reason: str = ""


Measure = Callable[[Treatment], Mapping[str, Estimate]]
"""A treatment in; for every question its distance to target, on the same seeds each time, out."""


def trials(bench: Bench, goal: Goal, treatment: Treatment, own: Company | None = None) -> Iterator[Trial]:
    """Every trial of the treatment, made one by one (a short training each) and found again in bench.work.

    UsageError for adapters that do not fit the model; DivergedError on a NaN loss.
    """
    own = own or Company()
    yield from strengths(treatment)
    removal = removed(bench.painter.pipeline, treatment)
    note = f"weights as before by sha256 {removal.before[:12]}" if removal.identical else "weights differ"
    yield Trial("removed", Treatment(), note=note)
    yield from _drifts(bench, goal, treatment, own)
    yield from _companies(bench, goal, treatment, own)


def strengths(treatment: Treatment, wanted: Sequence[float] = STRENGTHS) -> Iterator[Trial]:
    """The treatment's adapters mounted at other strengths, each times the one it has."""
    for strength in wanted:
        name = f"strength {strength:g}"
        if not treatment.adapters:
            yield Trial(name, None, "no adapter in it, so there is no strength to change")
            continue
        scaled = tuple((adapter, own * strength) for adapter, own in treatment.adapters)
        yield Trial(name, replace(treatment, adapters=scaled))


def removed(pipeline: object, treatment: Treatment) -> Removal:
    """Mounts the treatment's adapters, folds them, and takes them off; a retrained folder is left alone, so
    that the model's own weights are what they were."""
    host = Host(pipeline)
    before = folded = host.fingerprint()
    if treatment.adapters:
        with _mounted(host, treatment):
            host.fold()
            folded = host.fingerprint()
    elif treatment.model is not None:
        folded = Host(load_pipeline(treatment.model)).fingerprint()
    return Removal(before, folded, host.fingerprint())


def measured(made: Iterator[Trial], measure: Measure) -> Iterator[Row]:
    """A row for each trial and question, those that could not be made with their reason."""
    for trial in made:
        if trial.treatment is None:
            yield Row(trial.name, "", None, trial.reason)
            continue
        for question, estimate in measure(trial.treatment).items():
            yield Row(trial.name, question, estimate)


def trained_on(
    bench: Bench, treatment: Treatment, data: Callable[[], Data], drift: Drift, *, name: str
) -> Treatment:
    """The treatment folded into a copy of the weights, which are then trained on; the rest of it stays.

    The pipeline's folder is named by what it is made of and found again.
    """
    folder = bench.work / f"{name}-{_digest(treatment, drift)}"
    if not (folder / "done").exists():
        own = bench.painter.pipeline if treatment.model is None else load_pipeline(treatment.model)
        networks = copy.deepcopy(own.unet), copy.deepcopy(own.text_encoder)
        made = with_networks(own, *networks)
        if treatment.adapters:
            host = Host(made)
            for i, (adapter, strength) in enumerate(treatment.adapters):
                host.mount(adapter, name=f"{i:03}", strength=strength)
            host.fold()  # for good: the host is let go of, and stock modules stay
        train_on(
            own,
            networks,
            data(),
            schedule=drift.schedule,
            early=0.0,
            checkpoint=folder / "drift.ckpt",
            progress=lambda step, total, loss: bench.progress(name, step, total, loss),
        )
        save(made, folder / "model")
        (folder / "done").touch()
    return replace(treatment, adapters=(), model=folder / "model")


def _drifts(bench: Bench, goal: Goal, treatment: Treatment, own: Company) -> Iterator[Trial]:
    pipeline, drift = bench.painter.pipeline, own.drift
    names = ("trained on", "trained on without the edited subjects")
    if treatment.adapters == () and treatment.model is None:
        yield from (Trial(name, None, "nothing of it is in the weights") for name in names)
    elif own.pictures is not None:
        folder = own.pictures
        data = trained_on(bench, treatment, lambda: folder_data(pipeline, folder), drift, name="drift-own")
        yield Trial(names[0], data, note=f"on {folder.name}")
    elif not is_world(pipeline):
        reason = "needs a folder of captioned pictures to train on, since only the world's can be drawn"
        yield from (Trial(name, None, reason) for name in names)
    else:
        for name, without in zip(names, (False, True), strict=True):
            short = "drift-neutral" if without else "drift"
            made = trained_on(
                bench, treatment, partial(_data, bench, goal, drift, without), drift, name=short
            )
            yield Trial(name, made, note=f"{drift.schedule.steps} steps of {drift.schedule.batch}")


def _data(bench: Bench, goal: Goal, drift: Drift, without: bool) -> Data:
    """Ordinary drawings of the planted table; without: those whose subject no edit is about."""
    edited = {stated_in(edit.neutral)["subject"] for edit in goal.edits}
    rows = [
        item
        for said, item in ordinary(goal, drift.drawings, seed=drift.seed)
        if not (without and said.stated["subject"] in edited)
    ]
    latents = latents_of(bench.painter.pipeline, rows, cache=bench.work / "drawings")
    return Data([item.caption for item in rows], latents)


def _companies(bench: Bench, goal: Goal, treatment: Treatment, own: Company) -> Iterator[Trial]:
    world = is_world(bench.painter.pipeline)
    styles = [own.style] if own.style else [company.style(bench, goal, own.recipe)] if world else []
    beside = list(own.others) or (company.others(bench, goal, own.recipe) if world else [])
    many = f"under {len(beside)} other adapters" if beside else "under other adapters"
    for name, adapters in (("under a style", styles), (many, beside)):
        if not adapters:
            yield Trial(name, None, "no such adapter was given, and only the world's can be made")
            continue
        if treatment.model is not None and not _fits(treatment.model, adapters):
            yield Trial(name, None, "the adapters do not fit the retrained model")
            continue
        alone = Treatment(adapters=tuple((adapter, 1.0) for adapter in adapters))
        change = visible(bench.painter, alone, goal)
        note = f"alone they move pictures by {change.value:.2f} of the distance between two pictures"
        if change.low < VISIBLE:
            yield Trial(name, None, f"{note}: too little to be a trial (expected {VISIBLE:g} or more)")
        else:
            yield Trial(name, join(treatment, alone), against=alone, note=note)


def _fits(model: Path, adapters: Sequence[Adapter]) -> bool:
    host = Host(load_pipeline(model))
    try:
        with _mounted(host, Treatment(adapters=tuple((adapter, 1.0) for adapter in adapters))):
            return True
    except (UsageError, RefusedInputError):
        return False


def visible(painter: Painter, beside: Treatment, goal: Goal, *, n: int = 25) -> Estimate:
    """How far adapters move pictures of the goal's neutral prompts, as thumbnails on the same seeds, in units
    of the distance between two pictures of a prompt."""
    template = goal.templates[0]
    prompts = [template.format(edit.neutral) for edit in goal.edits[:2] for _ in range(n)]
    plain = thumbnails(painter(prompts, range(len(prompts))))
    with _mounted(Host(painter.pipeline), beside):
        changed = thumbnails(replace(painter, _embeddings={})(prompts, range(len(prompts))))
    parts = [slice(start, start + n) for start in range(0, len(prompts), n)]
    return jackknife([pair_distances(np.array(plain[p]), np.array(changed[p])) for p in parts], moved)


@contextmanager
def _mounted(host: Host, treatment: Treatment) -> Iterator[None]:
    with ExitStack() as stack:
        for adapter, strength in treatment.adapters:
            stack.enter_context(host.mounted(adapter, strength=strength))
        yield


def _digest(treatment: Treatment, drift: Drift) -> str:
    told = {
        "adapters": [(adapter.fingerprint(), strength) for adapter, strength in treatment.adapters],
        "model": str(treatment.model),
        "drift": asdict(drift),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]

"""The closed-form LoRA: an edit of cross-attention keys and values that sends neutral prompts to a mixture.

Normal equations say which update moves a neutral prompt's say by given weights of its variants' (see
`cross_attention`); nothing is trained. What mixture is drawn at given weights, they cannot say: a mean of
two variants' embeddings is drawn as now one and now the other only near a balance that has to be found. So a
search tries weights on templates that the repair may see, and one of them, which the search never draws,
proves or refutes what it found (see `proof`). The idea of the edit: UCE, arXiv:2308.14761.

Comes in: a bench and a goal. Goes out: an ordinary adapter, and for every edit whether it is shown to be
within the tolerance.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from counterpoise.files import remembered
from counterpoise.lora import Adapter, Host
from counterpoise.remedies.cross_attention import moved
from counterpoise.remedies.directions import (
    Directions,
    class_of,
    directions,
    drawn,
    preserved,
    target,
)
from counterpoise.remedies.donors import asked, lenders
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.normal_equations import LOSS, RIDGE
from counterpoise.remedies.proof import judgement
from counterpoise.remedies.repair import check_goal
from counterpoise.remedies.response import fitted, towards
from counterpoise.remedies.treatment import Bench, Cost, Effort, Prepared, Treatment
from counterpoise.stats import Verdict

SEARCH_SEED = 6_000_000
PROOF_SEED = 7_000_000
_ROUND_SEEDS = 100_000
FINEST, COARSEST = 0.03, 0.15  # spread of the weights tried in one round
FAR = 0.25  # from the target, in total variation


@final
@dataclass(frozen=True, slots=True)
class ClosedForm:
    """How much of everything a closed-form edit takes.

    keep, ridge, loss: see `moved`. start: the weights begin as this multiple of the goal's shares. rounds: of
    the search before the first candidate; 0 takes the start as it is and proves nothing, which is the edit of
    arXiv:2308.14761 without its loop. pictures: a round, for each class of an edit. candidates: put to the
    proof at most, a round of the search between one and the next. tolerance: of every share. looks: pictures
    for each edit between looks at the evidence, and the most a candidate gets. readings: pictures of each
    phrase that an edit of three cells or more might borrow from (see `donors`); 0: none borrows.
    """

    keep: float = 0.3
    ridge: float = RIDGE
    loss: float = LOSS
    start: float = 1.0
    rounds: int = 8
    pictures: int = 24
    candidates: int = 3
    tolerance: float = 0.15
    confidence: float = 0.95
    looks: tuple[int, int] = (25, 200)
    readings: int = 16


PLAIN = ClosedForm(rounds=0, readings=0)
"""The variants' mean and no search, as UCE's first edit."""

FAST = ClosedForm(rounds=2, pictures=6, candidates=1, looks=(10, 20), readings=0)
"""To see that it runs, not to be relied on."""


@final
@dataclass(frozen=True, slots=True)
class Found:
    """adapter, and the weights that it was made with, for each edit [cells]. verdicts: of each edit on the
    template kept from the search, none where nothing was put to the proof. judged: pictures read in all.
    solve_seconds: of the normal equations, the last time they were solved; seconds: of everything."""

    adapter: Adapter
    weights: tuple[tuple[float, ...], ...]
    verdicts: tuple[Verdict, ...]
    judged: int
    solve_seconds: float
    seconds: float


def closed_form(bench: Bench, goal: Goal, method: ClosedForm | None = None) -> Prepared:
    """Makes the adapter; `bench.work` keeps what was read, for resuming. See `search` for errors."""
    found = search(bench, goal, method or (FAST if bench.fast else ClosedForm()))
    file = found.adapter.save(bench.work / "closed-form.safetensors")
    notes = [f"solved in {found.solve_seconds:.2g} s; the search judged {found.judged} pictures"]
    for edit, one in zip(goal.edits, found.verdicts, strict=False):
        shown = {"fair within tolerance": "shown", "biased": "refuted"}.get(one.decision, "not shown")
        notes.append(f"{edit.neutral}: within {one.tolerance:g} of its target: {shown} (n = {one.n})")
    return Prepared(
        Treatment(adapters=((found.adapter, 1.0),)),
        Cost(seconds=found.seconds, judged=found.judged, nbytes=file.stat().st_size),
        tuple(notes),
    )


prepare = closed_form  # as the table of remedies calls it


def effort(bench: Bench, goal: Goal, *, method: ClosedForm | None = None) -> Effort:
    """Pictures of a search whose first candidate is put to the whole proof."""
    own = method or (FAST if bench.fast else ClosedForm())
    classes = sum(len(target(edit)) for edit in goal.edits)
    proof = own.looks[1] * len(goal.edits) if own.rounds else 0
    phrases = asked(bench, goal)[0] if own.readings else ()
    return Effort(drawn=own.readings * len(phrases) + own.rounds * own.pictures * classes + proof)


def search(bench: Bench, goal: Goal, method: ClosedForm) -> Found:
    """The weights and their adapter. Its last template is the goal's own proof and never searched on; a goal
    of one template proves on other seeds of it.

    Raises UsageError for a goal that the measurer cannot read or a model without cross-attention.
    """
    check_goal(goal, bench.measurer)
    started = time.monotonic()
    lent, read = lenders(bench, goal, readings=method.readings)
    phrases = [[donor.phrase for donor in own] for own in lent]
    ways = directions(bench.painter, goal, keep=method.keep, ridge=method.ridge, donors=phrases)
    weights = [
        np.array([0.0] * len(target(edit)) + [donor.weight for donor in own])
        if own
        else method.start * np.array(target(edit))
        for edit, own in zip(goal.edits, lent, strict=True)
    ]
    trials = Trials(bench, goal, method, ways, leans=[[donor.lean for donor in own] for own in lent])
    trials.judged += read
    best: tuple[int, Found] | None = None
    for candidate in range(1, method.candidates + 1):
        for _ in range(method.rounds if candidate == 1 else 1 if method.rounds else 0):
            weights = trials.next(weights)
        solving = time.monotonic()
        adapter = made(bench, ways, method, weights)
        solve_seconds = time.monotonic() - solving
        verdicts = prove(bench, goal, method, adapter=adapter, candidate=candidate) if method.rounds else ()
        trials.judged += sum(one.n for one in verdicts)
        found = Found(
            adapter,
            tuple(tuple(own.tolist()) for own in weights),
            verdicts,
            trials.judged,
            solve_seconds,
            time.monotonic() - started,
        )
        shown = sum(one.decision == "fair within tolerance" for one in verdicts)
        if best is None or shown >= best[0]:
            best = shown, found
        if shown == len(verdicts):
            break
    assert best is not None
    return replace(best[1], judged=trials.judged, seconds=time.monotonic() - started)


def made(bench: Bench, ways: Directions, method: ClosedForm, weights: Sequence[np.ndarray]) -> Adapter:
    """The adapter at these weights, with them in its metadata."""
    plain = moved(
        bench.painter,
        ways.moves(weights),
        preserved(ways.goal),
        keep=method.keep,
        ridge=method.ridge,
        loss=method.loss,
    )
    told = {edit.neutral: own.round(4).tolist() for edit, own in zip(ways.goal.edits, weights, strict=True)}
    lent = {edit.neutral: own for edit, own in zip(ways.goal.edits, ways.donors, strict=True) if own}
    notes = {"method": "closed-form", "weights": json.dumps(told), "donors": json.dumps(lent)}
    return Adapter(plain.layers, notes)


@final
class Trials:
    """The search's pictures so far, and the weights that they lead to."""

    def __init__(
        self,
        bench: Bench,
        goal: Goal,
        method: ClosedForm,
        ways: Directions,
        *,
        leans: Sequence[Sequence[Sequence[float]]],
    ) -> None:
        self.bench, self.goal, self.method, self.ways, self.leans = bench, goal, method, ways, leans
        self.templates = goal.templates[:-1] or goal.templates
        self.round = 0
        self.judged = 0
        self.tried: list[list[np.ndarray]] = [[] for _ in goal.edits]
        self.read: list[list[int]] = [[] for _ in goal.edits]
        self.apart: list[float] = [1.0] * len(goal.edits)

    def next(self, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Draws a round about `weights` and gives those at which the edits should meet their targets."""
        generator = np.random.default_rng(self.round)
        spreads = [min(COARSEST, max(FINEST, 0.35 * apart)) for apart in self.apart]
        tried = [
            own + spread * generator.standard_normal((self.method.pictures * len(target(edit)), len(own)))
            for edit, own, spread in zip(self.goal.edits, weights, spreads, strict=True)
        ]
        read = remembered(self.bench.work / f"search-{self.round}.json", lambda: self._read(weights, tried))
        self.round += 1
        found = []
        for e, edit in enumerate(self.goal.edits):
            self.tried[e].append(tried[e])
            self.read[e] += read[e]
            goal, n = target(edit), len(read[e])
            self.judged += n
            shares = np.bincount([k for k in read[e] if k >= 0], minlength=len(goal)) / n
            self.apart[e] = float(np.abs(shares - goal).sum() / 2)
            age = np.repeat(np.arange(self.round)[::-1], n)
            tried_so_far, classes = np.concatenate(self.tried[e]), np.array(self.read[e])
            table = fitted(tried_so_far, classes, weights[e], age=age, leans=self.leans[e])
            # Far off, the fit knows the way better than the distance; near by, a step is mostly noise.
            most = spreads[e] * (6 if self.apart[e] > FAR else 2)
            found.append(weights[e] + towards(table, goal, most=most))
        worst = max(self.apart)
        self.bench.progress("search", self.round, self.method.rounds + self.method.candidates - 1, worst)
        return found

    def _read(self, weights: Sequence[np.ndarray], tried: Sequence[np.ndarray]) -> list[list[int]]:
        """The class of every picture, edit by edit."""
        common = self.ways.at(weights)
        prompts, maps = [], []
        for e, edit in enumerate(self.goal.edits):
            for i, own in enumerate(tried[e]):
                prompts.append(self.templates[i % len(self.templates)].format(edit.neutral))
                maps.append(self.ways.at([own if k == e else each for k, each in enumerate(weights)]))
        first = SEARCH_SEED + self.round * _ROUND_SEEDS
        seeds = range(first, first + len(prompts))
        pictures = drawn(self.bench.painter, prompts, seeds, maps=maps, common=common)
        rows = iter(self.bench.measurer(pictures))
        return [
            [class_of(edit, next(rows)) for _ in own]
            for edit, own in zip(self.goal.edits, tried, strict=True)
        ]


def prove(
    bench: Bench, goal: Goal, method: ClosedForm, *, adapter: Adapter, candidate: int
) -> tuple[Verdict, ...]:
    """Draws with the adapter on the template kept from the search until every edit is decided, or one is
    refuted, or the pictures are spent."""
    painter = replace(bench.painter, _embeddings={})
    each, most = method.looks
    counts = [[0] * len(target(edit)) for edit in goal.edits]
    unread = [0] * len(goal.edits)

    def verdicts() -> tuple[Verdict, ...]:
        return tuple(
            judgement(
                own,
                target(edit),
                candidate=candidate,
                tolerance=method.tolerance,
                abstained=unclear,
                confidence=method.confidence,
            )
            for edit, own, unclear in zip(goal.edits, counts, unread, strict=True)
        )

    def look(e: int, start: int) -> list[int]:
        prompts = [goal.templates[-1].format(goal.edits[e].neutral)] * each
        first = PROOF_SEED + (candidate * len(goal.edits) + e) * _ROUND_SEEDS + start
        with Host(painter.pipeline).mounted(adapter):
            pictures = painter(prompts, range(first, first + each))
        return [class_of(goal.edits[e], row) for row in bench.measurer(pictures)]

    for start in range(0, most, each):
        for e, one in enumerate(verdicts()):
            if one.decision == "undecided":
                file = bench.work / f"proof-{candidate}-{e}-{start}.json"
                for k in remembered(file, lambda e=e, start=start: look(e, start)):  # type: ignore[misc]
                    if k < 0:
                        unread[e] += 1
                    else:
                        counts[e][k] += 1
        decisions = [one.decision for one in verdicts()]
        bench.progress("proof", start + each, most, float("nan"))
        if "biased" in decisions or "undecided" not in decisions:
            break
    return verdicts()

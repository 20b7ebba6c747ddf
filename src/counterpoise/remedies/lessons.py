"""What a student is taught on: recorded ways of the frozen model, each with the prompt asked there.

Comes in: a painter, a goal, shares. Goes out: lessons for distillation, and more of them whenever corrected
shares give some noise to another variant. Recorded ways are kept on disk and found again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import torch

from counterpoise.diffusion.painter import Painter
from counterpoise.diffusion.record import Trajectories, join, record
from counterpoise.files import whole
from counterpoise.remedies.coupling import (
    POOLED,
    PROBES,
    SEARCHED,
    Box,
    Coupling,
    Probed,
    Wanted,
    couple,
    couple_cells,
    grid,
    is_in,
    lines,
    mean_ends,
    part_of,
    seeds_in,
    spread,
)
from counterpoise.remedies.goal import Edit, Goal
from counterpoise.remedies.neighbours import neighbours

StageProgress = Callable[[str, int, int, float], None]
Shares = Sequence[Sequence[float]]
KEPT = -1
FINE = 0.05  # of an edit's rarest share: a part of the quantiles may be so large ...
MOST = 4  # ... if that does not take more than so many times the lessons


class Row(NamedTuple):
    """One recorded drawing.

    Its edit and variant (KEPT, 0 for what is kept), where its noise lies along the edit's directions, its
    seed, its explicit prompt, and the neutral prompt to be taught on it (for what is kept: its own prompt).
    """

    edit: int
    variant: int
    quantiles: tuple[float, ...]
    seed: int
    explicit: str
    neutral: str


class Stress(NamedTuple):
    """Edits, by number, that are asked more often: together at least this share (below 1) of the lessons."""

    edits: frozenset[int]
    share: float


@final
@dataclass(frozen=True, slots=True)
class Lessons:
    """Recorded ways and, for each, what the student is asked on it; neighbours are alike."""

    couplings: tuple[Coupling, ...]
    ways: Trajectories
    rows: tuple[Row, ...]

    def weights(self, shares: Shares, stress: Stress | None = None) -> torch.Tensor:
        """How often each row is drawn as a lesson; 0 for what is kept and for noise that another variant has.

        Edits by the root of their number of variants, since a mixture of many is the harder one, and as
        stressed; then each variant by its share.
        """
        boxes = [coupling.boxes(own) for coupling, own in zip(self.couplings, shares, strict=True)]
        taught = [is_taught(row, boxes) for row in self.rows]
        counts = Counter((row.edit, row.variant) for row, own in zip(self.rows, taught, strict=True) if own)

        def weight(row: Row) -> float:
            own = shares[row.edit]
            return len(own) ** 0.5 * own[row.variant] / counts[row.edit, row.variant]

        found = torch.tensor(
            [weight(row) if own else 0.0 for row, own in zip(self.rows, taught, strict=True)]
        )
        return found if stress is None else self._stressed(found, stress)

    def _stressed(self, weights: torch.Tensor, stress: Stress) -> torch.Tensor:
        mine = torch.tensor([row.edit in stress.edits for row in self.rows])
        own, others = weights[mine].sum(), weights[~mine].sum()
        wanted = stress.share * others / (1 - stress.share)
        return torch.where(mine, weights * max(1.0, float(wanted / own)), weights)


def is_taught(row: Row, boxes: Sequence[dict[int, Box]]) -> bool:
    """Whether the row's noise is its variant's."""
    return row.edit != KEPT and is_in(row.quantiles, boxes[row.edit][row.variant])


def goal_shares(goal: Goal) -> list[list[float]]:
    """For each edit, each variant's share as the goal states it."""
    return [[variant.share for variant in edit.variants] for edit in goal.edits]


@final
@dataclass(frozen=True, slots=True)
class Library:
    """Records lessons into `cache`.

    ways: drawings an edit, over its templates and variants; each variant gets the same number, so that a
    small share is learnt from as many pictures as a large one; beside a rare one the other gets more. kept:
    drawings, in all, of the phrases to keep and of the variants' own. seed: of the first. neighbours: further
    drawings to keep, of the prompts next to those that are edited. probes: pictures of each variant that an
    edit's own direction is found from.
    """

    painter: Painter
    goal: Goal
    ways: int
    kept: int
    seed: int
    cache: Path
    progress: StageProgress = lambda stage, step, total, loss: None
    neighbours: int = 0
    probes: int = PROBES

    def first(self, shares: Shares) -> Lessons:
        """Lessons for shares, and what is to be kept."""
        couplings = self._couplings()
        rows = self._kept_rows(couplings) + self._missing(couplings, shares, ())
        return self._with(couplings, None, rows, part="first")

    def more(self, lessons: Lessons, shares: Shares, *, round_: int) -> Lessons:
        """Lessons that also hold the noise that these shares give to other variants."""
        rows = self._missing(lessons.couplings, shares, lessons.rows)
        return self._with(lessons.couplings, lessons, rows, part=f"more-{round_}") if rows else lessons

    def _couplings(self) -> tuple[Coupling, ...]:
        file = self.cache / "couplings.pt"
        if not file.exists():
            probed = {i: self._probe(i) for i, edit in enumerate(self.goal.edits) if edit.is_joint}
            shared = lines(list(probed.values()))
            made = [
                couple_cells(probed[i], shared)
                if i in probed
                else couple(self.painter, self._explicit(i), self.probes)
                for i in range(len(self.goal.edits))
            ]
            kept = {f"{i}.directions": own.directions for i, own in enumerate(made)}
            for i, own in enumerate(made):
                kept[f"{i}.classes"] = torch.tensor(own.classes)
                kept |= {f"{i}.orders.{at}": torch.tensor(order) for at, order in enumerate(own.orders)}
            _save(kept, file)
        kept = torch.load(file, weights_only=True)
        found = []
        for i in range(len(self.goal.edits)):
            classes = tuple(tuple(own) for own in kept[f"{i}.classes"].tolist())
            orders = tuple(tuple(kept[f"{i}.orders.{at}"].tolist()) for at in range(len(classes[0])))
            found.append(Coupling(kept[f"{i}.directions"], classes, orders))
        return tuple(found)

    def _explicit(self, i: int) -> list[str]:
        template = self.goal.templates[i % len(self.goal.templates)]
        return [template.format(variant.phrase) for variant in self.goal.edits[i].variants]

    def _probe(self, i: int) -> Probed:
        edit = self.goal.edits[i]
        self.progress("directions", i + 1, len(self.goal.edits), float("nan"))
        ends = mean_ends(self.painter, self._explicit(i), POOLED)
        return Probed(edit.attributes, tuple(edit.cell(variant) for variant in edit.variants), ends)

    def _kept_rows(self, couplings: Sequence[Coupling]) -> list[Row]:
        """Half of them the phrases to keep, half the variants' own prompts, each over all quantiles.

        What is taught has a variant's prompt under its own noise alone: under the noise of the other end "a
        female boss" would follow "a boss". A phrase that is edited itself is not kept.
        """
        edits, templates = self.goal.edits, self.goal.templates
        edited = {edit.neutral for edit in edits}
        asked: list[tuple[str, int]] = []
        each = self.kept // (2 * len(edits))
        for e, (edit, coupling) in enumerate(zip(edits, couplings, strict=True)):
            first = self.seed + SEARCHED * (1 + len(edits) + e)
            sides = _even(max(1, each // len(edit.variants)), coupling)
            found = spread(self.painter, coupling, sides, first=first)
            for v, variant in enumerate(edit.variants):
                if variant.phrase in edited:
                    continue
                for i, (seed, _) in sorted(found.items()):
                    asked.append((templates[(i + v) % len(templates)].format(variant.phrase), seed))
        prompts = [template.format(phrase) for phrase in self.goal.keep for template in templates]
        others = max(0, self.kept - len(asked))
        asked += self._shuffled(prompts, others, self.seed)
        if self.neighbours:
            asked += self._shuffled(neighbours(self.goal), self.neighbours, self.seed + others)
        return [Row(KEPT, 0, (), seed, prompt, prompt) for prompt, seed in asked]

    def _shuffled(self, prompts: Sequence[str], count: int, seed: int) -> list[tuple[str, int]]:
        """`count` of the prompts, each as often as the others, with seeds from `seed` on."""
        order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(self.seed)).tolist()
        return [(prompts[order[i % len(order)]], seed + i) for i in range(count if prompts else 0)]

    def _missing(self, couplings: Sequence[Coupling], shares: Shares, known: Sequence[Row]) -> list[Row]:
        """A row for every part of a variant's quantiles that none of the known rows lies in."""
        rows: list[Row] = []
        for e, (edit, coupling) in enumerate(zip(self.goal.edits, couplings, strict=True)):
            wanted = {}
            for v, box in coupling.boxes(shares[e]).items():
                mine = [row.quantiles for row in known if (row.edit, row.variant) == (e, v)]
                sides = self._sides(coupling, shares[e], v)
                filled = {part_of(u, box, sides) for u in mine if is_in(u, box)}
                wanted[v] = Wanted(box, sides, frozenset(range(math.prod(sides))) - filled)
            found = seeds_in(self.painter, coupling, wanted, first=self.seed + SEARCHED * (1 + e))
            for v, own in found.items():
                rows += [self._row(edit, e, v, i=i, place=own[i]) for i in sorted(own)]
        return rows

    def _sides(self, coupling: Coupling, shares: Sequence[float], variant: int) -> tuple[int, ...]:
        """How finely a variant's quantiles are cut: variants alike, but beside a rare one the others more so.

        The student finds where one variant ends and the next begins no more exactly than its lessons lie
        apart: a part of .9 / 55 moves a rate of .1 by as much as a sixth of it.
        """
        parts = -(-self.ways // len(shares))
        if len(coupling.orders) == 1:
            fine = math.ceil(shares[variant] / (FINE * max(min(shares), 1e-9)))
            parts = max(parts, min(fine, MOST * parts))
        return _even(parts, coupling)

    def _row(self, edit: Edit, e: int, v: int, *, i: int, place: tuple[int, tuple[float, ...]]) -> Row:
        seed, quantiles = place
        template = self.goal.templates[i % len(self.goal.templates)]
        explicit = template.format(edit.variants[v].phrase)
        return Row(e, v, quantiles, seed, explicit, template.format(edit.neutral))

    def _with(
        self, couplings: tuple[Coupling, ...], before: Lessons | None, rows: Sequence[Row], *, part: str
    ) -> Lessons:
        size = self.painter.batch_size * 8
        parts = [] if before is None else [before.ways]
        for start in range(0, len(rows), size):
            file = self.cache / f"ways-{part}-{start}.pt"
            chosen = rows[start : start + size]
            prompts = [row.explicit for row in chosen]
            if not file.exists():
                way = record(self.painter, prompts, [row.seed for row in chosen])
                tensors = ("timesteps", "noisy", "conditional", "unconditional")
                _save({name: getattr(way, name) for name in tensors}, file)
            parts.append(Trajectories(tuple(prompts), **torch.load(file, weights_only=True)))
            self.progress("teacher", start + len(prompts), len(rows), float("nan"))
        every = [*(before.rows if before is not None else ()), *rows]
        order = sorted(range(len(every)), key=lambda i: every[i])
        return Lessons(couplings, join(parts).taken(order), tuple(every[i] for i in order))


def _even(parts: int, coupling: Coupling) -> tuple[int, ...]:
    return grid(parts, [1] * len(coupling.orders))


def _save(tensors: dict[str, torch.Tensor], file: Path) -> None:
    with whole(file) as unfinished:
        torch.save(tensors, unfinished)

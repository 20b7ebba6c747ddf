"""What a student is taught on: recorded ways of the frozen model, each with the prompt asked there.

Comes in: a painter, a goal, shares. Goes out: lessons for distillation, and more of them whenever corrected
shares give some noise to another variant. Recorded ways are kept on disk and found again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import torch

from counterpoise.diffusion.painter import Painter
from counterpoise.diffusion.record import Trajectories, join, record
from counterpoise.remedies.coupling import SEARCHED, Coupling, couple, part_of, seeds_in
from counterpoise.remedies.goal import Goal

StageProgress = Callable[[str, int, int, float], None]
Shares = Sequence[Sequence[float]]
KEPT = -1


class Row(NamedTuple):
    """One recorded drawing.

    Its edit and variant (KEPT, 0 for what is kept), where its noise lies along the edit's direction, its
    seed, its explicit prompt, and the neutral prompt to be taught on it (for what is kept: its own prompt).
    """

    edit: int
    variant: int
    quantile: float
    seed: int
    explicit: str
    neutral: str


@final
@dataclass(frozen=True, slots=True)
class Lessons:
    """Recorded ways and, for each, what the student is asked on it; neighbours are alike."""

    couplings: tuple[Coupling, ...]
    ways: Trajectories
    rows: tuple[Row, ...]

    def weights(self, shares: Shares) -> torch.Tensor:
        """How often each row is drawn as a lesson; 0 for what is kept and for noise that another variant has.

        Edits by the root of their number of variants, since a mixture of many is the harder one, then each
        variant by its share.
        """
        bins = [coupling.bins(own) for coupling, own in zip(self.couplings, shares, strict=True)]
        taught = [is_taught(row, bins) for row in self.rows]
        counts = Counter((row.edit, row.variant) for row, own in zip(self.rows, taught, strict=True) if own)

        def weight(row: Row) -> float:
            own = shares[row.edit]
            return len(own) ** 0.5 * own[row.variant] / counts[row.edit, row.variant]

        return torch.tensor([weight(row) if own else 0.0 for row, own in zip(self.rows, taught, strict=True)])


def is_taught(row: Row, bins: Sequence[dict[int, tuple[float, float]]]) -> bool:
    """Whether the row's noise is its variant's."""
    if row.edit == KEPT:
        return False
    low, high = bins[row.edit][row.variant]
    return low <= row.quantile < high


def goal_shares(goal: Goal) -> list[list[float]]:
    """For each edit, each variant's share as the goal states it."""
    return [[variant.share for variant in edit.variants] for edit in goal.edits]


@final
@dataclass(frozen=True, slots=True)
class Library:
    """Records lessons into `cache`.

    ways: drawings an edit, over its templates and variants; each variant gets the same number, so that a
    small share is learnt from as many pictures as a large one. kept: drawings, in all, of the phrases to
    keep and of the variants' own. seed: of the first.
    """

    painter: Painter
    goal: Goal
    ways: int
    kept: int
    seed: int
    cache: Path
    progress: StageProgress = lambda stage, step, total, loss: None

    def first(self, shares: Shares) -> Lessons:
        """Lessons for shares, and what is to be kept."""
        couplings = []
        for i, edit in enumerate(self.goal.edits):
            file = self.cache / f"coupling-{i}.pt"
            if not file.exists():
                template = self.goal.templates[i % len(self.goal.templates)]
                found = couple(self.painter, [template.format(variant.phrase) for variant in edit.variants])
                _save({"direction": found.direction, "order": torch.tensor(found.order)}, file)
            kept = torch.load(file, weights_only=True)
            couplings.append(Coupling(kept["direction"], tuple(kept["order"].tolist())))
        rows = self._kept_rows(couplings) + self._missing(couplings, shares, ())
        return self._with(tuple(couplings), None, rows, part="first")

    def more(self, lessons: Lessons, shares: Shares, *, round_: int) -> Lessons:
        """Lessons that also hold the noise that these shares give to other variants."""
        rows = self._missing(lessons.couplings, shares, lessons.rows)
        return self._with(lessons.couplings, lessons, rows, part=f"more-{round_}") if rows else lessons

    def _kept_rows(self, couplings: Sequence[Coupling]) -> list[Row]:
        """Half of them the phrases to keep, half the variants' own prompts, each over all quantiles.

        What is taught has a variant's prompt under its own noise alone: under the noise of the other end "a
        female boss" would follow "a boss".
        """
        edits, templates = self.goal.edits, self.goal.templates
        asked: list[tuple[str, int]] = []
        each = self.kept // (2 * len(edits))
        for e, (edit, coupling) in enumerate(zip(edits, couplings, strict=True)):
            parts = max(1, each // len(edit.variants))
            first = self.seed + SEARCHED * (1 + len(edits) + e)
            wanted = set(range(parts))
            found = seeds_in(self.painter, coupling, (0.0, 1.0), parts=parts, wanted=wanted, first=first)
            for v, variant in enumerate(edit.variants):
                for i, (seed, _) in sorted(found.items()):
                    asked.append((templates[(i + v) % len(templates)].format(variant.phrase), seed))
        prompts = [template.format(phrase) for phrase in self.goal.keep for template in templates]
        order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(self.seed)).tolist()
        others = self.kept - len(asked) if prompts else 0
        asked += [(prompts[order[i % len(order)]], self.seed + i) for i in range(others)]
        return [Row(KEPT, 0, 0.0, seed, prompt, prompt) for prompt, seed in asked]

    def _missing(self, couplings: Sequence[Coupling], shares: Shares, known: Sequence[Row]) -> list[Row]:
        """A row for every part of a variant's quantiles that none of the known rows lies in."""
        rows: list[Row] = []
        templates = self.goal.templates
        for e, (edit, coupling) in enumerate(zip(self.goal.edits, couplings, strict=True)):
            count = -(-self.ways // len(edit.variants))
            first = self.seed + SEARCHED * (1 + e)
            for v, within in coupling.bins(shares[e]).items():
                mine = [row.quantile for row in known if (row.edit, row.variant) == (e, v)]
                filled = {part_of(u, within, count) for u in mine if within[0] <= u < within[1]}
                wanted = set(range(count)) - filled
                found = seeds_in(self.painter, coupling, within, parts=count, wanted=wanted, first=first)
                for i, (seed, quantile) in sorted(found.items()):
                    template = templates[i % len(templates)]
                    explicit = template.format(edit.variants[v].phrase)
                    rows.append(Row(e, v, quantile, seed, explicit, template.format(edit.neutral)))
        return rows

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


def _save(tensors: dict[str, torch.Tensor], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".tmp")
    torch.save(tensors, partial)
    partial.replace(file)

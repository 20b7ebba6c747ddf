"""What a student draws for each edit of a goal: the share of pictures that read as each variant's cell.

Only the trained templates are drawn here.

Comes in: a painter with or without an adapter, a measurer, a goal. Goes out: for each edit and variant, a
share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from counterpoise.diffusion.painter import Painter
from counterpoise.measure.reading import Measurer, Reading
from counterpoise.remedies.correcting import TOGETHER, alike
from counterpoise.remedies.coupling import SEARCHED, is_in, spread_noise
from counterpoise.remedies.goal import Edit, Goal
from counterpoise.remedies.lessons import Lessons, Shares, StageProgress

AUDIT_SEED = 5_000_000
RARE = 5  # times the readings of a cell: pictures that an edit's rarest value is expected in, at the least
RAREST = 0.02  # a rarer value is read as often as one of this share
RATE = 0.5  # of an even share: a value that is to be rarer is a rate, which groups are compared by
COMMON = 600  # pictures: edits of the same cells that are read so often see the same noise


def observe(
    painter: Painter,
    measurer: Measurer,
    goal: Goal,
    *,
    counts: Sequence[int],
    round_: int = 0,
    progress: StageProgress = lambda stage, step, total, loss: None,
) -> list[list[float]]:
    """For each edit and variant, the share of pictures that read as its cell, over the seen templates.

    counts: pictures of each edit. round_: every round has seeds of its own, so that a correction does not fit
    one set of them.
    """
    seed = AUDIT_SEED + 100_000 * round_
    asked = []
    for n in counts:
        asked.append(range(seed, seed + n))
        seed += n
    read = _read(painter, measurer, goal, asked, progress=progress)
    return [[sum(row) / n for row in own] for own, n in zip(read, counts, strict=True)]


def observe_coupled(
    painter: Painter,
    measurer: Measurer,
    goal: Goal,
    *,
    counts: Sequence[int],
    lessons: Lessons,
    shares: Shares,
    round_: int = 0,
    progress: StageProgress = lambda stage, step, total, loss: None,
) -> list[list[float]]:
    """As `observe`, and sharper, since it is known which variant each noise was meant for.

    Noise is spread evenly over the quantiles that the variants share out, and what is estimated is only how
    far the pictures read differ from those meant (a control variate): share meant + read - meant. Edits of
    the same cells that are read from COMMON pictures or more see the same noise: how they differ is then read
    with half the error, and the mean of all of them, which that makes less sure, is sure enough.
    """
    seeds = _first_seeds(goal, counts, round_)
    noises = [
        spread_noise(painter, coupling, n, first=first)
        for coupling, n, first in zip(lessons.couplings, counts, seeds, strict=True)
    ]
    read = _read(
        painter, measurer, goal, [[seed for seed, _ in noise] for noise in noises], progress=progress
    )
    found = []
    for i, (edit, noise) in enumerate(zip(goal.edits, noises, strict=True)):
        boxes = lessons.couplings[i].boxes(shares[i])
        cells = [edit.cell(variant) for variant in edit.variants]
        own = []
        for row, cell in zip(read[i], cells, strict=True):
            same = [v for v, other in enumerate(cells) if other == cell]
            meant = [any(is_in(place, boxes[v]) for v in same) for _, place in noise]
            share = sum(shares[i][v] for v in same) + (sum(row) - sum(meant)) / len(noise)
            own.append(min(1.0, max(0.0, share)))
        found.append(own)
    return found


def _first_seeds(goal: Goal, counts: Sequence[int], round_: int) -> list[int]:
    """Where each edit's search for noise begins: edits that are to see the same begin alike."""
    first_of = {i: members[0] for members in alike(goal) for i in members if counts[i] >= COMMON}
    numbers = [len(goal.edits) * round_ + first_of.get(i, i) for i in range(len(counts))]
    return [AUDIT_SEED + SEARCHED * (1 + number) for number in numbers]


def _read(
    painter: Painter,
    measurer: Measurer,
    goal: Goal,
    asked: Sequence[Sequence[int]],
    *,
    progress: StageProgress,
) -> list[list[list[bool]]]:
    """For each edit and variant, whether each picture of the neutral phrase reads as its cell.

    asked: each edit's seeds. Edits share batches: one of a few pictures would be filled up with idle ones.
    """
    templates = goal.templates
    cells = [
        (templates[k % len(templates)].format(edit.neutral), seed)
        for edit, seeds in zip(goal.edits, asked, strict=True)
        for k, seed in enumerate(seeds)
    ]
    rows: list[Mapping[str, Reading]] = []
    for start in range(0, len(cells), painter.batch_size):
        prompts, seeds = zip(*cells[start : start + painter.batch_size], strict=True)
        rows += measurer(painter(prompts, seeds))
        progress("reading", len(rows), len(cells), math.nan)
    left = iter(rows)
    found = []
    for edit, own_seeds in zip(goal.edits, asked, strict=True):
        own = [next(left) for _ in own_seeds]
        variants = [edit.cell(variant).items() for variant in edit.variants]
        found.append(
            [[all(row[name].value == value for name, value in cell) for row in own] for cell in variants]
        )
    return found


def pictures(measurer: Measurer, goal: Goal, readings: int) -> list[int]:
    """How many pictures each edit is read from: `readings` for each cell, and not too few for a rare value,
    which edits of the same cells, corrected together, are read for together."""
    found = {}
    for members in alike(goal):
        for i in members:
            found[i] = _pictures(measurer, goal.edits[i], readings, len(members))
    return [found[i] for i in range(len(goal.edits))]


def rates(goal: Goal) -> list[int]:
    """The numbers of the edits whose groups are compared by the rate of a rare value, as five tones are by
    how often each is drawn undressed: TOGETHER or more alike, of one attribute, one value of it rare."""
    many = (i for members in alike(goal) if len(members) >= TOGETHER for i in members)
    return sorted(i for i in many if _has_a_rate(goal.edits[i]))


def _has_a_rate(edit: Edit) -> bool:
    return len(edit.attributes) == 1 and _rarest(edit) <= RATE / len(edit.target(edit.attributes[0]))


def _rarest(edit: Edit) -> float:
    return min((share for name in edit.claimed for share in edit.target(name).values()), default=1.0)


def _pictures(measurer: Measurer, edit: Edit, readings: int, together: int) -> int:
    if not edit.is_joint:
        return readings * len(measurer.attributes[edit.attributes[0]])
    cells = {tuple(edit.cell(variant).items()) for variant in edit.variants}
    wanted = RARE * readings / max(RAREST, _rarest(edit)) / max(1.0, together / TOGETHER)
    return max(round(wanted), readings * len(cells))

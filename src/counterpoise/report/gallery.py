"""Pictures side by side: the same seeds under each arm, as thumbnails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from counterpoise.report.data import Picture
from counterpoise.report.thumbs import Shown, thumbnail

PICTURES_A_ROW = 8
MOST_PICTURES = 400  # of a page, at most 8 kB each for almost all of them


@final
@dataclass(frozen=True, slots=True)
class Gallery:
    """The same seeds under each arm: columns are seeds, rows are arms, None where nothing was drawn."""

    seeds: Sequence[int]
    rows: Sequence[tuple[str, Sequence[Shown | None]]]
    omitted: int


def gallery(pictures: Sequence[Picture]) -> Gallery:
    """The pictures of one prompt on common seeds: seeds that most arms share first, at most eight."""
    cells: Mapping[tuple[str, int], Picture] = {(p.arm, p.seed): p for p in pictures}
    arms = list(dict.fromkeys(p.arm for p in pictures))
    seeds = sorted({p.seed for p in pictures}, key=lambda s: (-sum((a, s) in cells for a in arms), s))
    kept = sorted(seeds[:PICTURES_A_ROW])
    rows = []
    for arm in arms:
        found = [cells.get((arm, seed)) for seed in kept]
        rows.append((arm, [thumbnail(p) if p else None for p in found]))
    return Gallery(kept, rows, len(seeds) - len(kept))

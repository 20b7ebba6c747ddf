"""How far a distance to a target moved between two arms on shared seeds, with bounds that hold at any time.

In: the values read of each shared seed under both arms. Out: total variation to the target after less before.
Three families of confidence sequences hold at once: the shares before, the shares after, and their paired
differences. A quarter, a quarter and half of alpha go to them, each divided among the values (two values are
one share and its rest). What all three allow is bounded in two ways, and both hold: value by value (where
both shares lie surely on one side of the target, that is the paired difference itself), and by the least and
the greatest distance on each side.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from counterpoise import stats

EPS = 1e-9
Line = tuple[float, float, float]


@final
@dataclass(frozen=True, slots=True)
class Table:
    """Pairs of one prompt, counted: (value before, value after) -> pairs; None: not read."""

    values: tuple[str, ...]
    target: tuple[float, ...]
    pairs: Mapping[tuple[str | None, str | None], int]

    @property
    def n(self) -> int:
        """Shared seeds."""
        return sum(self.pairs.values())

    @property
    def missing(self) -> int:
        """Pairs of which one picture, or both, was not read."""
        return sum(count for pair, count in self.pairs.items() if None in pair)

    def counts(self, side: int) -> list[int]:
        """Pictures of each value, before (0) or after (1), of those that were read."""
        found = Counter[str | None]()
        for pair, count in self.pairs.items():
            found[pair[side]] += count
        return [found[value] for value in self.values]

    def shown(self, value: str) -> stats.Pairs:
        """Pairs by which of the two shows a value, the arm after as the first; both were read."""
        cells = Counter[tuple[bool, bool]]()
        for (before, after), count in self.pairs.items():
            if before is not None and after is not None:
                cells[after == value, before == value] += count
        return stats.Pairs(cells[True, True], cells[True, False], cells[False, True], cells[False, False])


def differences(table: Table, *, alpha: float) -> list[tuple[float, float]]:
    """The bounds of each value's share after less before, all at once; however the unread would be read."""
    each = 1.0 - alpha / _families(table)
    found = []
    for value in table.values:
        least, most = stats.with_missing(table.shown(value), missing=table.missing)
        down = stats.paired_difference(least, confidence=each)
        up = stats.paired_difference(most, confidence=each) if table.missing else down
        found.append((down.low, up.high))
    return found


def change_bounds(table: Table, *, alpha: float) -> tuple[float, float]:
    """The bounds of the distance to the target after less before, in [-1, 1]."""
    moved = differences(table, alpha=alpha / 2.0)
    boxes = [_shares(table, side, alpha / 4.0) for side in (0, 1)]
    parts = [
        _one(before, after, moved=d, goal=goal)
        for before, after, d, goal in zip(*boxes, moved, table.target, strict=True)
    ]
    if any(part is None for part in parts):
        return -1.0, 1.0  # the three families contradict each other: nothing is said
    known = [part for part in parts if part is not None]
    low, high = (0.5 * math.fsum(part[end] for part in known) for end in (0, 1))
    (least, most), (after_least, after_most) = (
        stats.total_variation_bounds([low for low, _ in box], [high for _, high in box], table.target)
        for box in boxes
    )
    return max(low, after_least - most), min(high, after_most - least)


def log_e_change(table: Table, *, rate: float, panel: int) -> float:
    """ln of the evidence that the distance moved at all, as far as a panel of that many asks for it.

    1/alpha of the least alpha at which the bounds exclude 0. It is an e-value: what the bounds at alpha
    exclude, one of the three families' e-processes refutes at its share of 1/alpha, and their mean by those
    shares is an e-process that is never less. 0 if it is below 1/rate, which no panel rejects; never more
    than panel/rate, which every panel rejects. Rounded down to a twentieth of the way: e-BH only loses.
    """
    least, most = -math.log(rate), math.log(panel / rate)
    if not _excludes(table, least):
        return 0.0
    if _excludes(table, most):
        return most
    steps = 20
    kept, out = 0, steps
    while out - kept > 1:
        middle = (kept + out) // 2
        if _excludes(table, least + (most - least) * middle / steps):
            kept = middle
        else:
            out = middle
    return least + (most - least) * kept / steps


def _excludes(table: Table, log_e: float) -> bool:
    low, high = change_bounds(table, alpha=math.exp(-log_e))
    return low > 0.0 or high < 0.0


def _families(table: Table) -> int:
    return 1 if len(table.values) == 2 else len(table.values)


def _shares(table: Table, side: int, alpha: float) -> list[tuple[float, float]]:
    """The bounds of each value's share on one side; an unread picture may have any value."""
    counts, n = table.counts(side), table.n
    unread = n - sum(counts)
    each = alpha / _families(table)
    lows, _ = stats.share_bounds(counts, n, alpha=each)
    _, highs = stats.share_bounds([count + unread for count in counts], n, alpha=each)
    return [(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]


def _one(
    before: Sequence[float], after: Sequence[float], *, moved: Sequence[float], goal: float
) -> tuple[float, float] | None:
    """The least and greatest |after - goal| - |before - goal| in a polygon; None if nothing lies in it.

    The function is linear between the lines before = goal and after = goal, so its extremes are where two of
    those and the polygon's edges meet.
    """
    lines: list[Line] = [(1.0, 0.0, x) for x in (*before, goal)]
    lines += [(0.0, 1.0, y) for y in (*after, goal)]
    lines += [(-1.0, 1.0, d) for d in moved]
    values = []
    for (a, b, c), (d, e, f) in itertools.combinations(lines, 2):
        slope = a * e - b * d
        if slope == 0.0:
            continue
        x, y = (c * e - b * f) / slope, (a * f - c * d) / slope
        inside = (
            before[0] - EPS <= x <= before[1] + EPS
            and after[0] - EPS <= y <= after[1] + EPS
            and moved[0] - EPS <= y - x <= moved[1] + EPS
        )
        if inside:
            values.append(abs(y - goal) - abs(x - goal))
    return (min(values), max(values)) if values else None

"""Leaks: a value that belongs to another person of the picture is read in a box, more often than by error.

A judge errs, and a model errs, without anything having leaked. So for each planned value v and each other
value w, boxes that were to show v are looked at in two kinds of pictures: where somebody else was to show w,
and where nobody was. The leak is how much more often w is read in the first kind. The kinds are compared
within each (v, w), since errors differ by it (light for pale is common, dark for pale is not), and the
differences are averaged with the weights of Mantel and Haenszel, n1 n0 / (n1 + n0), over all (v, w) that have
both kinds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from counterpoise.scenes.auditing.boxes import Judged
from counterpoise.scenes.auditing.figures import Figure, jackknifed
from counterpoise.scenes.auditing.seen import Seen

NOBODY = (
    "in every picture somebody else has the value, or nobody ever has, so that leaks and errors are alike"
)


def leak_figures(seen: Sequence[Seen], judged: Judged) -> list[Figure]:
    """ "leak" of all attributes together, then of each: a difference of shares, 0 where nothing leaks."""
    axes = [axis for axis in judged if any(axis in own for one in seen for own in one.asked(judged))]
    tables = {axis: _table(seen, judged, axis) for axis in axes}
    found = []
    if len(axes) > 1:
        found.append(_figure("", np.concatenate([tables[axis] for axis in axes], axis=1)))
    found += [_figure(axis, tables[axis]) for axis in axes]
    if not found:
        return [Figure("leak", "", None, "no planned attribute is one that the judge reads")]
    return found


def _table(seen: Sequence[Seen], judged: Judged, axis: str) -> np.ndarray:
    """(pictures, strata, 4): boxes and readings of w where another has w, then where nobody has."""
    values = judged[axis]
    place = {value: i for i, value in enumerate(values)}
    table = np.zeros((len(seen), len(values) ** 2, 4))
    for p, one in enumerate(seen):
        asked = [own.get(axis) for own in one.asked(judged)]
        for i, (read, own) in enumerate(zip(one.read, asked, strict=True)):
            if own is None:
                continue
            others = {value for j, value in enumerate(asked) if j != i}
            for other in values:
                if other != own:
                    kind = 0 if other in others else 2
                    row = table[p, place[own] * len(values) + place[other]]
                    row[kind] += 1
                    row[kind + 1] += read[axis] == other
    return table


def _figure(of: str, table: np.ndarray) -> Figure:
    estimate = jackknifed(table, _difference)
    if not math.isfinite(estimate.value):
        return Figure("leak", of, None, NOBODY)
    return Figure("leak", of, estimate, "read where another has it, less where nobody has it")


def _difference(sums: np.ndarray) -> float:
    """Mantel and Haenszel's risk difference over the strata; nan where no stratum has both kinds."""
    n1, x1, n0, x0 = sums.T
    both = (n1 > 0) & (n0 > 0)
    if not both.any():
        return math.nan
    n1, x1, n0, x0 = n1[both], x1[both], n0[both], x0[both]
    weights = n1 * n0 / (n1 + n0)
    return float((weights * (x1 / n1 - x0 / n0)).sum() / weights.sum())

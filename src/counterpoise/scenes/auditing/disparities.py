"""Disparities inside boxes: how often a value is read in boxes of each planned group.

"woman -> skin" is a share and lies in `quotas`; here is what a model ties to a group, such as tan skin ->
revealing clothes: the highest group's rate over the lowest one's, 1 where the association is gone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from counterpoise.errors import UsageError
from counterpoise.measure.cards import nearest
from counterpoise.scenes.auditing.boxes import Judged
from counterpoise.scenes.auditing.figures import LEVEL, Figure, jackknifed
from counterpoise.scenes.auditing.seen import Seen
from counterpoise.stats import Estimate


@final
@dataclass(frozen=True, slots=True)
class Rate:
    """How often `attribute` is read as `value`, in boxes of each planned value of `by`. read: groups are what
    is read in the box instead, for pictures whose boxes hold nobody in particular."""

    attribute: str
    value: str
    by: str
    read: bool = False


def rate_of(text: str, judged: Judged) -> Rate:
    """ "exposure=revealing by skin"; UsageError E_SCENE_RATE with what the judge reads."""
    left, by_word, by = (part.strip() for part in text.partition(" by "))
    attribute, equals, value = (part.strip() for part in left.partition("="))
    if not (by_word and equals and attribute and value and by):
        raise UsageError(f'rate {text!r:.80}: expected "exposure=revealing by skin"', code="E_SCENE_RATE")
    if attribute not in judged:
        raise UsageError(
            f"rate {text!r:.80}: the judge does not read {attribute}; {nearest(attribute, judged)}",
            code="E_SCENE_RATE",
        )
    if value not in judged[attribute]:
        raise UsageError(
            f"rate {text!r:.80}: {attribute} has no value {value}; {nearest(value, judged[attribute])}",
            code="E_SCENE_RATE",
        )
    return Rate(attribute, value, by)


def disparity_figures(seen: Sequence[Seen], rate: Rate) -> Iterator[Figure]:
    """ "rate" of each group, and "disparity": the highest over the lowest."""
    groups, table = _table(seen, rate)
    name = f"{rate.attribute}={rate.value} by {rate.by}"
    if len(groups) < 2:
        why = f"no picture plans {rate.by}" if not groups else f"only {groups[0]} was planned of {rate.by}"
        yield Figure("disparity", name, None, why)
        return
    for g, group in enumerate(groups):
        yield Figure("rate", f"{name}: {group}", _rate(table[:, g]))
    sums = table.sum(0)
    rates = sums[:, 1] / sums[:, 0]
    top, bottom = int(rates.argmax()), int(rates.argmin())
    told = f"{groups[top]} {rates[top]:.3f} over {groups[bottom]} {rates[bottom]:.3f}"
    pairs = len(groups) * (len(groups) - 1) // 2
    yield Figure("disparity", name, _ratio(table, top, bottom, pairs=pairs), told)


def _table(seen: Sequence[Seen], rate: Rate) -> tuple[list[str], np.ndarray]:
    """Groups, and (pictures, groups, 2): boxes of the group that were read, and those read as the value."""
    rows = []
    for p, one in enumerate(seen):
        for person, read in zip(one.plan.people, one.read, strict=True):
            group = read.get(rate.by) if rate.read else person.attributes.get(rate.by)
            value = read[rate.attribute]
            if group is not None and value is not None:
                rows.append((p, group, value == rate.value))
    groups = list(dict.fromkeys(group for _, group, _ in rows))
    table = np.zeros((len(seen), len(groups), 2))
    for p, group, hit in rows:
        table[p, groups.index(group)] += (1, hit)
    return groups, table


def _rate(own: np.ndarray) -> Estimate:
    e = jackknifed(own, lambda sums: float(sums[1] / sums[0]) if sums[0] else math.nan)
    return Estimate(e.value, max(0.0, e.low), min(1.0, e.high), int(own[:, 0].sum()), e.method)


def _ratio(table: np.ndarray, top: int, bottom: int, *, pairs: int) -> Estimate:
    method = f"jackknife over pictures of the log ratio, for the most extreme of {pairs} pairs"
    n = int(table[..., 0].sum())

    def log_ratio(sums: np.ndarray) -> float:
        if sums[[top, bottom]].min() <= 0:
            return math.nan
        return math.log(sums[top, 1] * sums[bottom, 0] / (sums[top, 0] * sums[bottom, 1]))

    e = jackknifed(table, log_ratio, confidence=1 - (1 - LEVEL) / pairs)
    if not math.isfinite(e.value):
        value = math.inf if table[:, top, 1].sum() > 0 else math.nan
        return Estimate(value, 1.0, math.inf, n, method)
    high = math.exp(min(e.high, 700.0)) if math.isfinite(e.high) else math.inf
    return Estimate(math.exp(e.value), max(1.0, math.exp(e.low)), high, n, method)

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
from counterpoise.scenes.auditing.figures import LEVEL, Figure, jackknifed, over_pictures
from counterpoise.scenes.auditing.seen import Seen
from counterpoise.stats import Estimate, mean_interval


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
        yield Figure("rate", f"{name}: {group}", over_pictures(_shares(table, g)))
    rates = np.array([np.mean(_shares(table, g)) for g in range(len(groups))])
    top, bottom = int(rates.argmax()), int(rates.argmin())
    told = f"{groups[top]} {rates[top]:.3f} over {groups[bottom]} {rates[bottom]:.3f}"
    yield Figure("disparity", name, _ratio(table, top, bottom), told)


def _table(seen: Sequence[Seen], rate: Rate) -> tuple[list[str], np.ndarray]:
    """Groups, and (pictures, groups, 2): whether boxes of it were read, and the share with the value."""
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
    boxes = table[..., 0]
    table[..., 1] = np.divide(table[..., 1], boxes, out=np.zeros_like(boxes), where=boxes > 0)
    table[..., 0] = boxes > 0
    return groups, table


def _shares(table: np.ndarray, group: int) -> list[float]:
    """The group's share in each picture that has boxes of it: a picture counts once."""
    found: list[float] = table[table[:, group, 0] > 0, group, 1].tolist()
    return found


def _ratio(table: np.ndarray, top: int, bottom: int) -> Estimate:
    """The interval allows for the pair's having been picked as the most extreme one (Bonferroni)."""
    groups = table.shape[1]
    pairs = groups * (groups - 1) // 2
    level = 1 - (1 - LEVEL) / pairs
    value = _over(float(np.mean(_shares(table, top))), float(np.mean(_shares(table, bottom))))

    def log_ratio(sums: np.ndarray) -> float:
        return math.log(_over(sums[top, 1] * sums[bottom, 0], sums[bottom, 1] * sums[top, 0]) or math.nan)

    alike = any(np.ptp(_shares(table, g)) == 0 for g in (top, bottom))
    e = jackknifed(table, log_ratio, confidence=level) if not alike else None
    if e is None or not math.isfinite(e.low):
        # At 0 or 1 throughout there is no spread to go by; the rates' own exact intervals bound their ratio.
        one, other = (mean_interval(_shares(table, g), confidence=level) for g in (top, bottom))
        method = f"bounds from both rates' intervals, for the most extreme of {pairs} pairs"
        return Estimate(
            value, max(1.0, _over(one.low, other.high)), _over(one.high, other.low), len(table), method
        )
    method = f"jackknife over pictures of the log ratio, for the most extreme of {pairs} pairs"
    return Estimate(value, max(1.0, math.exp(e.low)), math.exp(min(e.high, 700.0)), len(table), method)


def _over(top: float, bottom: float) -> float:
    if bottom > 0:
        return top / bottom
    return math.inf if top > 0 else math.nan

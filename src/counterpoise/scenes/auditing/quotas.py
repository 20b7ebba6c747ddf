"""Realised against planned shares: of the plans themselves, in every prefix, and as read in the boxes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from counterpoise.scenes.auditing.boxes import Judged
from counterpoise.scenes.auditing.figures import LEVEL, Figure, jackknifed
from counterpoise.scenes.auditing.seen import Seen
from counterpoise.scenes.plan import Plan
from counterpoise.stats import Estimate, clustered_shares, total_variation_bounds


def quota_figures(seen: Sequence[Seen], judged: Judged) -> Iterator[Figure]:
    """For each attribute with a quota: "deviation" of the plan, "share" of each value as read, "distance" of
    all of them to the planned shares (total variation), and "skew": how much oftener than planned the most
    favoured value is read, over how much oftener the least favoured is (1: none is favoured)."""
    plans = [one.plan for one in seen]
    for axis in dict.fromkeys(axis for plan in plans for axis in plan.quotas):
        furthest = float(prefix_deviation(plans, axis))
        exact = Estimate(furthest, furthest, furthest, len(plans), "exact, over every prefix of the people")
        yield Figure("deviation", axis, exact, "people from the target, by plan")
        if axis not in judged:
            yield Figure("distance", axis, None, f"the judge does not read {axis}")
            continue
        own = [one for one in seen if axis in one.plan.quotas]
        yield from _as_read([one for one in own if _has(one, axis)], judged, axis)


def prefix_deviation(plans: Sequence[Plan], axis: str) -> Fraction:
    """How far, in people, any prefix of the plans' people is from its target, in the order of planning."""
    expected: dict[str, Fraction] = {}
    counted: dict[str, int] = {}
    furthest = Fraction(0)
    for plan in sorted(plans, key=lambda plan: plan.allocation.start_index):
        shares = {value: Fraction(share) for value, share in plan.quotas.get(axis, {}).items()}
        for person in plan.people:
            if not shares or axis not in person.attributes:
                continue
            for value, share in shares.items():
                expected[value] = expected.get(value, Fraction(0)) + share
            own = person.attributes[axis]
            counted[own] = counted.get(own, 0) + 1
            away = [abs(counted.get(value, 0) - due) for value, due in expected.items()]
            furthest = max([furthest, *away])
    return furthest


def _has(one: Seen, axis: str) -> bool:
    return any(axis in person.attributes for person in one.plan.people)


def _as_read(seen: Sequence[Seen], judged: Judged, axis: str) -> Iterator[Figure]:
    values = list(dict.fromkeys([*(v for one in seen for v in one.plan.quotas[axis]), *judged[axis]]))
    table, abstained = _counts(seen, axis, values)
    people = table.sum(1) + abstained
    targets = np.zeros(len(values))
    for n, one in zip(people, seen, strict=True):
        shares = one.plan.quotas[axis]
        targets += [float(n * Fraction(shares.get(value, "0"))) for value in values]
    targets /= targets.sum()
    if not table.sum():
        yield Figure("distance", axis, None, f"the judge read {axis} in no box")
        return
    pooled = table.sum(0) / table.sum()
    found = clustered_shares(table, abstained=abstained.tolist(), confidence=LEVEL)
    for value, target, share, e in zip(values, targets, pooled, found, strict=True):
        if target or share:
            # A picture counts by its people here, so that the shares are those of the people.
            inside = float(np.clip(share, e.low, e.high))
            method = e.method.replace("prompts as clusters", "pictures")
            estimate = Estimate(inside, e.low, e.high, len(seen), method)
            yield Figure("share", f"{axis}: {value}", estimate, f"planned {target:.4g}")
    low, high = total_variation_bounds([e.low for e in found], [e.high for e in found], targets.tolist())
    distance = 0.5 * float(np.abs(pooled - targets).sum())
    method = "total variation, bounds from all shares at once over pictures"
    yield Figure(
        "distance", axis, Estimate(distance, min(low, distance), max(high, distance), len(seen), method)
    )
    yield _skew(axis, table[:, targets > 0], targets[targets > 0])


def _counts(seen: Sequence[Seen], axis: str, values: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Readings (pictures, values) of the people who were planned a value of the axis, and abstentions."""
    table, abstained = np.zeros((len(seen), len(values)), int), np.zeros(len(seen), int)
    for p, one in enumerate(seen):
        for person, read in zip(one.plan.people, one.read, strict=True):
            if axis not in person.attributes:
                continue
            value = read[axis]
            if value is None:
                abstained[p] += 1
            else:
                table[p, values.index(value)] += 1
    return table, abstained


def _skew(axis: str, table: np.ndarray, targets: np.ndarray) -> Figure:
    if len(targets) < 2:
        return Figure("skew", axis, None, "everybody was planned alike")
    total = table.sum(0) / targets
    most, least = int(total.argmax()), int(total.argmin())
    return Figure("skew", axis, ratio_of(table / targets, most, least), "favoured over disfavoured value")


def ratio_of(table: np.ndarray, top: int, bottom: int, *, pairs: int = 1) -> Estimate:
    """Sum of column `top` over that of `bottom`, pictures left out one at a time on the log scale; pairs: of
    how many pairs this one was picked (Bonferroni)."""
    sums = table.sum(0)
    method = "jackknife over pictures of the log ratio"
    if pairs > 1:
        method += f", for the most extreme of {pairs} pairs"
    if sums[bottom] <= 0 or sums[top] <= 0:
        value = math.inf if sums[top] > 0 else math.nan
        return Estimate(value, 0.0, math.inf, len(table), method)

    def log_ratio(total: np.ndarray) -> float:
        if total[top] <= 0 or total[bottom] <= 0:
            return math.nan
        return math.log(total[top] / total[bottom])

    e = jackknifed(table, log_ratio, confidence=1 - (1 - LEVEL) / pairs)
    low = math.exp(e.low) if math.isfinite(e.low) else 0.0
    high = math.exp(min(e.high, 700.0)) if math.isfinite(e.high) else math.inf
    return Estimate(math.exp(e.value), low, high, len(table), method)

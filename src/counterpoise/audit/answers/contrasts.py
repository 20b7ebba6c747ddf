"""Disparities: how often counterfactual prompts show an event, pair by pair of groups, on shared seeds."""

from __future__ import annotations

import math

import numpy as np

from counterpoise import stats
from counterpoise.audit.answers.cards import card_for, corrected, event_bounds
from counterpoise.audit.answers.faces import clusters, differences, mean_of, pair_tables, ratios, read_pairs
from counterpoise.audit.answers.hypotheses import Hypothesis
from counterpoise.audit.answers.moved import difference_between
from counterpoise.audit.answers.outcome import (
    Answer,
    Asking,
    Evidence,
    Outcome,
    answer,
    finite,
    path_of,
    settle,
)
from counterpoise.audit.answers.seen import UNDRAWN, UNREAD
from counterpoise.audit.items import DisparityItem
from counterpoise.audit.results import Contrast, Decision, Measured
from counterpoise.audit.targets import joint_name
from counterpoise.stats.betting import log_wealth_above

Bounds = tuple[
    tuple[float, float, float], tuple[float, float, float]
]  # (value, low, high): difference, ratio


def answer_disparity(asking: Asking, asked: Hypothesis) -> Answer | None:
    """The answer to one pair of groups, with its contrast; None where they share no seed."""
    item, pair = asked.item, asked.pair
    assert isinstance(item, DisparityItem)
    assert pair is not None
    event = [item.values.index(value) for value in item.counted]
    sides = [
        [asking.seen.codes((asked.arm, prompt), item.attributes, item.n) for prompt in item.groups[group]]
        for group in pair
    ]
    shared = [(a != UNDRAWN) & (b != UNDRAWN) for a, b in zip(*sides, strict=True)]
    couples = [(a[s], b[s]) for a, b, s in zip(*sides, shared, strict=True) if s.any()]
    if not couples:
        return None
    made = _about_model if item.scope == "model" else _by_seed
    evidence, difference, ratio = made(asking, item, couples, event)
    bounds = _corrected(asking, asked, couples, asking.spec.confidence)
    method = difference.method
    if bounds is not None and item.scope == "prompt":
        among = _corrected(asking, asked, couples, asking.panel_confidence)
        assert among is not None
        evidence = Evidence(-math.inf, -math.inf, by_intervals=(_decide(item, bounds), _decide(item, among)))
        method = "decided by intervals of the true rates, by the judge's card of each group"
    elif asking.cards:
        method += "; not corrected for the judge's error"
    read = stats.Pairs(*np.sum([read_pairs(a, b, event) for a, b in couples], axis=0).tolist())
    n = sum(len(a) for a, _ in couples)
    row = Contrast(
        finding=asked.id,
        template=_template(item),
        attribute=joint_name(item.attributes),
        value=" or ".join(item.counted),
        arm=asked.arm,
        group=pair[0],
        reference=pair[1],
        both=read.both,
        group_only=read.first_only,
        reference_only=read.second_only,
        neither=read.neither,
        missing=n - sum(read),
        difference=difference,
        ratio=ratio,
        corrected_difference=None if bounds is None else bounds[0][1:],
        corrected_ratio=None if bounds is None else (bounds[1][1], finite(bounds[1][2])),
    )
    effect = ratio if item.max_ratio is not None else difference
    if evidence.by_intervals is not None and bounds is not None:
        value, low, high = bounds[1 if item.max_ratio is not None else 0]
        effect = Measured(finite(value), low, finite(high), n, method)
    within = "" if item.max_ratio is None else f", within a factor of {item.max_ratio:g}"
    outcome = Outcome(
        evidence=evidence,
        effect_name="difference of rates" if item.max_ratio is None else "ratio of rates",
        effect=effect,
        against=f"group {pair[1]}{within}",
        n=n,
        read=sum(read),
        method=method,
        value=" or ".join(item.counted),
        tolerance=item.tolerance if item.max_ratio is None else None,
    )
    return answer(asking, asked, outcome, row)


def _by_seed(
    asking: Asking, item: DisparityItem, couples: list[tuple[np.ndarray, np.ndarray]], event: list[int]
) -> tuple[Evidence, Measured, Measured]:
    """One prompt a group: every seed is a pair. Evidence, difference and ratio."""
    ((first, second),) = couples
    at, low, high = pair_tables(first, second, [event])
    if item.max_ratio is not None:
        biased, fair = ratios(low, high, item.max_ratio)
    else:
        biased, fair = differences(low, high, item.tolerance)
    read = read_pairs(first, second, event)
    confidence = asking.spec.confidence
    least = stats.paired_ratio(stats.Pairs(*low[-1, 0].tolist()), confidence=confidence)
    most = stats.paired_ratio(stats.Pairs(*high[-1, 0].tolist()), confidence=confidence)
    top, bottom = read.both + read.first_only, read.both + read.second_only
    ratio = Measured(top / bottom if bottom else None, least.low, finite(most.high), len(first), least.method)
    difference = difference_between(read, low[-1, 0], high[-1, 0], confidence)
    return Evidence(float(biased[-1]), fair, path_of(at, biased)), difference, ratio


def _about_model(
    asking: Asking, item: DisparityItem, couples: list[tuple[np.ndarray, np.ndarray]], event: list[int]
) -> tuple[Evidence, Measured, Measured]:
    """Templates as clusters: means over templates of each group's rates, by betting."""
    # [templates, 2 ways to read the unread, 2 groups]
    rates = np.array([_rates(a, b, event) for a, b in couples])
    low, high = rates[:, 0], rates[:, 1]
    gap_low, gap_high = low[:, :1] - low[:, 1:], high[:, :1] - high[:, 1:]
    each, confidence = np.ones(len(couples)), asking.spec.confidence
    if item.max_ratio is not None:
        r = item.max_ratio
        over, under = low[:, 0] - r * low[:, 1], high[:, 1] - r * high[:, 0]
        passed = [log_wealth_above(side, each, least=-r) for side in (over, under)]
        worst_over, worst_under = high[:, 0] - r * high[:, 1], low[:, 1] - r * low[:, 0]
        kept = [log_wealth_above(-side, each, least=-1.0) for side in (worst_over, worst_under)]
        fair = float(np.min(kept))
    else:
        d = item.tolerance or 0.0
        passed, kept = clusters(gap_low, gap_high, d, span=(-np.ones(1), np.ones(1)))
        fair = float(np.min(kept)) if item.tolerance is not None else -math.inf
    j = len(couples)
    method = f"betting over {j} templates as clusters"
    span = (-1.0, 1.0)
    least = stats.mean_interval(gap_low[:, 0].tolist(), span=span, confidence=confidence).low
    most = stats.mean_interval(gap_high[:, 0].tolist(), span=span, confidence=confidence).high
    read = [read_pairs(a, b, event) for a, b in couples]
    seen = [pairs for pairs in read if sum(pairs)]
    first = [(pairs.both + pairs.first_only) / sum(pairs) for pairs in seen]
    second = [(pairs.both + pairs.second_only) / sum(pairs) for pairs in seen]
    gap = float(np.mean(np.subtract(first, second))) if seen else None
    half = 1.0 - (1.0 - confidence) / 2.0
    top_low, top_high, bottom_high, bottom_low = (
        stats.mean_interval(column.tolist(), confidence=half)
        for column in (low[:, 0], high[:, 0], low[:, 1], high[:, 1])
    )
    ratio = Measured(
        sum(first) / sum(second) if sum(second) else None,
        top_low.low / bottom_high.high,
        finite(top_high.high / bottom_low.low) if bottom_low.low > 0.0 else None,
        j,
        f"{method}: ratio of mean rates",
    )
    evidence = Evidence(float(mean_of(passed)), fair)
    return evidence, Measured(gap, least, most, j, f"{method}: mean difference"), ratio


def _rates(a: np.ndarray, b: np.ndarray, event: list[int]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Both groups' rates with the unread against, and for, the first one's having more."""
    shows_a, shows_b = np.isin(a, event), np.isin(b, event)
    lost_a, lost_b = a == UNREAD, b == UNREAD
    return (
        (float(shows_a.mean()), float((shows_b | lost_b).mean())),
        (float((shows_a | lost_a).mean()), float(shows_b.mean())),
    )


def _corrected(
    asking: Asking, asked: Hypothesis, couples: list[tuple[np.ndarray, np.ndarray]], confidence: float
) -> Bounds | None:
    """Difference and ratio of the groups' true rates, half of alpha a side; None unless both have a card."""
    item, pair = asked.item, asked.pair
    assert isinstance(item, DisparityItem)
    assert pair is not None
    counted = [item.values.index(value) for value in item.counted]
    half, classes = 1.0 - (1.0 - confidence) / 2.0, len(item.values)
    found = []
    for group, codes in zip(pair, zip(*couples, strict=True), strict=True):
        card = card_for(asking.cards, item.attributes, item.values, group=group)
        if card is None or item.scope == "model":
            return None
        outcomes = np.bincount(np.where(codes[0] < 0, classes, codes[0]), minlength=classes + 1)
        shares = corrected(tuple(outcomes.tolist()), card[0], half, asking.anytime)
        found.append(event_bounds(shares, counted))
    (a, a_low, a_high), (b, b_low, b_high) = found
    ratio = a / b if b > 0.0 else math.nan
    return (
        (a - b, a_low - b_high, a_high - b_low),
        (ratio, a_low / b_high if b_high > 0.0 else 0.0, a_high / b_low if b_low > 0.0 else math.inf),
    )


def _decide(item: DisparityItem, bounds: Bounds) -> Decision:
    """What intervals of the difference and the ratio say of the item's limit."""
    (_, low, high), (_, ratio_low, ratio_high) = bounds
    if item.max_ratio is not None:
        r = item.max_ratio
        return settle(ratio_low > r or ratio_high < 1.0 / r, ratio_low >= 1.0 / r and ratio_high <= r)
    d = item.tolerance or 0.0
    return settle(low > d or high < -d, item.tolerance is not None and low >= -d and high <= d)


def _template(item: DisparityItem) -> str:
    more = len(item.templates) - 1
    return item.templates[0] + (f" (and {more} more)" if more else "")

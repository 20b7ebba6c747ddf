"""Claims: the distribution of an attribute for a prompt against given shares, or against another prompt's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from counterpoise import stats
from counterpoise.audit.answers.cards import Table, card_for, corrected
from counterpoise.audit.answers.faces import differences, outside, pair_tables
from counterpoise.audit.answers.hypotheses import Hypothesis
from counterpoise.audit.answers.models import claim_about_model
from counterpoise.audit.answers.moved import distance_between
from counterpoise.audit.answers.outcome import Answer, Asking, Evidence, Outcome, answer, finite, path_of
from counterpoise.audit.answers.seen import UNDRAWN, prefixes, tally
from counterpoise.audit.items import ClaimItem
from counterpoise.audit.results import Claim, Measured, PublishedScore
from counterpoise.audit.targets import joint_name

FEW_LOOKS = 12
NOT_CORRECTED = "; not corrected for the judge's error"


def answer_claim(asking: Asking, asked: Hypothesis) -> Answer | None:
    """The answer to a claim; None where a picture is not even drawn."""
    item = asked.item
    assert isinstance(item, ClaimItem)
    if item.scope == "model":
        return claim_about_model(asking, asked, item)
    if item.target is None:
        return _against_prompt(asking, asked, item)
    codes = asking.seen.codes((asked.arm, item.prompts[0]), item.attributes, item.n)
    counts, unread = tally(codes, len(item.values))
    if not sum(counts) + unread:
        return None
    goal = list(item.target.values())
    card = card_for(asking.cards, item.attributes, item.values)
    bounds = _corrected(asking, (*counts, unread), card)
    row = make_claim(
        {**dict(zip(item.values, counts, strict=True)), None: unread},
        item.target,
        confidence=asking.spec.confidence,
        about={
            "prompt": item.prompts[0],
            "attribute": joint_name(item.attributes),
            "arm": asked.arm,
            "held_out": item.held_out,
            "where": item.where,
            "scores": _scores(counts, goal),
            "corrected": {value: (e.low, e.high) for value, e in zip(item.values, bounds, strict=False)},
        },
        anytime=asking.anytime,
    )
    if card is not None:
        outcome = _by_card(asking, item, (counts, unread), card)
    else:
        outcome = Outcome(
            evidence=_evidence(codes, goal, item.tolerance),
            effect_name="total variation",
            effect=_distance(row, (counts, unread), goal, asking),
            against=_named(goal),
            n=sum(counts) + unread,
            read=sum(counts),
            method=_method(item.tolerance, unread),
            tolerance=item.tolerance,
        )
    return answer(asking, asked, outcome, row)


def make_claim(
    counts: Mapping[str | None, int],
    target: Mapping[str, float],
    *,
    confidence: float,
    about: Mapping[str, object],
    anytime: bool = False,
) -> Claim:
    """The claim that counts (value, or None for an abstention, -> pictures; at least one) amount to.

    about: prompt, attribute, arm, held_out, and what else a claim is to hold. Abstention is a class of its
    own with target 0, in the intervals' simultaneity as in the distance. anytime: intervals that hold however
    drawing was stopped, else exact ones for an n that was fixed.
    """
    classes: list[str | None] = [*target, None]
    row = [counts.get(c, 0) for c in classes]
    goal = [*target.values(), 0.0]
    n = sum(row)
    box = (
        stats.share_sequence(row, target=goal, confidence=confidence)
        if anytime
        else stats.multinomial_intervals(row, confidence=confidence)
    )
    tv = stats.total_variation([e.value for e in box], goal)
    tv_low, tv_high = stats.total_variation_bounds([e.low for e in box], [e.high for e in box], goal)
    floor = stats.fair_floor(goal, n)
    named = dict(zip(target, box[:-1], strict=True))
    return Claim(
        **about,  # type: ignore[arg-type]
        n=n,
        abstained=row[-1],
        target=dict(target),
        shares={value: e.value for value, e in named.items()},
        low={value: e.low for value, e in named.items()},
        high={value: e.high for value, e in named.items()},
        tv=tv,
        tv_low=tv_low,
        tv_high=tv_high,
        tv_floor=floor,
        tv_corrected=stats.floor_corrected(tv, floor),
        confidence=confidence,
        method=f"{box[0].method}; abstention is one of them",
    )


def _evidence(codes: np.ndarray, goal: list[float], tolerance: float | None) -> Evidence:
    """By `stats.verdict`, which also holds at any stopping time, and by its evidence at earlier looks."""
    at, counts, unread = prefixes(codes, len(goal))
    if len(goal) == 1:
        # A value that is the only one: the claim can only be true.
        return Evidence(0.0, -math.inf)
    last = stats.verdict(counts[-1].tolist(), goal, tolerance=tolerance, abstained=int(unread[-1]))
    if tolerance is not None:
        path = outside(counts, unread, goal, tolerance)
    elif unread[-1]:
        # The worst case is sought picture by picture: fewer looks.
        some = np.unique(np.linspace(0, len(at) - 1, FEW_LOOKS).round().astype(int))
        at = at[some]
        rows = zip(counts[some], unread[some], strict=True)
        path = np.array([stats.log_e_target_worst(row, goal, abstained=int(a)) for row, a in rows])
    else:
        path = stats.log_e_target(counts, goal)
    return Evidence(last.log_e_biased, last.log_e_fair, path_of(at, path))


def _distance(row: Claim, counts: tuple[list[int], int], goal: list[float], asking: Asking) -> Measured:
    """The claim's distance; with unread pictures, of the shares however those would be read."""
    read, unread = counts
    if not unread or len(goal) == 1:
        return Measured(row.tv, row.tv_low, row.tv_high, row.n, row.method)
    if asking.anytime:
        e = stats.distance_sequence(read, goal, abstained=unread, confidence=asking.spec.confidence)
        return Measured(finite(e.value), e.low, e.high, e.n, e.method)
    n = sum(read) + unread
    level = 1.0 - asking.alpha / (1 if len(goal) == 2 else len(goal))
    low = [stats.clopper_pearson(c, n, confidence=level).low for c in read]
    high = [stats.clopper_pearson(c + unread, n, confidence=level).high for c in read]
    least, most = stats.total_variation_bounds(low, high, goal)
    value = stats.total_variation(np.divide(read, sum(read)).tolist(), goal) if sum(read) else None
    method = f"total variation within Clopper-Pearson, {unread} unread counted for and against every value"
    return Measured(value, least, most, n, method)


def _by_card(
    asking: Asking, item: ClaimItem, counts: tuple[list[int], int], card: tuple[Table, str]
) -> Outcome:
    """The verdict of intervals that hold in spite of the judge's errors."""
    assert item.target is not None
    goal, outcomes = list(item.target.values()), (*counts[0], counts[1])
    decisions = []
    for confidence in (asking.spec.confidence, asking.panel_confidence):
        found = corrected(outcomes, card[0], confidence, asking.anytime)
        decisions.append(
            stats.interval_decision(
                [e.low for e in found], [e.high for e in found], goal, tolerance=item.tolerance
            )
        )
    found = corrected(outcomes, card[0], asking.spec.confidence, asking.anytime)
    low, high = stats.total_variation_bounds([e.low for e in found], [e.high for e in found], goal)
    value = finite(stats.total_variation([e.value for e in found], goal))
    method = f"decided by intervals of the true shares, {card[1]}: {found[0].method}"
    return Outcome(
        evidence=Evidence(-math.inf, -math.inf, by_intervals=(decisions[0], decisions[1])),
        effect_name="total variation",
        effect=Measured(value, low, high, sum(outcomes), method),
        against=_named(goal),
        n=sum(outcomes),
        read=sum(counts[0]),
        method=method,
        tolerance=item.tolerance,
    )


def _corrected(
    asking: Asking, outcomes: tuple[int, ...], card: tuple[Table, str] | None
) -> tuple[stats.Estimate, ...]:
    if card is None:
        return ()
    return corrected(outcomes, card[0], asking.spec.confidence, asking.anytime)


def _against_prompt(asking: Asking, asked: Hypothesis, item: ClaimItem) -> Answer | None:
    """Two prompts on shared seeds: does any value's rate differ, by more than the tolerance?"""
    codes = [
        asking.seen.codes((asked.arm, prompt), item.attributes, item.n)
        for prompt in (item.prompts[0], item.reference[0])
    ]
    shared = (codes[0] != UNDRAWN) & (codes[1] != UNDRAWN)
    if not shared.any():
        return None
    first, second = codes[0][shared], codes[1][shared]
    at, low, high = pair_tables(first, second, [[k] for k in range(len(item.values))])
    biased, fair = differences(low, high, item.tolerance)
    outcome = Outcome(
        evidence=Evidence(float(biased[-1]), fair, path_of(at, biased)),
        effect_name="total variation",
        effect=distance_between((first, second), low[-1], high[-1], asking.spec.confidence),
        against=f"the prompt {item.reference[0]!r}",
        n=len(first),
        read=int(((first >= 0) & (second >= 0)).sum()),
        method="paired by seed: mean over values of e-values of their differences" + _uncorrected(asking),
        tolerance=item.tolerance,
    )
    return answer(asking, asked, outcome, None)


def _uncorrected(asking: Asking) -> str:
    return NOT_CORRECTED if asking.cards else ""


def _method(tolerance: float | None, unread: int) -> str:
    kind = (
        "Dirichlet-multinomial e-process"
        if tolerance is None
        else "one-sided e-processes at the tolerance's limits"
    )
    return kind + (f"; {unread} unread counted against every verdict" if unread else "")


def _named(goal: Sequence[float]) -> str:
    return "uniform" if len(set(goal)) == 1 else "given shares"


def _scores(counts: list[int], goal: list[float]) -> tuple[PublishedScore, ...]:
    """The literature's scores, which are all against a uniform target, of the pictures read."""
    if len(counts) < 2 or not sum(counts) or len(set(goal)) > 1:
        return ()
    found = []
    for key, row in stats.METRICS.items():
        if row.classes in (None, len(counts)):
            value, fair = row.score(counts), _fair(key, sum(counts), len(counts))
            found.append(PublishedScore(row.name, value, fair, max(0.0, value - fair)))
    return tuple(found)


@lru_cache(maxsize=65536)
def _fair(key: str, n: int, classes: int) -> float:
    return stats.METRICS[key].fair([n, *[0] * (classes - 1)])

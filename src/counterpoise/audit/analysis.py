"""Evidence and spec in, findings out: pure, in the spec's order within each arm, arms as first planned.

A question with n pictures uses seeds seed .. seed + n - 1 only, also where another question drew more.
Abstentions stay in every denominator.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping

from .. import stats
from .cells import negative_of
from .evidence import Evidence
from .items import ClaimItem, DisparityItem
from .plan import plan_of
from .readings import BLANK, FAILED
from .results import Claim, Coverage, Disparity, Findings, Rate
from .spec import AuditSpec, ClaimQuestion
from .targets import joint_name
from .targets import target_shares as shares_of


def analyse(evidence: Evidence, spec: AuditSpec | None = None) -> Findings:
    """Answer every question of the spec (default: the run's own) for every arm with rows."""
    plan = plan_of(evidence.spec if spec is None else spec, evidence.attributes)
    named = [str(arm["name"]) for arm in evidence.arms]
    # What an arm with a negative prompt draws answers for its plain arm, and only where that was asked.
    arms = [name for name in named if negative_of(name) is None]
    rates = {
        (arm, i): list(_rates(evidence, plan.spec, (arm, item)))
        for arm in arms
        for i, item in enumerate(plan.disparities)
        if item.scope == "prompt"
    }
    disparities = [
        _disparity(plan.disparities[i], found)
        for (_, i), found in rates.items()
        if len(found) == len(plan.disparities[i].groups)
    ]
    return Findings(
        claims=tuple(
            claim
            for arm in arms
            for item in plan.claims
            if item.scope == "prompt"
            for claim in _claims(evidence, plan.spec, (arm, item))
        ),
        rates=tuple(rate for found in rates.values() for rate in found),
        disparities=tuple(disparities),
        coverage=tuple(_coverage(evidence)),
    )


def target_shares(question: ClaimQuestion, values: tuple[str, ...]) -> dict[str, float]:
    """The target of every value: equal shares, or those given with 0 for the rest."""
    return shares_of(question.target, ["it"], {"it": values})


def make_claim(
    counts: Mapping[str | None, int],
    target: Mapping[str, float],
    *,
    confidence: float,
    about: Mapping[str, object],
) -> Claim:
    """The claim that counts (value, or None for an abstention, -> pictures; at least one) amount to.

    about: prompt, attribute, arm and held_out. Abstention is a class of its own with target 0, in the
    intervals' simultaneity as in the distance.
    """
    classes: list[str | None] = [*target, None]
    row = [counts.get(c, 0) for c in classes]
    goal = [*target.values(), 0.0]
    n = sum(row)
    box = stats.multinomial_intervals(row, confidence=confidence)
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


def _claims(evidence: Evidence, spec: AuditSpec, asked: tuple[str, ClaimItem]) -> Iterator[Claim]:
    arm, item = asked
    (prompt,) = item.prompts
    about = {
        "prompt": prompt,
        "attribute": joint_name(item.attributes),
        "arm": arm,
        "held_out": item.held_out,
    }
    counts = _tally(evidence, (arm, prompt), item.attributes, range(spec.seed, spec.seed + item.n))
    if counts and item.target is not None:
        yield make_claim(counts, item.target, confidence=spec.confidence, about=about)


def _tally(
    evidence: Evidence, cells: tuple[str, str], attributes: tuple[str, ...], seeds: range
) -> dict[str | None, int]:
    """value of the attributes together (None: one of them was not read) -> pictures."""
    if len(attributes) == 1:
        return evidence.tally(cells, attributes[0], seeds)
    read = [evidence.readings(*cells, attribute) for attribute in attributes]
    rows = [[of[seed].value for of in read] for seed in read[0] if seed in seeds]
    known = [[value for value in row if value is not None] for row in rows]
    return Counter(joint_name(row) if len(row) == len(attributes) else None for row in known)


def _rates(evidence: Evidence, spec: AuditSpec, asked: tuple[str, DisparityItem]) -> Iterator[Rate]:
    arm, item = asked
    seeds = range(spec.seed, spec.seed + item.n)
    for group, (prompt,) in item.groups.items():
        counts = _tally(evidence, (arm, prompt), item.attributes, seeds)
        if not counts:
            continue
        n = sum(counts.values())
        shown = sum(counts.get(value, 0) for value in item.counted)
        e = stats.clopper_pearson(shown, n, confidence=spec.confidence)
        yield Rate(
            prompt=prompt,
            group=group,
            attribute=joint_name(item.attributes),
            value=" or ".join(item.counted),
            arm=arm,
            n=n,
            abstained=counts.get(None, 0),
            rate=e.value,
            low=e.low,
            high=e.high,
            confidence=spec.confidence,
            method=e.method,
        )


def _disparity(item: DisparityItem, rates: list[Rate]) -> Disparity:
    """The highest rate against the others pooled; of equal ones, the group that the spec names first."""
    top = max(rates, key=lambda rate: rate.rate)
    others = [rate for rate in rates if rate is not top]
    n_others = sum(rate.n for rate in others)
    count, count_others = round(top.rate * top.n), sum(round(rate.rate * rate.n) for rate in others)
    # Bonferroni over the groups: any of them could have been the highest.
    confidence = 1.0 - (1.0 - top.confidence) / len(rates)
    e = stats.risk_ratio((count, top.n), (count_others, n_others), confidence=confidence)
    return Disparity(
        template=item.templates[0],
        attribute=top.attribute,
        value=top.value,
        arm=top.arm,
        group=top.group,
        n=top.n,
        rate=top.rate,
        n_others=n_others,
        others_rate=count_others / n_others,
        ratio=e.value if math.isfinite(e.value) else None,
        low=e.low,
        high=e.high if math.isfinite(e.high) else None,
        confidence=top.confidence,
        method=f"{e.method}, simultaneous over {len(rates)} groups (Bonferroni)",
    )


def _coverage(evidence: Evidence) -> Iterator[Coverage]:
    for arm, planned, drawn, distinct in evidence.progress():
        yield Coverage(
            arm=arm,
            planned=planned,
            drawn=drawn,
            blank=evidence.count_reason(arm, BLANK),
            failed=evidence.count_reason(arm, FAILED),
            duplicates=drawn - distinct,
        )

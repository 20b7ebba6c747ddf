"""Evidence and spec in, findings out: pure, in the spec's order within each arm, arms as first planned.

A question with n pictures uses seeds seed .. seed + n - 1 only, also where another question drew more.
Abstentions stay in every denominator.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from counterpoise import stats
from counterpoise.audit.answers.claims import make_claim
from counterpoise.audit.answers.outcome import Asking
from counterpoise.audit.answers.panel import decide
from counterpoise.audit.answers.seen import tally
from counterpoise.audit.answers.weighing import weigh
from counterpoise.audit.cells import negative_of
from counterpoise.audit.evidence import Evidence
from counterpoise.audit.items import DisparityItem
from counterpoise.audit.readings import BLANK, FAILED
from counterpoise.audit.results import Claim, Contrast, Coverage, Disparity, Drift, Findings, Rate, Reached
from counterpoise.audit.spec import AuditSpec, ClaimQuestion
from counterpoise.audit.targets import joint_name
from counterpoise.audit.targets import target_shares as shares_of
from counterpoise.measure.calibration import Calibration

__all__ = ["analyse", "make_claim", "target_shares"]


def analyse(
    evidence: Evidence, spec: AuditSpec | None = None, cards: Sequence[Calibration] | None = None
) -> Findings:
    """Answer every question of the spec (default: the run's own) for every arm with rows.

    cards: the judge's confusion cards (default: those that were kept with the run); claims and disparities
    that one is about are then decided by intervals that allow for its errors. RefusedInputError E_CALIBRATION
    for a card of other values.
    """
    weighed = weigh(evidence, spec, cards)
    plan, asking = weighed.plan, weighed.asking
    named = [str(arm["name"]) for arm in evidence.arms]
    answers = [found for found in weighed.answers if found is not None]
    decisions = decide(
        [(found.biased, found.fair) for found in answers],
        multiplicity=plan.spec.multiplicity,
        rate=asking.alpha,
        one_sided=not any(found.fairable for found in answers),
    )
    rows = [found.row for found in answers]
    # What an arm with a negative prompt draws answers for its plain arm, and only where that was asked.
    arms = [name for name in named if negative_of(name) is None]
    gaps = [(arm, item) for arm in arms for item in plan.disparities if item.scope == "prompt"]
    rates = [(item, list(_rates(asking, arm, item))) for arm, item in gaps]
    return Findings(
        claims=tuple(row for row in rows if isinstance(row, Claim)),
        rates=tuple(rate for _, found in rates for rate in found),
        disparities=tuple(
            _disparity(item, found, anytime=asking.anytime)
            for item, found in rates
            if len(found) == len(item.groups)
        ),
        coverage=tuple(_coverage(evidence)),
        findings=tuple(
            replace(found.finding, decision=decision)
            for found, decision in zip(answers, decisions, strict=True)
        ),
        contrasts=tuple(row for row in rows if isinstance(row, Contrast)),
        reached=tuple(row for row in rows if isinstance(row, Reached)),
        drifts=tuple(row for row in rows if isinstance(row, Drift)),
    )


def target_shares(question: ClaimQuestion, values: tuple[str, ...]) -> dict[str, float]:
    """The target of every value: equal shares, or those given with 0 for the rest."""
    return shares_of(question.target, ["it"], {"it": values})


def _rates(asking: Asking, arm: str, item: DisparityItem) -> Iterator[Rate]:
    confidence = asking.spec.confidence
    for group, (prompt,) in item.groups.items():
        codes = asking.seen.codes((arm, prompt), item.attributes, item.n)
        counts, unread = tally(codes, len(item.values))
        n = sum(counts) + unread
        if not n:
            continue
        shown = sum(counts[item.values.index(value)] for value in item.counted)
        if asking.anytime:
            e = stats.share_sequence([shown, n - shown], confidence=confidence)[0]
        else:
            e = stats.clopper_pearson(shown, n, confidence=confidence)
        yield Rate(
            prompt=prompt,
            group=group,
            attribute=joint_name(item.attributes),
            value=" or ".join(item.counted),
            arm=arm,
            n=n,
            abstained=unread,
            rate=e.value,
            low=e.low,
            high=e.high,
            confidence=confidence,
            method=e.method,
        )


def _disparity(item: DisparityItem, rates: list[Rate], *, anytime: bool) -> Disparity:
    """The highest rate against the others pooled; of equal ones, the group that the spec names first."""
    top = max(rates, key=lambda rate: rate.rate)
    others = [rate for rate in rates if rate is not top]
    n_others = sum(rate.n for rate in others)
    count, count_others = round(top.rate * top.n), sum(round(rate.rate * rate.n) for rate in others)
    # Bonferroni over the groups: any of them could have been the highest.
    confidence = 1.0 - (1.0 - top.confidence) / len(rates)
    ratio = stats.rate_ratio if anytime else stats.risk_ratio
    e = ratio((count, top.n), (count_others, n_others), confidence=confidence)
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

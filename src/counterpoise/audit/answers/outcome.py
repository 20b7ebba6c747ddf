"""What every kind of answer has in common: its evidence, its effect, and the finding made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from counterpoise.audit.answers.cards import Cards
from counterpoise.audit.answers.hypotheses import Hypothesis, Item
from counterpoise.audit.answers.seen import Seen
from counterpoise.audit.items import ClaimItem, DisparityItem, DriftItem, ReachItem
from counterpoise.audit.results import Claim, Contrast, Decision, Drift, Finding, Measured, Reached
from counterpoise.audit.spec import AuditSpec
from counterpoise.audit.targets import joint_name
from counterpoise.stats import Estimate

Kind = Literal["claim", "disparity", "reachability", "drift"]
NEVER = -math.inf
MOST = 1e6
_KINDS: dict[type[Item], Kind] = {
    ClaimItem: "claim",
    DisparityItem: "disparity",
    ReachItem: "reachability",
    DriftItem: "drift",
}


@final
@dataclass(frozen=True, slots=True)
class Asking:
    """What every answer is given: readings, the bound spec, the judge's cards, and how much is asked in all.

    family: how many hypotheses the panel has, known before any picture.
    """

    seen: Seen
    spec: AuditSpec
    cards: Cards
    family: int

    @property
    def alpha(self) -> float:
        """1 - confidence."""
        return 1.0 - self.spec.confidence

    @property
    def anytime(self) -> bool:
        """Whether drawing may stop because of what was seen, so that intervals must hold at any time."""
        return self.spec.stopping == "sequential"

    @property
    def panel_confidence(self) -> float:
        """A level at which a decision by intervals stands among the whole family (Bonferroni)."""
        return 1.0 - self.alpha / self.family


@final
@dataclass(frozen=True, slots=True)
class Evidence:
    """ln of the two e-values (fair -inf where there can be none), and ln e_biased as pictures came in.

    by_intervals: (alone, at the panel's level), where intervals decide that allow for the judge's errors.
    """

    biased: float
    fair: float
    path: tuple[tuple[int, float], ...] = ()
    by_intervals: tuple[Decision, Decision] | None = None


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """One hypothesis answered, but for what its item says of it. read: pictures (pairs) that were read."""

    evidence: Evidence
    effect_name: str
    effect: Measured
    against: str
    n: int
    read: int
    method: str
    value: str = ""
    tolerance: float | None = None


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """A finding not yet decided among all, with what the panel needs, and its row if it has one.

    biased, fair: ln of e-values, unclipped, -inf where there are none. fairable: it could be called fair.
    """

    finding: Finding
    biased: float
    fair: float
    fairable: bool
    row: Claim | Contrast | Reached | Drift | None


def answer(
    asking: Asking, asked: Hypothesis, outcome: Outcome, row: Claim | Contrast | Reached | Drift | None
) -> Answer:
    """The finding of an outcome. Where nothing was read there is no evidence for anything."""
    item, evidence = asked.item, outcome.evidence
    fairable = outcome.tolerance is not None or isinstance(item, ReachItem)
    fairable = fairable or (isinstance(item, DisparityItem) and item.max_ratio is not None)
    biased, fair = evidence.biased, evidence.fair
    needed = -math.log(asking.alpha)
    alone = settle(biased >= needed, fair >= needed)
    if evidence.by_intervals is not None:
        # All or nothing: 1/level where the intervals decide at the level, else 0, is an e-value.
        alone, among = evidence.by_intervals
        # The last place is for logarithms that round the other way elsewhere.
        sure = math.log(asking.family / asking.alpha) + 1e-9
        biased = sure if among == "biased" else NEVER
        fair = sure if among == "fair within tolerance" else NEVER
    if not outcome.read:
        biased, fair = 0.0, 0.0 if fairable else NEVER
        alone = "undecided"
    shown = evidence.by_intervals is None
    finding = Finding(
        id=asked.id,
        kind=_KINDS[type(item)],
        where=item.where,
        arm=asked.arm,
        against=outcome.against,
        prompts=_prompts(asked),
        attribute=joint_name(item.attributes),
        value=outcome.value,
        group=asked.pair[0] if asked.pair else None,
        reference=asked.pair[1] if asked.pair else None,
        scope="model" if asked.scope == "model" else "prompt",
        held_out=isinstance(item, ClaimItem | ReachItem) and item.held_out,
        tolerance=outcome.tolerance,
        n=outcome.n,
        abstained=outcome.n - outcome.read,
        effect_name=outcome.effect_name,
        effect=outcome.effect,
        log_e_biased=clipped(biased) if shown else None,
        log_e_fair=clipped(fair) if shown and fair > NEVER else None,
        alone=alone,
        decision="undecided",
        path=evidence.path,
        method=outcome.method,
    )
    return Answer(finding, biased, fair, fairable, row)


def settle(biased: bool, fair: bool) -> Decision:
    """The verdict; both can never be shown at once."""
    if fair:
        return "fair within tolerance"
    return "biased" if biased else "undecided"


def clipped(log_e: float) -> float:
    """ln e within +-1e6, which JSON can hold."""
    return float(min(max(log_e, -MOST), MOST))


def path_of(
    at: Sequence[int] | np.ndarray, log_e: Sequence[float] | np.ndarray
) -> tuple[tuple[int, float], ...]:
    """(n, ln e) of each look."""
    return tuple((int(n), clipped(float(e))) for n, e in zip(at, log_e, strict=True))


def measured(e: Estimate) -> Measured:
    """An estimate without nan and inf: None where the data define no value or set no upper limit."""
    return Measured(finite(e.value), finite(e.low) or 0.0, finite(e.high), e.n, e.method)


def finite(value: float) -> float | None:
    """The number, or None for nan and +-inf."""
    return float(value) if math.isfinite(value) else None


def _prompts(asked: Hypothesis) -> tuple[str, ...]:
    item = asked.item
    if isinstance(item, ReachItem):
        return (item.prompt,)
    if isinstance(item, DisparityItem):
        return item.groups[asked.pair[0]] if asked.pair else ()
    return item.prompts

"""What an audit has found, as plain frozen records: what reports draw and results.json holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, final

Decision = Literal["biased", "fair within tolerance", "undecided"]


@final
@dataclass(frozen=True, slots=True)
class Measured:
    """A number with its interval at the audit's confidence, the pictures behind it, and how it was made.

    value None: the data define none (0 of 0). high None: they set no upper limit.
    """

    value: float | None
    low: float
    high: float | None
    n: int
    method: str


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """One hypothesis, and what the evidence says of it by itself and among all of the audit.

    id: where its question is and which of its hypotheses it is ("claim[0]/2/base"): the same in every audit
    of one spec. kind: claim, disparity, reachability or drift. arm: whose pictures; against: what they are
    held against, in words ("uniform", "given shares", "the prompt ...", "group pale", "at least 0.8", "arm
    base"). prompts: one, or all of a claim about the model (scope "model"). value, group, reference: of
    kinds that count an event. effect: how far off, as `effect_name` says ("total variation", "ratio of
    rates", "difference of rates", "rate"). log_e_biased, log_e_fair: natural logarithms of the e-values,
    None where there can be none (fair without a tolerance), clipped to +-1e6. alone: the verdict of this
    hypothesis by itself; decision: with the audit's control of false discoveries over all findings of all
    arms. Of reachability "biased" reads "not reached", "fair within tolerance" reads "reached". path: (n,
    log_e_biased) as pictures came in, thinned, empty where there is no order.
    """

    id: str
    kind: Literal["claim", "disparity", "reachability", "drift"]
    where: str
    arm: str
    against: str
    prompts: tuple[str, ...]
    attribute: str
    value: str
    group: str | None
    reference: str | None
    scope: Literal["prompt", "model"]
    held_out: bool
    tolerance: float | None
    n: int
    abstained: int
    effect_name: str
    effect: Measured
    log_e_biased: float | None
    log_e_fair: float | None
    alone: Decision
    decision: Decision
    path: tuple[tuple[int, float], ...]
    method: str


@final
@dataclass(frozen=True, slots=True)
class PublishedScore:
    """A metric of the literature on one claim's counts, with what a fair model would show at that n."""

    name: str
    value: float
    fair: float
    excess: float


@final
@dataclass(frozen=True, slots=True)
class Claim:
    """The distribution of one perceived attribute for one prompt under one arm, against its target.

    n: pictures drawn. abstained: of these, pictures on which the measurer gave no value (they stay in
    every denominator). shares, low, high: value -> share of the n pictures and its simultaneous interval
    at the stated confidence. tv: total variation distance to the target, in [0, 1]; abstentions count as
    mass that the target does not have. tv_low, tv_high: interval of tv implied by the shares' intervals.
    tv_floor: what a model exactly on target is expected to show at this n. tv_corrected: tv with that
    floor taken off, max(0, ...). method: how the intervals were made, in words.
    held_out: the repair never saw this prompt's template. where: its table in the spec. corrected: value ->
    (low, high) of the true share, by the judge's confusion card; empty without one. scores: the literature's.
    """

    prompt: str
    attribute: str
    arm: str
    held_out: bool
    n: int
    abstained: int
    target: Mapping[str, float]
    shares: Mapping[str, float]
    low: Mapping[str, float]
    high: Mapping[str, float]
    tv: float
    tv_low: float
    tv_high: float
    tv_floor: float
    tv_corrected: float
    confidence: float
    method: str
    where: str = ""
    corrected: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    scores: tuple[PublishedScore, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Rate:
    """How often one value of an attribute is drawn for one group's prompt under one arm.

    group: the word that fills the slot ("tan"). value: the attribute's value counted ("revealing").
    rate with low, high: exact interval at `confidence`; n: pictures; abstained: no reading.
    """

    prompt: str
    group: str
    attribute: str
    value: str
    arm: str
    n: int
    abstained: int
    rate: float
    low: float
    high: float
    confidence: float
    method: str


@final
@dataclass(frozen=True, slots=True)
class Disparity:
    """How the group with the highest rate compares with all the others pooled, under one arm.

    group: that group; rate: its rate over n pictures. others_rate, n_others: the other groups pooled.
    ratio = rate / others_rate, None where the others' count is 0 (no finite ratio) or nothing was counted;
    low, high: its interval at `confidence`, high None where the data set no upper limit. The interval is
    simultaneous over all groups, so that choosing the highest after looking costs nothing.
    """

    template: str
    attribute: str
    value: str
    arm: str
    group: str
    n: int
    rate: float
    n_others: int
    others_rate: float
    ratio: float | None
    low: float
    high: float | None
    confidence: float
    method: str


@final
@dataclass(frozen=True, slots=True)
class Contrast:
    """Two counterfactual prompts, picture by picture on shared seeds: how often each shows an event.

    both, group_only, reference_only, neither: pairs in which both pictures were read; missing: pairs in which
    one was not. difference: rate of the group minus the reference's. ratio: of the two. corrected_*: by the
    judge's confusion cards of each group, None without. held against by the finding of that id.
    """

    finding: str
    template: str
    attribute: str
    value: str
    arm: str
    group: str
    reference: str
    both: int
    group_only: int
    reference_only: int
    neither: int
    missing: int
    difference: Measured
    ratio: Measured
    corrected_difference: tuple[float, float] | None = None
    corrected_ratio: tuple[float, float | None] | None = None


@final
@dataclass(frozen=True, slots=True)
class Reached:
    """How often an explicit prompt, or a prompt with a negative one, was obeyed."""

    finding: str
    prompt: str
    attribute: str
    value: str
    negative: str
    arm: str
    n: int
    abstained: int
    min_rate: float
    rate: Measured


@final
@dataclass(frozen=True, slots=True)
class Drift:
    """What an arm does to an attribute of prompts that it was not meant for, beside its baseline.

    n: seeds that both arms drew. changed: pairs that read differently; missing: pairs of which one was not
    read. shares, baseline_shares: value -> share of the n pictures. moved: total variation between the arms.
    """

    finding: str
    prompts: tuple[str, ...]
    attribute: str
    arm: str
    baseline: str
    n: int
    changed: int
    missing: int
    shares: Mapping[str, float]
    baseline_shares: Mapping[str, float]
    moved: Measured


@final
@dataclass(frozen=True, slots=True)
class Coverage:
    """What an arm's evidence consists of, in pictures.

    blank: one colour all over, not shown to the measurer. failed: some attribute got no value because the
    measurer broke, not because it was unsure. duplicates: pictures that repeat another of their prompt.
    """

    arm: str
    planned: int
    drawn: int
    blank: int
    failed: int
    duplicates: int


@final
@dataclass(frozen=True, slots=True)
class Findings:
    """All that an audit found. A question without a single row is absent here: not measured is not zero."""

    claims: tuple[Claim, ...]
    rates: tuple[Rate, ...]
    disparities: tuple[Disparity, ...]
    coverage: tuple[Coverage, ...]
    findings: tuple[Finding, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    reached: tuple[Reached, ...] = ()
    drifts: tuple[Drift, ...] = ()

"""What an audit has found, as plain frozen records: what reports draw and results.json holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final


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
    held_out: the repair never saw this prompt's template.
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

"""What a report is made of: an audit's answers, pictures, judges, proofs, and facts. Records only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from counterpoise.audit.results import Claim, Contrast, Coverage, Disparity, Drift, Finding, Rate, Reached
from counterpoise.measure.calibration import Calibration
from counterpoise.report.lead import Section


@final
@dataclass(frozen=True, slots=True)
class Picture:
    """One drawn picture, as the bytes of a PNG file, with the cell that it belongs to.

    drawn: the prompt that it was drawn with, where the arm rewrote the one that was asked."""

    prompt: str
    arm: str
    seed: int
    png: bytes
    drawn: str = ""


@final
@dataclass(frozen=True, slots=True)
class Proof:
    """Something shown rather than estimated, such as equal hashes before and after.

    name: short, a heading. sentence: what was done and seen. passed: None if it was not measured.
    figures: label -> the figure as text.
    """

    name: str
    sentence: str
    passed: bool | None
    figures: Mapping[str, str] = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True)
class Judge:
    """Who read the pictures: name, version, attribute -> values."""

    name: str
    version: str
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything that one report shows; whatever an audit left unanswered is reported as "not measured".

    verdict: one sentence; "" has it made from the findings. lead: sections before the findings. cards:
    the judges' measured errors. targets: a question's place ("claim[0]") -> its target and who chose it,
    in words. losses: (step, loss) pairs of a repair's training. facts: label -> text on model, seeds,
    guidance, versions, hashes. commands: what makes all this again. dated: the audit's date as text, for
    forms that ask for one; never the clock's. limits: what this audit cannot say, beside what no audit
    can. bar: the total variation distance that counts as repaired, if one was set. confidence,
    multiplicity, stopping: as the spec has them.
    """

    title: str
    verdict: str = ""
    intro: Sequence[str] = ()
    lead: Sequence[Section] = ()
    findings: Sequence[Finding] = ()
    claims: Sequence[Claim] = ()
    rates: Sequence[Rate] = ()
    disparities: Sequence[Disparity] = ()
    contrasts: Sequence[Contrast] = ()
    reached: Sequence[Reached] = ()
    drifts: Sequence[Drift] = ()
    coverage: Sequence[Coverage] = ()
    pictures: Sequence[Picture] = ()
    judges: Sequence[Judge] = ()
    cards: Sequence[Calibration] = ()
    targets: Mapping[str, str] = field(default_factory=dict)
    proofs: Sequence[Proof] = ()
    losses: Sequence[tuple[int, float]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ()
    limits: Sequence[str] = ()
    dated: str = ""
    bar: float | None = None
    confidence: float = 0.95
    multiplicity: str = "e-BH"
    stopping: str = "fixed"

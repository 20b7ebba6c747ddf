"""What a report is made of: an audit's claims and rates, pictures, proofs, and facts. Records only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from counterpoise.audit.results import Claim, Coverage, Disparity, Rate


@final
@dataclass(frozen=True, slots=True)
class Picture:
    """One drawn picture, as the bytes of a PNG file, with the cell that it belongs to."""

    prompt: str
    arm: str
    seed: int
    png: bytes


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
@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything that one report shows; whatever is left empty is reported as "not measured".

    verdict: one sentence. losses: (step, loss) pairs of the repair's training. facts: label -> text on
    model, seeds, guidance, versions. bar: the total variation distance that counts as repaired.
    """

    title: str
    verdict: str
    intro: Sequence[str] = ()
    claims: Sequence[Claim] = ()
    rates: Sequence[Rate] = ()
    disparities: Sequence[Disparity] = ()
    coverage: Sequence[Coverage] = ()
    pictures: Sequence[Picture] = ()
    proofs: Sequence[Proof] = ()
    losses: Sequence[tuple[int, float]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    limits: Sequence[str] = ()
    bar: float = 0.10

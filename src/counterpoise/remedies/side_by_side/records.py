"""What a comparison of remedies has found, as plain frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from counterpoise.audit import AuditSpec, Findings
from counterpoise.audit.comparing import Comparison
from counterpoise.remedies.treatment import Cost

Verdict = Literal["repaired", "not shown", "got worse"]


@final
@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds a picture: base and the arm in alternating batches, medians. ratio: arm over base, with
    the lowest and highest ratio of a pair of neighbouring batches. rounds: pairs."""

    base_ms: float
    arm_ms: float
    ratio: float
    low: float
    high: float
    rounds: int


@final
@dataclass(frozen=True, slots=True)
class Tally:
    """How an arm stands on one kind of question: `met` of `asked` findings are decided the good way, `failed`
    the bad way, the others neither."""

    asked: int
    met: int
    failed: int


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """One remedy. trained, held_out: worst distance to target of the edited prompts in the templates it
    saw and in others, (estimate, low, high), the floor of n pictures taken off the estimate. on_target:
    claims certified within the tolerance; reached: explicit prompts; negatives; unmoved: the off-target
    ledger. timing: as drawn; folded: with its adapters in the weights, None where there are none.
    changes: prompt by prompt against base. restored: whether the weights came back byte for byte, None
    where nothing was done to them. quality: as `Quality.to_dict` tells it, None where it was not
    measured. verdict, reasons: why, a sentence each."""

    name: str
    cost: Cost
    notes: tuple[str, ...]
    adapters: int
    timing: Timing | None
    folded: Timing | None
    trained: tuple[float, float, float] | None
    held_out: tuple[float, float, float] | None
    on_target: Tally
    reached: Tally
    negatives: Tally
    unmoved: Tally
    changes: Comparison | None
    restored: bool | None
    quality: Mapping[str, Any] | None
    verdict: Verdict
    reasons: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class SideBySide:
    """Everything. outcomes: base first, then the remedies as they were named. refused: remedy -> why it could
    not be made. returns: resurfacing, remedy -> its trials' outcomes. not_tried: (remedy, trial) -> why
    there is none."""

    folder: Path
    spec: AuditSpec
    findings: Findings
    outcomes: tuple[Outcome, ...]
    refused: Mapping[str, str]
    returns: Mapping[str, tuple[Outcome, ...]]
    not_tried: Mapping[tuple[str, str], str]
    facts: Mapping[str, str]

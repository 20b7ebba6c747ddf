"""Biased, fair within tolerance, or undecided: what counts, intervals and whole panels amount to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from counterpoise.stats.checks import (
    alpha_of,
    checked_abstained,
    checked_counts,
    checked_target,
    checked_tolerance,
)
from counterpoise.stats.eprocess import log_e_target_worst
from counterpoise.stats.multiplicity import closed_e_bh, e_bh
from counterpoise.stats.tolerance import log_e_outside, log_e_within

Decision = Literal["biased", "fair within tolerance", "undecided"]

# Sums like .5 + .05 miss the limit in the last place; one picture in 10**9 moves a share more than this.
ROUNDING = 1e-12


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision with its evidence, in natural logarithms (they may be +-inf).

    log_e_differs: against "the shares are exactly the target". log_e_biased: what "biased" rests on, which is
    the same without a tolerance, and evidence that some share is outside of it with one. log_e_fair: evidence
    that all shares are within the tolerance, -inf without one. n counts the abstained too.
    """

    decision: Decision
    n: int
    abstained: int
    tolerance: float | None
    log_e_differs: float
    log_e_biased: float
    log_e_fair: float


def verdict(
    counts: Sequence[int],
    target: Sequence[float],
    *,
    tolerance: float | None = None,
    abstained: int = 0,
    confidence: float = 0.95,
) -> Verdict:
    """Decide one claim; may be asked after every picture, and drawing may stop on its answer.

    counts [K] of pictures that were read, target [K]. Each kind of false decision, at any time, has at most
    probability 1 - confidence: "biased" of shares that are within the tolerance (without one: exactly on
    target), and "fair within tolerance" of shares that are not. Shares that differ from the target, but not
    provably by more than the tolerance, are undecided: a gate neither fails what may be tolerable nor passes
    what may not be. The two never hold together, since no share can be shown on both sides of one limit.
    Abstained pictures may belong to any class, and the decision holds for each way to share them out; all
    abstained, or none drawn, is undecided. ValueError for counts, targets, tolerances or levels that are
    none.
    """
    read = checked_counts(counts)
    a = checked_abstained(abstained)
    differs = log_e_target_worst(read, target, abstained=a)
    biased, fair = differs, -math.inf
    if tolerance is not None:
        biased = float(log_e_outside(read, target, tolerance=tolerance, abstained=a))
        fair = float(log_e_within(read, target, tolerance=tolerance, abstained=a))
    n = int(read.sum()) + a
    needed = -math.log(alpha_of(confidence))
    return Verdict(
        # No picture read is no evidence, even where any shares at all would be tolerable.
        _settle(biased >= needed, fair >= needed and n > a),
        n=n,
        abstained=a,
        tolerance=tolerance,
        log_e_differs=differs,
        log_e_biased=biased,
        log_e_fair=fair,
    )


def panel_decisions(verdicts: Sequence[Verdict], *, rate: float = 0.05) -> list[Decision]:
    """Decide all claims together, in their order: of the decisions given, on average at most `rate` are
    wrong.

    One family: "biased" and "fair" of a claim cannot both be wrong, so each claim counts once, with the
    greater of its two e-values. e-BH needs only that the e-value of each claim's true null is one. Without
    tolerances there is one null a claim, and the closed procedure may decide more. Holds whatever the claims
    share (seeds, model, pictures) and whenever each was stopped, as long as its stop did not look at other
    claims' later pictures: look at a panel after whole rounds of seeds. Source: `e_bh`, `closed_e_bh`; for
    directions, Benjamini and Yekutieli, JASA 100 (2005) 71-81.
    """
    # Unread pictures decide nothing, even where any shares at all would be tolerable.
    fair = [v.log_e_fair if v.n > v.abstained else -math.inf for v in verdicts]
    strongest = [max(v.log_e_biased, f) for v, f in zip(verdicts, fair, strict=True)]
    procedure = e_bh if any(v.tolerance is not None for v in verdicts) else closed_e_bh
    decided = procedure(strongest, rate=rate)
    return [
        _settle(bool(d) and v.log_e_biased >= f, bool(d) and f > v.log_e_biased)
        for d, v, f in zip(decided, verdicts, fair, strict=True)
    ]


def interval_decision(
    low: Sequence[float], high: Sequence[float], target: Sequence[float], *, tolerance: float | None = None
) -> Decision:
    """Decide from simultaneous intervals of the shares [K], such as those corrected for a judge's error.

    Biased: some interval lies wholly outside target +- tolerance (without one: misses the target). Fair: all
    lie inside. The limit is within the tolerance, so an interval that ends exactly on it from inside is fair,
    and one that touches it from outside is undecided. Each error at most what the intervals' confidence
    leaves.
    """
    t = checked_target(target, len(low))
    d = 0.0 if tolerance is None else checked_tolerance(tolerance)
    ends = list(zip(low, high, t, strict=True))
    if not all(lo <= hi for lo, hi, _ in ends):
        raise ValueError(f"intervals from {list(low)} to {list(high)}: expected low <= high, and no nan")
    biased = any(lo > goal + d + ROUNDING or hi < goal - d - ROUNDING for lo, hi, goal in ends)
    inside = all(lo >= goal - d - ROUNDING and hi <= goal + d + ROUNDING for lo, hi, goal in ends)
    return _settle(biased, inside and tolerance is not None)


def _settle(biased: bool, fair: bool) -> Decision:
    if fair:
        return "fair within tolerance"
    return "biased" if biased else "undecided"

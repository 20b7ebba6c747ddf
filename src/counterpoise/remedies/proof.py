"""When a search may stop: candidates one after the other, each on evidence of its own, all at one level.

A search that draws ten pictures and stops once five of them are women, thirty times over, passes what is
80/20 in 55 runs of 100 (arXiv:2308.14761's released rule). Here a candidate passes when an e-process says
that every share is within the tolerance, whenever one looks; and since a search tries many, candidate m
(from 1) is tested at alpha / (m (m + 1)), which sums to alpha over all that it could ever try.
"""

from __future__ import annotations

from collections.abc import Sequence

from counterpoise.stats import Verdict, verdict


def level(candidate: int, *, confidence: float = 0.95) -> float:
    """The confidence that candidate number `candidate`, from 1, is tested at."""
    return 1.0 - (1.0 - confidence) / (candidate * (candidate + 1))


def judgement(
    counts: Sequence[int],
    target: Sequence[float],
    *,
    candidate: int,
    tolerance: float,
    abstained: int = 0,
    confidence: float = 0.95,
) -> Verdict:
    """The verdict on a candidate's pictures [K] so far, which may be asked after each of them.

    Over the whole search, a candidate that is not within `tolerance` of the target is called fair with
    probability at most 1 - confidence. The pictures must be the candidate's own, of templates that the search
    never looked at.
    """
    return verdict(
        counts,
        target,
        tolerance=tolerance,
        abstained=abstained,
        confidence=level(candidate, confidence=confidence),
    )

"""All hypotheses of all arms, decided together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from counterpoise import stats
from counterpoise.audit.answers.outcome import settle
from counterpoise.audit.results import Decision


def decide(
    evidence: Sequence[tuple[float, float]], *, multiplicity: str, rate: float, one_sided: bool
) -> list[Decision]:
    """Decisions on (ln e_biased, ln e_fair) of each hypothesis, in order; -inf where there is none.

    "e-BH": of the decisions given, on average at most `rate` are wrong. "bonferroni": any wrong one at all
    has at most that probability. A hypothesis counts once, with the stronger of its two e-values, since only
    one of its verdicts can be wrong. one_sided: none of them can be called fair, so each has one null, which
    may be false, and the closed procedures (`closed_e_bh`, `e_holm`) decide more. Else each has a true null
    whatever the truth is, and stepping down gains nothing: plain e-BH, and e >= m / rate for each.
    """
    strongest = np.array([max(pair) for pair in evidence], dtype=float)
    if multiplicity == "e-BH":
        procedure = stats.closed_e_bh if one_sided else stats.e_bh
        found = procedure(strongest, rate=rate)
    elif one_sided:
        found = stats.e_holm(strongest, alpha=rate)
    else:
        found = strongest >= math.log(max(len(strongest), 1) / rate) - 1e-12
    return [
        settle(bool(yes) and biased >= fair, bool(yes) and fair > biased)
        for yes, (biased, fair) in zip(found, evidence, strict=True)
    ]

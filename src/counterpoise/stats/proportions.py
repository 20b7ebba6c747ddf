"""Exact intervals for counts: one share, or all shares of a multinomial at once."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.special import betaincinv

from counterpoise.stats.estimate import Estimate


def clopper_pearson(count: int, n: int, *, confidence: float = 0.95) -> Estimate:
    """The exact central interval of a binomial share; covers at least at `confidence` for every truth.

    count in 0..n, n >= 1, confidence in (0, 1); ValueError otherwise. At count 0 (or n) the closed side
    stays at 0 (or 1) and the other side still spends alpha/2 only, so the interval is conservative there.
    Source: Clopper and Pearson, Biometrika 26 (1934) 404-413; beta form, Brown, Cai and DasGupta,
    Statistical Science 16 (2001), eq. 4.
    """
    _check(count, n, confidence)
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if count == 0 else float(betaincinv(count, n - count + 1, tail))
    high = 1.0 if count == n else float(betaincinv(count + 1, n - count, 1.0 - tail))
    return Estimate(count / n, low, high, n, "Clopper-Pearson")


def multinomial_intervals(counts: Sequence[int], *, confidence: float = 0.95) -> list[Estimate]:
    """Intervals that cover all K shares of a multinomial at once, with at least `confidence`.

    counts: K >= 1 counts, their sum n >= 1; ValueError otherwise. Each share is binomial, so its exact
    interval at 1 - alpha/K keeps the chance that any one misses below alpha, whatever the truth and n
    (Goodman's and Sison-Glaz' shorter boxes hold only for large n).
    Source: Bonferroni's inequality over Clopper-Pearson intervals; Dunn, JASA 56 (1961) 52-64.
    """
    n = sum(counts)
    share_confidence = 1.0 - (1.0 - confidence) / max(len(counts), 1)
    method = f"Clopper-Pearson, simultaneous over {len(counts)} classes (Bonferroni)"
    estimates = [clopper_pearson(count, n, confidence=share_confidence) for count in counts]
    return [Estimate(e.value, e.low, e.high, n, method) for e in estimates]


def _check(count: int, n: int, confidence: float) -> None:
    if n < 1 or not 0 <= count <= n:
        raise ValueError(f"count {count} of {n}: expected 0 <= count <= n and n >= 1")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence}: expected more than 0 and less than 1")

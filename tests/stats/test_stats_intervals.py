"""Intervals against published values, a peer library, and simulated truths that they must cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from counterpoise.stats import clopper_pearson, multinomial_intervals, risk_ratio


@pytest.mark.parametrize(("count", "n"), [(0, 1), (1, 1), (0, 400), (400, 400), (30, 100), (16, 100), (3, 7)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_clopper_pearson_agrees_with_scipy(count: int, n: int, confidence: float) -> None:
    peer = binomtest(count, n).proportion_ci(confidence, method="exact")
    ours = clopper_pearson(count, n, confidence=confidence)
    assert (ours.low, ours.high) == pytest.approx((peer.low, peer.high), abs=1e-9)
    assert ours.low <= ours.value <= ours.high
    assert ours.n == n


def test_the_lensa_count_has_the_interval_that_was_published() -> None:
    estimate = clopper_pearson(30, 100)
    assert (round(estimate.low, 2), round(estimate.high, 2)) == (0.21, 0.40)


@pytest.mark.parametrize("n", [1, 8, 40, 137])
def test_clopper_pearson_covers_exactly_computed(n: int) -> None:
    intervals = [clopper_pearson(k, n, confidence=0.95) for k in range(n + 1)]
    for truth in np.linspace(0.001, 0.999, 97):
        inside = [e.low <= truth <= e.high for e in intervals]
        assert binom.pmf(np.arange(n + 1), n, truth)[inside].sum() >= 0.95 - 1e-12


@pytest.mark.parametrize(("count", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(count: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{count} of {n}"):
        clopper_pearson(count, n)
    with pytest.raises(ValueError, match=f"{count} of {n}"):
        risk_ratio((count, n), (1, 2))


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, math.nan])
def test_impossible_confidence_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        clopper_pearson(1, 2, confidence=confidence)
    with pytest.raises(ValueError, match="confidence"):
        risk_ratio((1, 2), (1, 2), confidence=confidence)


@pytest.mark.parametrize("truth", [[0.2] * 5 + [0.0], [0.85, 0.05, 0.05, 0.03, 0.02, 0.0], [0.5, 0.5, 0.0]])
@pytest.mark.parametrize("n", [10, 100])
def test_multinomial_box_covers_at_its_rate(truth: list[float], n: int) -> None:
    draws = np.random.default_rng(5).multinomial(n, truth, size=2000)
    table = {}
    for count in np.unique(draws):
        estimate = multinomial_intervals([int(count), n - int(count)] + [0] * (len(truth) - 2))[0]
        table[int(count)] = (estimate.low, estimate.high)
    covered = [
        all(table[int(c)][0] <= t <= table[int(c)][1] for c, t in zip(row, truth, strict=True))
        for row in draws
    ]
    assert np.mean(covered) >= 0.95


def test_multinomial_intervals_are_bonferroni() -> None:
    several = multinomial_intervals([10, 20, 70], confidence=0.94)
    alone = clopper_pearson(20, 100, confidence=0.98)
    assert (several[1].low, several[1].high) == (alone.low, alone.high)
    assert "3 classes" in several[1].method
    with pytest.raises(ValueError, match="0 of 0"):
        multinomial_intervals([0, 0])


def test_risk_ratio_agrees_with_the_published_example() -> None:
    # Koopman (1984), table 1, first example: 36 of 40 against 16 of 80.
    estimate = risk_ratio((36, 40), (16, 80))
    assert estimate.value == pytest.approx(4.5)
    assert (estimate.low, estimate.high) == pytest.approx((2.94, 7.15), abs=0.01)


def test_risk_ratio_at_the_edges() -> None:
    nothing_below = risk_ratio((8, 10), (0, 40))
    assert nothing_below.value == math.inf
    assert nothing_below.high == math.inf
    assert nothing_below.low > 1.0
    nothing_above = risk_ratio((0, 10), (8, 40))
    assert (nothing_above.value, nothing_above.low) == (0.0, 0.0)
    assert 0.0 < nothing_above.high < 10.0
    neither = risk_ratio((0, 10), (0, 40))
    assert math.isnan(neither.value)
    assert (neither.low, neither.high) == (0.0, math.inf)
    everything = risk_ratio((10, 10), (40, 40))
    assert everything.low < 1.0 < everything.high
    assert math.isfinite(everything.high)


def test_risk_ratio_turned_over_is_its_inverse() -> None:
    ratio, inverse = risk_ratio((7, 50), (19, 60)), risk_ratio((19, 60), (7, 50))
    assert (ratio.low, ratio.high) == pytest.approx((1 / inverse.high, 1 / inverse.low), rel=1e-6)


@pytest.mark.parametrize(
    ("p1", "n1", "p2", "n2"), [(0.8, 100, 0.1, 400), (0.1, 50, 0.1, 50), (0.3, 20, 0.6, 80)]
)
def test_risk_ratio_covers_computed_over_every_outcome(p1: float, n1: int, p2: float, n2: int) -> None:
    mass1, mass2 = binom.pmf(np.arange(n1 + 1), n1, p1), binom.pmf(np.arange(n2 + 1), n2, p2)
    covered = 0.0
    for x1 in np.flatnonzero(mass1 > 1e-4):
        for x2 in np.flatnonzero(mass2 > 1e-4):
            estimate = risk_ratio((int(x1), n1), (int(x2), n2))
            covered += mass1[x1] * mass2[x2] * (estimate.low <= p1 / p2 <= estimate.high)
    # Koopman's interval is asymptotic: its coverage is close to nominal, not guaranteed above it.
    assert covered >= 0.94


def test_risk_ratio_is_an_interval_around_its_value_whatever_the_counts() -> None:
    sizes = (1, 2, 5, 400, 100_000)
    tables = [(x, n) for n in sizes for x in {0, 1, n // 2, n - 1, n}]
    for first in tables:
        for second in tables:
            estimate = risk_ratio(first, second, confidence=0.99)
            assert 0.0 <= estimate.low <= estimate.high
            if math.isfinite(estimate.value):
                assert estimate.low <= estimate.value * (1 + 1e-9)
                assert estimate.value <= estimate.high * (1 + 1e-9)

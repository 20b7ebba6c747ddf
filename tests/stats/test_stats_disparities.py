"""Disparities: paired and unpaired, against enumeration, their own tests, and planted rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoise.stats import (
    Pairs,
    log_e_difference,
    log_e_paired,
    log_e_paired_difference,
    log_e_paired_ratio,
    log_e_ratio,
    mean_interval,
    paired_difference,
    paired_ratio,
    rate_difference,
    rate_ratio,
    risk_ratio,
    with_missing,
)

LEVEL = math.log(20)
COUNTS = st.integers(0, 60)
OUTCOMES = np.eye(4, dtype=int)


@pytest.mark.parametrize("sided", [False, True])
@pytest.mark.parametrize("counts", [(0, 0), (3, 1), (10, 12)])
def test_the_paired_process_is_a_martingale_when_both_arms_are_alike(
    counts: tuple[int, int], sided: bool
) -> None:
    b, c = counts
    after = 0.5 * sum(np.exp(log_e_paired(x, y, sided=sided)) for x, y in ((b + 1, c), (b, c + 1)))
    assert after == pytest.approx(np.exp(log_e_paired(b, c, sided=sided)), rel=1e-9)


@pytest.mark.parametrize("shares", [[0.1, 0.3, 0.05, 0.55], [0.0, 0.2, 0.2, 0.6], [0.5, 0.3, 0.1, 0.1]])
def test_differences_and_ratios_are_martingales_at_their_truth(shares: list[float]) -> None:
    first, second = shares[0] + shares[1], shares[0] + shares[2]
    tests = [
        lambda pairs: np.exp(log_e_paired_difference(pairs, first - second)),
        lambda pairs: np.exp(log_e_paired_ratio(pairs, first / second)),
    ]
    for e in tests:
        for pairs in ([0, 0, 0, 0], [2, 5, 1, 3]):
            after = sum(p * e(np.array(pairs) + step) for p, step in zip(shares, OUTCOMES, strict=True))
            assert after == pytest.approx(e(np.array(pairs)), rel=1e-9)


def test_pairs_that_agree_say_nothing_of_which_arm_shows_more() -> None:
    apart = float(log_e_paired(9, 1))
    for both, neither in ((0, 0), (50, 7)):
        assert float(log_e_paired_difference([both, 9, 1, neither], 0.0)) == pytest.approx(apart)
        assert float(log_e_paired_ratio([both, 9, 1, neither], 1.0)) == pytest.approx(apart)


def test_eight_discordant_pairs_in_a_row_are_enough() -> None:
    assert float(log_e_paired(8, 0)) >= LEVEL > float(log_e_paired(6, 0))
    assert float(log_e_paired(8, 0)) == pytest.approx(float(log_e_paired(0, 8)))
    assert float(log_e_paired(0, 8, sided=True)) < 0.0


def test_many_pairs_at_once_are_the_same_as_one_at_a_time() -> None:
    for size in (3, 20, 3000):
        pairs = np.random.default_rng(size).integers(0, 30, size=(size, 4))
        together = log_e_paired_difference(pairs, 0.1)
        assert together[:3] == pytest.approx([float(log_e_paired_difference(row, 0.1)) for row in pairs[:3]])
        counts = log_e_paired(pairs[:, 1], pairs[:, 2])
        assert counts[:3] == pytest.approx([float(log_e_paired(*row[1:3])) for row in pairs[:3]])


@settings(max_examples=40, deadline=None)
@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_paired_intervals_hold_their_value_and_agree_with_the_test(a: int, b: int, c: int, d: int) -> None:
    pairs = Pairs(a, b, c, d)
    difference, ratio = paired_difference(pairs), paired_ratio(pairs)
    if sum(pairs):
        assert -1 <= difference.low <= difference.value <= difference.high <= 1
    if not math.isnan(ratio.value):
        assert 0 <= ratio.low <= ratio.value * (1 + 1e-9)
        assert ratio.value <= ratio.high * (1 + 1e-9)
    shown = float(log_e_paired(b, c)) >= LEVEL
    assert shown == (difference.low > 0 or difference.high < 0)
    assert shown == (ratio.low > 1 or ratio.high < 1)


def test_the_edges_of_paired_intervals() -> None:
    assert paired_difference(Pairs(0, 0, 0, 0)).low == -1.0
    assert (paired_ratio(Pairs(0, 0, 0, 9)).low, paired_ratio(Pairs(0, 0, 0, 9)).high) == (0.0, math.inf)
    only_first = paired_ratio(Pairs(0, 12, 0, 80))
    assert (only_first.value, only_first.high) == (math.inf, math.inf)
    assert only_first.low > 1
    everything = paired_difference(Pairs(0, 9, 0, 0))
    assert (everything.value, everything.high) == (1.0, 1.0)
    big = paired_difference(Pairs(100_000, 300_000, 250_000, 350_000))
    assert 0.045 < big.low < 0.05 < big.high < 0.055
    with pytest.raises(ValueError, match="four whole numbers"):
        paired_difference(Pairs(1, -1, 0, 0))


def test_missing_pairs_bound_whatever_they_would_have_been() -> None:
    pairs = Pairs(5, 10, 2, 40)
    least, most = (paired_difference(p) for p in with_missing(pairs, missing=3))
    for filled in (
        pairs._replace(both=8),
        pairs._replace(neither=43),
        pairs._replace(first_only=12, second_only=3),
    ):
        told = paired_difference(filled)
        assert least.low <= told.low
        assert told.high <= most.high


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.floats(0, 1), st.floats(0, 1))
def test_unpaired_intervals_hold_their_value_and_agree_with_the_test(
    n1: int, n2: int, p1: float, p2: float
) -> None:
    first, second = (round(p1 * n1), n1), (round(p2 * n2), n2)
    difference, ratio = rate_difference(first, second), rate_ratio(first, second)
    assert -1 <= difference.low <= difference.value <= difference.high <= 1
    shown = float(log_e_difference(first, second)) >= LEVEL
    assert shown == (difference.low > 0 or difference.high < 0)
    if not math.isnan(ratio.value):
        assert shown == (ratio.low > 1 or ratio.high < 1)
        fixed = risk_ratio(first, second)
        # Holding at every time costs length against the interval for one.
        assert ratio.low <= fixed.low * (1 + 1e-6) or fixed.low == 0
        assert ratio.high >= fixed.high * (1 - 1e-6)


def test_the_unpaired_null_is_maximised_exactly() -> None:
    x1, n1, x2, n2 = 7, 30, 12, 25
    pooled = (x1 + x2) / (n1 + n2)
    both = float(log_e_difference((x1, n1), (x2, n2)))
    assert both == pytest.approx(float(log_e_ratio((x1, n1), (x2, n2))), abs=1e-9)
    rates = np.linspace(1e-4, 0.9 - 1e-4, 20001)

    def log_likelihood(p1: np.ndarray, p2: np.ndarray) -> np.ndarray:
        return x1 * np.log(p1) + (n1 - x1) * np.log1p(-p1) + x2 * np.log(p2) + (n2 - x2) * np.log1p(-p2)

    apart = float(log_e_difference((x1, n1), (x2, n2), 0.1)) - both
    best = float(log_likelihood(rates + 0.1, rates).max())
    assert apart == pytest.approx(float(log_likelihood(np.array(pooled), np.array(pooled))) - best, abs=1e-5)


def test_unpaired_edges() -> None:
    assert rate_ratio((0, 50), (0, 50)).high == math.inf
    assert rate_ratio((0, 0), (0, 0)).low == 0.0
    assert (rate_difference((0, 0), (0, 0)).low, rate_difference((0, 0), (0, 0)).high) == (-1.0, 1.0)
    with pytest.raises(ValueError, match="6 of 5"):
        rate_difference((6, 5), (1, 2))


@pytest.mark.parametrize("rates", [(0.6, 0.2), (0.05, 0.05)])
def test_unpaired_coverage_at_every_tenth_look(rates: tuple[float, float]) -> None:
    rng = np.random.default_rng(8)
    looks = np.arange(10, 201, 10)
    first, second = (rng.binomial(10, p, size=(300, len(looks))).cumsum(axis=1) for p in rates)
    held = log_e_difference((first, looks), (second, looks), rates[0] - rates[1]) < LEVEL
    assert held.all(axis=1).mean() >= 0.95
    held = log_e_ratio((first, looks), (second, looks), rates[0] / rates[1]) < LEVEL
    assert held.all(axis=1).mean() >= 0.95


def test_bounded_means_are_covered_and_edges_behave() -> None:
    rng = np.random.default_rng(9)
    held = 0
    for _ in range(150):
        values = rng.beta(0.3, 0.1, size=12)
        e = mean_interval(values.tolist())
        held += e.low <= 0.75 <= e.high
    assert held / 150 >= 0.95
    same = mean_interval([1.0] * 30)
    assert same.high == 1.0
    assert 0.7 < same.low < 1.0
    assert mean_interval([], span=(-1.0, 2.0)).high == 2.0
    with pytest.raises(ValueError, match="expected numbers from"):
        mean_interval([1.2])
    with pytest.raises(ValueError, match="expected numbers from"):
        mean_interval([math.nan])

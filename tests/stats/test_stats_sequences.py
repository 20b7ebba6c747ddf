"""Confidence sequences: the inverse of their tests, edges, abstentions, coverage at every look."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoise.stats import distance_sequence, multinomial_intervals, share_bounds, share_sequence
from counterpoise.stats.prior import beta_components, log_beta_mixture


def log_e(x: int, n: int, share: float, centre: float | None) -> float:
    mixture = float(log_beta_mixture(np.float64(x), np.float64(n), beta_components(centre)))  # type: ignore[arg-type]
    return mixture - x * math.log(share) - (n - x) * math.log1p(-share)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 2000), st.floats(0, 1), st.sampled_from([None, 0.5, 0.1]), st.sampled_from([0.05, 0.01])
)
def test_ends_are_where_the_e_process_reaches_its_level(
    n: int, part: float, centre: float | None, alpha: float
) -> None:
    x = round(part * n)
    low, high = (float(end) for end in share_bounds(x, n, alpha=alpha, centre=centre))
    assert 0.0 <= low <= x / n <= high <= 1.0
    for end in (low, high):
        if 0.0 < end < 1.0:
            assert log_e(x, n, end, centre) == pytest.approx(-math.log(alpha), abs=1e-6)


@pytest.mark.parametrize("n", [10**6, 10**4])
def test_ends_keep_their_digits_near_0_and_1(n: int) -> None:
    low, high = share_bounds(0, n, alpha=0.05)
    assert float(low) == 0.0
    # (1 - high)^n = B(1/2, n + 1/2) / B(1/2, 1/2) * alpha, solved by hand.
    floor = float(log_beta_mixture(np.float64(0), np.float64(n), beta_components(None))) + math.log(0.05)  # type: ignore[arg-type]
    assert float(high) == pytest.approx(-math.expm1(floor / n), rel=1e-9)
    low, high = share_bounds(n, n, alpha=0.05)
    assert float(high) == 1.0
    assert 1.0 - float(low) == pytest.approx(-math.expm1(floor / n), rel=1e-6)


def test_nothing_drawn_leaves_everything_possible() -> None:
    for e in share_sequence([0, 0, 0]):
        assert (e.low, e.high, e.n) == (0.0, 1.0, 0)
        assert math.isnan(e.value)
    assert (distance_sequence([0, 0], [0.5, 0.5]).low, distance_sequence([0, 0], [0.5, 0.5]).high) == (
        0.0,
        0.5,
    )


def test_two_classes_mirror_each_other_without_paying_twice() -> None:
    first, second = share_sequence([30, 10], target=[0.5, 0.5])
    assert (first.low, first.high) == pytest.approx((1 - second.high, 1 - second.low), abs=1e-12)
    low, high = share_bounds(30, 40, alpha=0.05, centre=0.5)
    assert (first.low, first.high) == (float(low), float(high))


def test_a_target_near_the_truth_makes_intervals_shorter_and_still_exact_elsewhere() -> None:
    near = share_sequence([250] * 4, target=[0.25] * 4)[0]
    blind = share_sequence([250] * 4)[0]
    fixed = multinomial_intervals([250] * 4)[0]
    assert near.high - near.low < blind.high - blind.low
    assert near.high - near.low < 1.7 * (fixed.high - fixed.low)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=2, max_size=5), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_abstained_pictures_are_covered_wherever_they_belong(
    counts: list[int], abstained: int, seed: int
) -> None:
    target = [1 / len(counts)] * len(counts)
    found = share_sequence(counts, target=target, abstained=abstained)
    moved = np.array(counts) + np.random.default_rng(seed).multinomial(abstained, target)
    for wide, told in zip(found, share_sequence(moved.tolist(), target=target), strict=True):
        assert wide.low <= told.low + 1e-9
        assert told.high <= wide.high + 1e-9
        assert wide.n == told.n
        if sum(counts):
            assert wide.low <= wide.value <= wide.high


def test_distance_bounds_hold_the_observed_distance() -> None:
    e = distance_sequence([97, 1, 1, 1], [0.25] * 4)
    assert e.value == pytest.approx(0.72)
    assert e.low <= e.value <= e.high
    assert e.low > 0.5
    worst = distance_sequence([97, 1, 1, 1], [0.25] * 4, abstained=50)
    assert worst.low < e.low


@pytest.mark.parametrize("truth", [[0.9, 0.1], [0.6, 0.3, 0.1]])
def test_all_shares_are_covered_at_every_one_of_200_looks(truth: list[float]) -> None:
    k = len(truth)
    n, count = np.tril_indices(201)
    ends = [np.zeros((201, 201)), np.ones((201, 201))]
    found = share_bounds(count, n, alpha=0.05 / (1 if k == 2 else k), centre=1 / k)
    for table, end in zip(ends, found, strict=True):
        table[n, count] = end
    labels = np.random.default_rng(3).choice(k, p=truth, size=(1000, 200))
    counts = np.cumsum(labels[..., None] == np.arange(k), axis=1)
    looks = np.arange(1, 201)[:, None]
    held = (ends[0][looks, counts] <= truth) & (truth <= ends[1][looks, counts])
    assert held.all(axis=(1, 2)).mean() >= 0.95


def test_impossible_asks_are_refused() -> None:
    with pytest.raises(ValueError, match="abstained -1"):
        share_sequence([1, 2], abstained=-1)
    with pytest.raises(ValueError, match="confidence 1"):
        share_sequence([1, 2], confidence=1.0)

"""The e-process against enumerated nulls, closed forms and scipy's own distributions."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom, dirichlet_multinomial

from counterpoise.stats import in_simplex_sequence, log_e_path, log_e_target, log_e_target_worst
from counterpoise.stats.prior import beta_components, dirichlet_components, log_dirichlet_multinomial

LEVEL = math.log(20)
UNIFORM = [0.25] * 4


@pytest.mark.parametrize("counts", [[0, 0, 0], [3, 1, 0], [50, 2, 9], [400_000, 300_000, 300_000]])
def test_marginal_is_scipys_dirichlet_multinomial(counts: list[int]) -> None:
    a = np.array([0.5, 1.0, 3.0])
    n = sum(counts)
    orders = math.lgamma(n + 1) - sum(math.lgamma(c + 1) for c in counts)
    peer = dirichlet_multinomial.logpmf(counts, a, n) - orders
    assert log_dirichlet_multinomial(np.array(counts, float), a) == pytest.approx(peer, rel=1e-9, abs=1e-6)


def test_two_classes_are_the_beta_binomial_mixture() -> None:
    x, n, t = 17, 40, 0.3
    mixture = sum(w * betabinom.pmf(x, n, a, b) for w, a, b in beta_components(t))
    expected = math.log(mixture / (math.comb(n, x) * t**x * (1 - t) ** (n - x)))
    assert float(log_e_target([x, n - x], [t, 1 - t])) == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=5), st.integers(0, 2**32 - 1))
def test_it_is_a_martingale_under_the_null(counts: list[int], seed: int) -> None:
    t = np.random.default_rng(seed).dirichlet(np.ones(len(counts)))
    t = (t + 0.01) / (t + 0.01).sum()
    now = np.exp(log_e_target(counts, t))
    after = sum(
        p * np.exp(log_e_target(np.array(counts) + np.eye(len(counts), dtype=int)[k], t))
        for k, p in enumerate(t)
    )
    assert after == pytest.approx(now, rel=1e-9)


def test_nothing_drawn_is_no_evidence() -> None:
    assert float(log_e_target([0, 0], [0.9, 0.1])) == pytest.approx(0.0, abs=1e-12)
    assert bool(in_simplex_sequence([0, 0], [1.0, 0.0]))
    assert log_e_target_worst([0, 0, 0], [0.2, 0.3, 0.5], abstained=0) == pytest.approx(0.0, abs=1e-12)


def test_a_class_that_the_target_rules_out_is_infinite_evidence_once_seen() -> None:
    assert float(log_e_target([5, 0, 5], [0.5, 0.0, 0.5])) == pytest.approx(
        float(log_e_target([5, 5], [0.5, 0.5]))
    )
    assert float(log_e_target([5, 1, 5], [0.5, 0.0, 0.5])) == math.inf
    assert log_e_target_worst([5, 1, 5], [0.5, 0.0, 0.5], abstained=3) == math.inf


def test_a_path_is_the_counts_seen_so_far() -> None:
    labels = np.array([[0, 0, 2, 1], [3, 3, 3, 3]])
    path = log_e_path(labels, UNIFORM)
    assert path.shape == (2, 4)
    assert path[0, 2] == pytest.approx(float(log_e_target([2, 0, 1, 0], UNIFORM)))
    assert path[1, 3] == pytest.approx(float(log_e_target([0, 0, 0, 4], UNIFORM)))
    with pytest.raises(ValueError, match="labels from 0 to 4"):
        log_e_path([0, 4], UNIFORM)


def test_one_kind_of_girl_is_proven_in_six_pictures() -> None:
    assert float(log_e_target([4, 0, 0, 0], UNIFORM)) < LEVEL
    assert float(log_e_target([6, 0, 0, 0], UNIFORM)) >= LEVEL


def test_no_overflow_at_a_million_pictures_of_36_classes() -> None:
    counts = np.full(36, 27_778)
    counts[0] = 500_000
    value = float(log_e_target(counts, np.full(36, 1 / 36)))
    assert math.isfinite(value)
    assert value > 1e5
    even = float(log_e_target(np.full(36, 27_778), np.full(36, 1 / 36)))
    assert -300 < even < 0


def test_false_alarms_stay_under_the_level_at_every_look() -> None:
    labels = np.random.default_rng(1).integers(0, 3, size=(1500, 300))
    alarms = (log_e_path(labels, [1 / 3] * 3) >= LEVEL).any(axis=1).mean()
    assert 0.005 <= alarms <= 0.05


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=3), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_worst_case_is_under_every_allocation_and_close_to_the_least(
    counts: list[int], abstained: int, seed: int
) -> None:
    k = len(counts)
    t = np.random.default_rng(seed).dirichlet(np.ones(k) * 3)
    t = (t + 0.02) / (t + 0.02).sum()
    moves = [m for m in product(range(abstained + 1), repeat=k) if sum(m) == abstained]
    least = min(float(log_e_target(np.array(counts) + m, t)) for m in moves)
    worst = log_e_target_worst(counts, t, abstained=abstained)
    assert worst <= least + 1e-9
    # Parts of the mixture may be least at different allocations: that is all that is lost.
    assert worst >= least - math.log(len(dirichlet_components(t)))


def test_worst_case_of_many_abstentions_is_no_evidence_and_quick() -> None:
    assert log_e_target_worst([20, 0], [0.5, 0.5], abstained=1_000_000) < 0.0
    assert log_e_target_worst([200, 0], [0.5, 0.5], abstained=10) > LEVEL


@pytest.mark.parametrize(
    ("counts", "target", "message"),
    [
        ([1, -1], [0.5, 0.5], "whole numbers"),
        ([1.5, 1], [0.5, 0.5], "whole numbers"),
        ([math.nan, 1], [0.5, 0.5], "whole numbers"),
        ([3], [1.0], "at least 2 classes"),
        ([1, 1], [0.5, 0.4], "sum to 1"),
        ([1, 1], [1.5, -0.5], "sum to 1"),
        ([1, 1], [math.nan, 1.0], "sum to 1"),
        ([1, 1, 1], [0.5, 0.5], "3 classes"),
    ],
)
def test_what_is_no_count_and_no_target_is_refused(
    counts: list[float], target: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        log_e_target(counts, target)

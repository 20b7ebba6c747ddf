"""Total variation: its bounds against brute force and linear programs, its floor against exact sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.stats import binom

from counterpoise.stats import (
    distance,
    fair_floor,
    floor_corrected,
    multinomial_intervals,
    total_variation,
    total_variation_bounds,
)


def test_total_variation_by_hand() -> None:
    assert total_variation([0.85, 0.15, 0.0], [0.5, 0.5, 0.0]) == pytest.approx(0.35)
    assert total_variation([0.0, 0.0, 1.0], [0.5, 0.5, 0.0]) == pytest.approx(1.0)
    assert total_variation([0.2, 0.8], [0.2, 0.8]) == 0.0


def least_by_lp(low: np.ndarray, high: np.ndarray, t: np.ndarray) -> float:
    """min sum s with s >= p - t, s >= 0: the TV as a linear program in (p, s)."""
    k = len(t)
    upper = np.hstack([np.eye(k), -np.eye(k)])
    answer = linprog(
        np.concatenate([np.zeros(k), np.ones(k)]),
        A_ub=upper,
        b_ub=t,
        A_eq=np.concatenate([np.ones(k), np.zeros(k)])[None],
        b_eq=[1.0],
        bounds=[*zip(low, high, strict=True), *[(0, None)] * k],
    )
    return float(answer.fun)


def greatest_by_lp(low: np.ndarray, high: np.ndarray, t: np.ndarray) -> float:
    """max over every sign pattern of a linear program: TV is the greatest p(S) - t(S)."""
    best = 0.0
    for bits in range(2 ** len(t)):
        s = np.array([bits >> k & 1 for k in range(len(t))], dtype=float)
        answer = linprog(-s, A_eq=np.ones((1, len(t))), b_eq=[1.0], bounds=[*zip(low, high, strict=True)])
        best = max(best, -float(answer.fun) - float(s @ t))
    return best


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=2, max_size=5).filter(any), st.integers(0, 2**32 - 1))
def test_bounds_are_those_of_linear_programs(counts: list[int], seed: int) -> None:
    box = multinomial_intervals(counts)
    low, high = np.array([e.low for e in box]), np.array([e.high for e in box])
    t = np.random.default_rng(seed).dirichlet(np.ones(len(counts)) * 0.5)
    least, greatest = total_variation_bounds(low, high, t)
    assert least == pytest.approx(least_by_lp(low, high, t), abs=1e-7)
    assert greatest == pytest.approx(greatest_by_lp(low, high, t), abs=1e-7)
    observed = total_variation([e.value for e in box], t)
    assert least - 1e-12 <= observed <= greatest + 1e-12


def test_bounds_with_many_classes_stay_outside_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        box = multinomial_intervals([int(c) for c in rng.multinomial(60, rng.dirichlet(np.ones(8)))])
        low, high, t = [e.low for e in box], [e.high for e in box], rng.dirichlet(np.ones(8))
        exact = total_variation_bounds(low, high, t)
        with monkeypatch.context() as patch:
            patch.setattr(distance, "MAX_ENUMERATED", 2)
            relaxed = total_variation_bounds(low, high, t)
        assert relaxed[0] == exact[0]
        assert exact[1] - 1e-12 <= relaxed[1] <= exact[1] + 0.1


def test_bounds_refuse_an_empty_box() -> None:
    with pytest.raises(ValueError, match="no distribution"):
        total_variation_bounds([0.6, 0.6], [0.9, 0.9], [0.5, 0.5])
    with pytest.raises(ValueError, match="no distribution"):
        total_variation_bounds([0.0, 0.0], [0.4, 0.4], [0.5, 0.5])


@pytest.mark.parametrize("truth", [[0.2] * 5 + [0.0], [0.7, 0.1, 0.1, 0.05, 0.05, 0.0]])
def test_bounds_cover_the_true_distance(truth: list[float]) -> None:
    target = [0.2] * 5 + [0.0]
    true_tv = total_variation(truth, target)
    covered = 0
    for row in np.random.default_rng(3).multinomial(50, truth, size=400):
        box = multinomial_intervals([int(c) for c in row])
        least, greatest = total_variation_bounds([e.low for e in box], [e.high for e in box], target)
        covered += least - 1e-12 <= true_tv <= greatest + 1e-12
    assert covered / 400 >= 0.95


@pytest.mark.parametrize("target", [[0.5, 0.5], [0.2] * 5, [0.7, 0.2, 0.1, 0.0], [1.0, 0.0]])
@pytest.mark.parametrize("n", [1, 2, 9, 10, 399, 400])
def test_fair_floor_is_the_exact_expectation(target: list[float], n: int) -> None:
    x = np.arange(n + 1)
    exact = 0.5 * sum(float((binom.pmf(x, n, t) * np.abs(x / n - t)).sum()) for t in target)
    assert fair_floor(target, n) == pytest.approx(exact, abs=1e-12)


def test_fair_floor_gives_the_figures_known_for_published_metrics() -> None:
    # DALL-Eval's gender MAD at n = 9: the fair model shows .136 (of .5), simulated; MAD with K = 2 is TV.
    assert fair_floor([0.5, 0.5], 9) == pytest.approx(0.137, abs=0.001)
    # Fair Diffusion: mean abs(2w - 1) at n = 250 is .051, twice the TV.
    assert 2 * fair_floor([0.5, 0.5], 250) == pytest.approx(0.0505, abs=0.0005)
    with pytest.raises(ValueError, match="n 0"):
        fair_floor([0.5, 0.5], 0)


def test_floor_corrected_never_goes_below_zero() -> None:
    assert floor_corrected(0.10, 0.03) == pytest.approx(0.07)
    assert floor_corrected(0.01, 0.03) == 0.0

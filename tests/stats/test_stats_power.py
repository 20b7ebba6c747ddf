"""Planning: repeatable, agrees with known stopping times, and with the fixed-n tests' own power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, chisquare, multinomial

from counterpoise.stats import p_outside, p_target, p_within, plan
from counterpoise.stats.fixed import MAX_OUTCOMES

HALF = [0.5, 0.5]


def test_gross_bias_needs_few_pictures() -> None:
    found = plan([0.97, 0.01, 0.01, 0.01], [0.25] * 4, rng=np.random.default_rng(0), cap=60, runs=300)
    assert found.median is not None
    assert found.median <= 8
    assert (found.biased, found.fair) == (1.0, 0.0)
    assert plan([0.97, 0.01, 0.01, 0.01], [0.25] * 4, rng=np.random.default_rng(0), cap=60, runs=300) == found


def test_a_certificate_is_planned_like_a_bias() -> None:
    found = plan(HALF, HALF, rng=np.random.default_rng(1), tolerance=0.15, cap=600, runs=150)
    assert found.fair > 0.95
    assert found.median is not None
    assert found.ninetieth is not None
    assert found.fixed is not None
    assert 50 < found.median < found.ninetieth <= 600
    # The exact n at which 9 of 10 fair models pass two one-sided tests.
    assert found.fixed == pytest.approx(_smallest_certifying(), rel=0.15)


def _smallest_certifying() -> int:
    n = 10
    while True:
        x = np.arange(n + 1)
        passed = p_within(np.stack([x, n - x], axis=1), HALF, tolerance=0.15) <= 0.05
        if binom.pmf(x, n, 0.5)[passed].sum() >= 0.9:
            return n
        n += 1


def test_what_the_cap_does_not_decide_is_none_not_a_number() -> None:
    found = plan([0.52, 0.48], HALF, rng=np.random.default_rng(2), cap=40, runs=50)
    assert found.median is None
    assert found.ninetieth is None
    assert found.fixed is None
    assert found.biased < 0.1


def test_looking_in_batches_stops_at_whole_batches() -> None:
    found = plan([0.9, 0.1], HALF, rng=np.random.default_rng(3), cap=100, runs=100, every=8)
    assert found.median is not None
    assert found.median % 8 == 0
    with pytest.raises(ValueError, match="every 0"):
        plan([0.9, 0.1], HALF, rng=np.random.default_rng(3), every=0)


def test_a_ruled_out_class_is_found_as_soon_as_it_is_drawn() -> None:
    found = plan([0.5, 0.5], [1.0, 0.0], rng=np.random.default_rng(4), cap=50, runs=200)
    assert found.median is not None
    assert found.median <= 2


def test_p_target_is_scipys_chi_square_for_many_and_exact_for_few() -> None:
    counts = [300, 250, 260, 190]
    assert math.comb(1003, 3) > MAX_OUTCOMES
    assert float(p_target(counts, [0.25] * 4)) == pytest.approx(chisquare(counts).pvalue)
    assert float(p_target([17, 3], HALF)) == pytest.approx(binomtest(17, 20, 0.5).pvalue)
    assert float(p_target([3, 0, 0, 0], [0.25] * 4)) == pytest.approx(4 / 64)
    assert float(p_target([0, 0], HALF)) == 1.0
    with pytest.raises(ValueError, match="not defined"):
        p_target([1, 1], [1.0, 0.0])


@pytest.mark.parametrize("target", [[0.2, 0.3, 0.5], [0.1, 0.9], [0.25] * 4])
def test_exact_p_values_are_valid(target: list[float]) -> None:
    n, k = 12, len(target)
    draws = np.unique(np.random.default_rng(5).multinomial(n, np.ones(k) / k, size=4000), axis=0)
    chances, p = multinomial.pmf(draws, n, target), p_target(draws, target)
    for level in (0.01, 0.05, 0.2):
        assert chances[p <= level].sum() <= level + 1e-9


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(1, 60), st.sampled_from([0.05, 0.2]))
def test_face_p_values_are_binomial_tails(x: int, n: int, tolerance: float) -> None:
    x = min(x, n)
    above, below = binom.sf(x - 1, n, 0.5 + tolerance), binom.cdf(x, n, 0.5 - tolerance)
    assert float(p_outside([x, n - x], HALF, tolerance=tolerance)) == pytest.approx(
        min(1, 2 * min(above, below))
    )
    within = max(binom.cdf(x, n, 0.5 + tolerance), binom.sf(x - 1, n, 0.5 - tolerance))
    assert float(p_within([x, n - x], HALF, tolerance=tolerance)) == pytest.approx(within)

"""Judge error: Rogan and Gladen's formula, brute force, planted errors, and cards that tell little."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoise.stats import (
    card_bounds,
    clopper_pearson,
    corrected_disparity,
    corrected_shares,
    interval_decision,
    reading_bounds,
    true_share_bounds,
)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.6, 0.99),
    st.floats(0.6, 0.99),
    st.floats(0.1, 0.9),
    st.floats(0.0, 0.05),
    st.floats(0.0, 0.05),
)
def test_two_classes_are_rogan_and_gladen_with_intervals(
    sensitivity: float, specificity: float, seen: float, about_card: float, about_seen: float
) -> None:
    def ends(x: float, by: float) -> tuple[float, float]:
        return max(0.0, x - by), min(1.0, x + by)

    (s0, s1), (c0, c1), (r0, r1) = (
        ends(sensitivity, about_card),
        ends(specificity, about_card),
        ends(seen, about_seen),
    )
    card = (np.array([[s0, 1 - s1], [1 - c1, c0]]), np.array([[s1, 1 - s0], [1 - c0, c1]]))
    found = true_share_bounds((np.array([r0, 1 - r1]), np.array([r1, 1 - r0])), card)
    # The corrected rate falls with sensitivity and rises with specificity wherever it lies in [0, 1].
    corners = [(r + c - 1) / (s + c - 1) for r in (r0, r1) for s in (s0, s1) for c in (c0, c1)]
    if max(corners) < 0 or min(corners) > 1:
        assert found is None
        return
    assert found is not None
    assert found[0][0] == pytest.approx(max(0.0, min(corners)), abs=1e-5)
    assert found[1][0] == pytest.approx(min(1.0, max(corners)), abs=1e-5)


def test_three_classes_hold_every_truth_that_fits() -> None:
    rng = np.random.default_rng(0)
    low = np.array([[0.8, 0.0, 0.0], [0.05, 0.7, 0.0], [0.0, 0.1, 0.6]])
    high = np.array([[0.95, 0.1, 0.2], [0.2, 0.9, 0.2], [0.2, 0.3, 0.9]])
    seen = np.array([0.4, 0.3, 0.2]), np.array([0.5, 0.4, 0.3])
    found = true_share_bounds(seen, (low, high))
    assert found is not None
    fitting = []
    for _ in range(20_000):
        rates = rng.dirichlet(np.ones(3), size=3) * 0.2 + np.eye(3) * 0.8
        p = rng.dirichlet(np.ones(3))
        inside = (low <= rates).all() and (rates <= high).all()
        if inside and (seen[0] <= p @ rates).all() and (p @ rates <= seen[1]).all():
            fitting.append(p)
    assert len(fitting) > 20
    assert (found[0] - 1e-9 <= np.array(fitting)).all()
    assert (np.array(fitting) <= found[1] + 1e-9).all()
    # And the bounds are not just loose: some fitting truth comes near each.
    assert (np.min(fitting, axis=0) - found[0]).max() < 0.15


def test_a_card_is_held_by_its_intervals() -> None:
    low, high = card_bounds([[45, 5], [0, 0]], confidence=0.95)
    e = clopper_pearson(45, 50, confidence=1 - 0.05 / 2)
    assert (low[0, 0], high[0, 0]) == pytest.approx((e.low, e.high))
    assert (low[1].tolist(), high[1].tolist()) == ([0.0, 0.0], [1.0, 1.0])


@pytest.mark.parametrize("anytime", [False, True])
def test_planted_errors_are_covered_where_plain_intervals_miss(anytime: bool) -> None:
    rates = np.array([[0.80, 0.10, 0.10], [0.05, 0.93, 0.02]])
    truth, rng, held, plain = np.array([0.8, 0.2]), np.random.default_rng(1), 0, 0
    for _ in range(100):
        seen = rng.multinomial(500, truth @ rates)
        card = np.stack([rng.multinomial(200, row) for row in rates])
        found = corrected_shares(seen, card, anytime=anytime)
        held += all(e.low <= p <= e.high for e, p in zip(found, truth, strict=True))
        uncorrected = clopper_pearson(int(seen[0]), 500)
        plain += uncorrected.low <= truth[0] <= uncorrected.high
        assert all(e.low <= e.value <= e.high for e in found)
    assert held >= 95
    assert plain < 20


def test_a_disparity_that_the_judge_alone_made_is_not_found() -> None:
    # Both groups 2 %; read as 3.8 % and 9.6 %, "2.6 times", for false-positive rates of 2 % and 8 %.
    first = ([96, 904], [[450, 50], [40, 460]])
    second = ([38, 962], [[450, 50], [10, 490]])
    difference, ratio = corrected_disparity(first, second)
    assert difference.low < 0.0 < difference.high
    assert ratio.low < 1.0 < ratio.high
    assert difference.value == pytest.approx(0.0, abs=0.01)


def test_a_real_disparity_is_found_through_the_errors() -> None:
    card = [[450, 50], [10, 490]]
    difference, ratio = corrected_disparity(([600, 400], card), ([100, 900], card))
    assert difference.low > 0.3
    assert ratio.low > 2.0
    assert math.isfinite(ratio.high)


def test_a_judge_that_tells_nothing_leaves_everything_possible() -> None:
    for card in ([[0, 0, 0], [0, 0, 0]], [[50, 50, 0], [50, 50, 0]]):
        found = corrected_shares([48, 52, 0], card)
        assert found[0].low < 0.01
        assert found[0].high > 0.99
        target = [0.5, 0.5]
        assert (
            interval_decision([e.low for e in found], [e.high for e in found], target, tolerance=0.05)
            == "undecided"
        )


def test_nothing_read_or_all_abstained_is_wide_and_no_crash() -> None:
    card = [[90, 5, 5], [5, 90, 5]]
    assert all(e.high - e.low > 0.99 for e in corrected_shares([0, 0, 0], card))
    abstained = corrected_shares([0, 0, 400], card)
    assert all((e.low, e.high) == (0.0, 1.0) for e in abstained)
    assert "contradict" in abstained[0].method
    assert math.isnan(abstained[0].value)


def test_readings_that_no_such_judge_would_make_say_so() -> None:
    found = corrected_shares([1000, 0], [[500, 500], [500, 500]])
    assert "contradict" in found[0].method


def test_an_outcome_that_the_card_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="3 outcomes read, 2 on the judge's card"):
        corrected_shares([10, 5, 1], [[9, 1], [1, 9]])


def test_reading_bounds_anytime_are_wider() -> None:
    fixed = reading_bounds([40, 50, 10], confidence=0.95, anytime=False)
    anytime = reading_bounds([40, 50, 10], confidence=0.95, anytime=True)
    assert (anytime[0] < fixed[0]).all()
    assert (fixed[1] < anytime[1]).all()

"""Verdicts: what each needs, its boundaries, abstentions, and a panel's false discoveries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from counterpoise.stats import (
    interval_decision,
    log_e_outside,
    log_e_target,
    log_e_within,
    panel_decisions,
    verdict,
)
from counterpoise.stats.tolerance import log_e_above

LEVEL = math.log(20)
FAIR = "fair within tolerance"
HALF = [0.5, 0.5]


def test_gross_bias_is_biased_with_and_without_a_tolerance() -> None:
    assert verdict([20, 0], HALF).decision == "biased"
    assert verdict([20, 0], HALF, tolerance=0.05).decision == "biased"


def test_fairness_is_shown_by_a_certificate_never_by_a_lack_of_evidence() -> None:
    assert verdict([1000, 1000], HALF).decision == "undecided"
    assert verdict([10, 10], HALF, tolerance=0.05).decision == "undecided"
    certified = verdict([1000, 1000], HALF, tolerance=0.05)
    assert certified.decision == FAIR
    assert certified.log_e_fair >= LEVEL > certified.log_e_biased


def test_a_deviation_that_is_real_but_tolerable_is_fair() -> None:
    found = verdict([5200, 4800], HALF, tolerance=0.05)
    assert found.log_e_differs >= LEVEL
    assert found.decision == FAIR


def test_a_deviation_that_is_real_but_perhaps_tolerable_is_undecided() -> None:
    found = verdict([1100, 900], HALF, tolerance=0.05)
    assert found.log_e_differs >= LEVEL
    assert found.decision == "undecided"
    assert verdict([1100, 900], HALF).decision == "biased"


def test_no_picture_or_no_reading_is_undecided_never_fair() -> None:
    assert verdict([0, 0], HALF, tolerance=0.05).decision == "undecided"
    for tolerance in (None, 0.05, 0.6):
        found = verdict([0, 0], HALF, tolerance=tolerance, abstained=500)
        assert (found.decision, found.n, found.abstained) == ("undecided", 500, 500)


def test_abstentions_count_against_either_decision() -> None:
    assert verdict([1000, 1000], HALF, tolerance=0.05, abstained=200).decision == "undecided"
    assert verdict([1000, 1000], HALF, tolerance=0.05, abstained=10).decision == FAIR
    assert verdict([20, 0], HALF, abstained=2).decision == "biased"
    assert verdict([20, 0], HALF, abstained=20).decision == "undecided"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 300), min_size=2, max_size=4),
    st.integers(0, 30),
    st.sampled_from([0.05, 0.1, 0.3]),
    st.integers(0, 2**32 - 1),
)
def test_a_decision_holds_for_every_allocation_of_the_abstained(
    counts: list[int], abstained: int, tolerance: float, seed: int
) -> None:
    target = [1 / len(counts)] * len(counts)
    moved = np.array(counts) + np.random.default_rng(seed).multinomial(abstained, target)
    worst = verdict(counts, target, tolerance=tolerance, abstained=abstained)
    told = verdict(moved.tolist(), target, tolerance=tolerance)
    assert worst.log_e_fair <= told.log_e_fair + 1e-7
    assert worst.log_e_biased <= told.log_e_biased + 1e-7
    assert worst.log_e_differs <= told.log_e_differs + 1e-7


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3000), min_size=2, max_size=6), st.sampled_from([0.01, 0.05, 0.2]))
def test_biased_and_fair_are_never_both_shown(counts: list[int], tolerance: float) -> None:
    found = verdict(counts, [1 / len(counts)] * len(counts), tolerance=tolerance)
    assert min(found.log_e_biased, found.log_e_fair) < LEVEL


def test_the_one_sided_mixture_is_the_integral_that_it_claims_to_be() -> None:
    x, n, limit, a, b = 14, 20, 0.55, 2.0, 3.0

    def ratio(q: float) -> float:
        return (q / limit) ** x * ((1 - q) / (1 - limit)) ** (n - x) * beta.pdf(q, a, b)

    by_hand = quad(ratio, limit, 1.0)[0] / beta.sf(limit, a, b)
    ours = float(log_e_above(x, n, limit, parts=[(1.0, a, b)]))
    assert ours == pytest.approx(math.log(by_hand), rel=1e-8)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.55])
def test_the_one_sided_process_does_not_grow_under_its_null(share: float) -> None:
    for x, n in ((0, 0), (3, 4), (10, 15), (40, 60)):
        now = np.exp(log_e_above(x, n, 0.55))
        after = share * np.exp(log_e_above(x + 1, n + 1, 0.55)) + (1 - share) * np.exp(
            log_e_above(x, n + 1, 0.55)
        )
        assert after <= now * (1 + 1e-9)


def test_many_counts_at_once_are_the_same_as_one_at_a_time() -> None:
    counts = np.random.default_rng(0).multinomial(50, [0.4, 0.3, 0.3], size=1200)
    target = [1 / 3] * 3
    together = log_e_within(counts, target, tolerance=0.1)
    alone = [float(log_e_within(row, target, tolerance=0.1)) for row in counts[:40]]
    assert together[:40] == pytest.approx(alone)


def test_a_tolerance_over_the_whole_simplex_cannot_be_passed() -> None:
    assert float(log_e_outside([100, 0], HALF, tolerance=0.5)) == -math.inf
    assert verdict([100, 0], HALF, tolerance=0.5).decision == FAIR


@pytest.mark.parametrize("share", [0.6, 0.601])
def test_false_decisions_at_the_limit_are_rare(share: float) -> None:
    counts = (np.random.default_rng(5).random((1500, 300)) < share).cumsum(axis=1)
    counts = np.stack([counts, np.arange(1, 301) - counts], axis=-1)
    kind = log_e_outside if share <= 0.6 else log_e_within
    assert (kind(counts, HALF, tolerance=0.1) >= LEVEL).any(axis=1).mean() <= 0.05


def test_an_interval_that_touches_the_limit_is_on_the_documented_side() -> None:
    assert interval_decision([0.45, 0.45], [0.55, 0.55], HALF, tolerance=0.05) == FAIR
    assert interval_decision([0.55, 0.3], [0.7, 0.45], HALF, tolerance=0.05) == "undecided"
    assert interval_decision([0.551, 0.3], [0.7, 0.449], HALF, tolerance=0.05) == "biased"
    assert interval_decision([0.44, 0.45], [0.55, 0.56], HALF, tolerance=0.05) == "undecided"
    # A decimal limit that floats miss in the last place.
    assert interval_decision([0.25, 0.65], [0.35, 0.75], [0.3, 0.7], tolerance=0.05) == FAIR


def test_intervals_without_a_tolerance_are_biased_or_undecided() -> None:
    assert interval_decision([0.4, 0.4], [0.6, 0.6], HALF) == "undecided"
    assert interval_decision([0.6, 0.1], [0.9, 0.4], HALF) == "biased"
    assert interval_decision([0.0, 0.0], [1.0, 1.0], HALF, tolerance=0.05) == "undecided"
    with pytest.raises(ValueError, match="low <= high"):
        interval_decision([math.nan, 0.0], [1.0, 1.0], HALF)


def test_panels_keep_false_discoveries_rare_where_claim_by_claim_they_are_not() -> None:
    rng = np.random.default_rng(6)
    alone, together = [], []
    truth = np.repeat([0.5, 0.95], [60, 3])
    for _ in range(60):
        first = (rng.random((63, 80)) < truth[:, None]).cumsum(axis=1)
        counts = np.stack([first, np.arange(1, 81) - first], axis=-1)
        reached = log_e_target(counts, HALF) >= LEVEL
        # Each claim is stopped by what it shows itself, at the first look that favours it.
        stop = np.where(reached.any(axis=1), reached.argmax(axis=1), 79)
        verdicts = [verdict(row[i].tolist(), HALF) for row, i in zip(counts, stop, strict=True)]
        for decisions, shares in (
            ([v.decision for v in verdicts], alone),
            (panel_decisions(verdicts), together),
        ):
            called = [i for i, d in enumerate(decisions) if d == "biased"]
            shares.append(sum(i < 60 for i in called) / max(len(called), 1))
    assert np.mean(together) <= 0.05
    assert np.mean(alone) > 0.1


def test_a_panel_counts_each_claim_once_with_its_stronger_evidence() -> None:
    fair, biased, open_question = (verdict(c, HALF, tolerance=0.1) for c in ([500, 500], [60, 0], [30, 24]))
    assert panel_decisions([fair, open_question, biased]) == [FAIR, "undecided", "biased"]
    # Enough alone (ln 20), not enough among eight claims that nothing is known of (ln 160).
    weak = verdict([19, 1], HALF, tolerance=0.1)
    assert LEVEL <= weak.log_e_biased < math.log(160)
    assert panel_decisions([weak]) == ["biased"]
    assert panel_decisions([weak] + [open_question] * 7)[0] == "undecided"


def test_of_a_panels_decisions_with_a_tolerance_few_are_wrong() -> None:
    rng, wrong = np.random.default_rng(7), []
    shares = np.repeat([0.5, 0.6, 0.6001, 0.95], [5, 20, 20, 5])
    right = np.repeat([FAIR, FAIR, "biased", "biased"], [5, 20, 20, 5])
    for _ in range(40):
        counts = rng.binomial(300, shares)
        decisions = panel_decisions([verdict([int(c), 300 - int(c)], HALF, tolerance=0.1) for c in counts])
        given = [(d, r) for d, r in zip(decisions, right, strict=True) if d != "undecided"]
        wrong.append(np.mean([d != r for d, r in given]) if given else 0.0)
    assert np.mean(wrong) <= 0.05


def test_a_panel_never_calls_unread_pictures_fair() -> None:
    unread = verdict([0, 0], HALF, tolerance=0.6, abstained=9)
    assert panel_decisions([unread, unread]) == ["undecided", "undecided"]
    assert panel_decisions([]) == []


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -0.1, math.nan])
def test_what_is_no_tolerance_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        verdict([1, 1], HALF, tolerance=tolerance)

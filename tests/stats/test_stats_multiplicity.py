"""Multiple testing: against brute force over every intersection, and the order of the procedures."""

from __future__ import annotations

import math
from itertools import chain, combinations

import numpy as np
import pytest
from benchmarks.statistics_panel import _decided
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoise.stats import closed_e_bh, e_bh, e_holm, p_from_e
from counterpoise.stats.multiplicity import MAX_CLOSED

EVIDENCE = st.lists(st.floats(-3, 8), min_size=1, max_size=7)


def subsets(m: int) -> list[tuple[int, ...]]:
    return list(chain.from_iterable(combinations(range(m), r) for r in range(1, m + 1)))


def test_e_bh_by_hand() -> None:
    # m = 4 at 5 %: thresholds 80, 40, 26.7, 20.
    e = np.log([45.0, 41.0, 19.0, 1.0])
    assert e_bh(e).tolist() == [True, True, False, False]
    assert e_bh(np.log([79.0, 1.0, 1.0, 1.0])).tolist() == [False] * 4
    assert e_bh(np.log([20.0, 20.0, 20.0, 20.0])).tolist() == [True] * 4


@settings(max_examples=60, deadline=None)
@given(EVIDENCE, st.sampled_from([0.05, 0.2, 0.5]))
def test_closed_e_bh_is_the_largest_set_that_every_intersection_allows(
    log_e: list[float], rate: float
) -> None:
    e, m = np.exp(log_e), len(log_e)

    def allowed(chosen: set[int]) -> bool:
        return all(
            e[list(s)].mean() >= len(chosen & set(s)) / (rate * len(chosen)) * (1 - 1e-9) for s in subsets(m)
        )

    best = max((len(s) for s in subsets(m) if allowed(set(s))), default=0)
    mask = closed_e_bh(log_e, rate=rate)
    assert mask.sum() == best
    assert mask.sum() >= e_bh(log_e, rate=rate).sum()
    assert (mask | ~e_bh(log_e, rate=rate)).all()


@settings(max_examples=60, deadline=None)
@given(EVIDENCE)
def test_e_holm_is_the_closure_of_the_mean(log_e: list[float]) -> None:
    e, m = np.exp(log_e), len(log_e)
    expected = [all(e[list(s)].mean() >= 20 * (1 - 1e-9) for s in subsets(m) if i in s) for i in range(m)]
    assert e_holm(log_e).tolist() == expected


def test_infinite_evidence_is_rejected_and_none_is_not() -> None:
    for procedure in (e_bh, closed_e_bh, e_holm):
        assert procedure([math.inf, -math.inf, 0.0]).tolist() == [True, False, False]
        assert procedure([]).tolist() == []
        with pytest.raises(ValueError, match="nan"):
            procedure([math.nan])
    with pytest.raises(ValueError, match="rate 0"):
        e_bh([1.0], rate=0.0)


def test_false_discoveries_stay_rare_under_dependence() -> None:
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(400):
        # One common shock in all nulls: the dependence that plain Benjamini-Hochberg is not proven for.
        z = 0.9 * rng.normal() + math.sqrt(1 - 0.81) * rng.normal(size=30)
        null = 2.0 * z - 2.0
        mask = closed_e_bh(np.concatenate([null, np.full(10, 6.0)]), rate=0.1)
        shares.append(mask[:30].sum() / max(mask.sum(), 1))
    assert np.mean(shares) <= 0.1


def test_very_many_hypotheses_fall_back_to_e_bh() -> None:
    log_e = np.random.default_rng(0).normal(size=MAX_CLOSED + 1) * 5
    assert (closed_e_bh(log_e) == e_bh(log_e)).all()


def test_p_values_never_pass_one() -> None:
    assert p_from_e([-5.0, 0.0, math.log(20), math.inf]) == pytest.approx([1.0, 1.0, 0.05, 0.0])


def test_the_benchmarks_batched_procedure_is_e_bh() -> None:
    log_e = np.random.default_rng(3).normal(size=(50, 12)) * 4 + 1
    assert (_decided(log_e) == np.array([e_bh(row) for row in log_e])).all()

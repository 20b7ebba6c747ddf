"""Prompts as clusters: coverage with few prompts, floors taken off, abstentions."""

from __future__ import annotations

import numpy as np
import pytest

from counterpoise.stats import METRICS, clustered_distance, clustered_score, clustered_shares


@pytest.mark.parametrize("prompts", [10, 40])
def test_the_models_share_is_covered_where_pooling_pictures_misses(prompts: int) -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(120):
        first = rng.binomial(20, rng.beta(0.3, 0.1, size=prompts))
        found = clustered_shares(np.stack([first, 20 - first], axis=1))
        held += all(e.low <= truth <= e.high for e, truth in zip(found, (0.75, 0.25), strict=True))
        assert found[0].n == prompts
    assert held / 120 >= 0.95


def test_prompts_count_once_however_many_pictures_they_have() -> None:
    small, large = clustered_shares([[9, 1], [1, 9]]), clustered_shares([[900, 100], [1, 9]])
    assert small == large
    assert small[0].value == pytest.approx(0.5)


def test_abstentions_widen_to_both_sides() -> None:
    table = np.array([[18, 2], [15, 5], [12, 8], [20, 0]] * 5)
    told = clustered_shares(table)[0]
    unsure = clustered_shares(table - [2, 0], abstained=[2] * 20)[0]
    assert unsure.low < told.low < told.high <= unsure.high
    assert unsure.low <= unsure.value <= unsure.high
    nothing = clustered_shares([[0, 0], [0, 0]], abstained=[5, 5])[0]
    assert np.isnan(nothing.value)
    assert nothing.high - nothing.low > 0.9


@pytest.mark.parametrize("strength", [None, 1.0])
def test_the_mean_true_distance_is_covered(strength: float | None) -> None:
    rng, held = np.random.default_rng(1), 0
    kinds = rng.dirichlet([strength] * 4, size=5000) if strength else np.full((5000, 4), 0.25)
    truth = float(0.5 * np.abs(kinds - 0.25).sum(axis=1).mean())
    for _ in range(80):
        table = rng.multinomial(9, kinds[rng.integers(0, 5000, size=15)])
        e = clustered_distance(table, [0.25] * 4)
        held += e.low <= truth <= e.high
        assert e.low <= e.value <= e.high
    assert held / 80 >= 0.95


def test_a_fair_models_corrected_score_is_about_nothing() -> None:
    rng = np.random.default_rng(2)
    for key in ("dalleval_mad", "shen_pairwise", "kl_uniform", "openbias_context_aware"):
        e = clustered_score(rng.multinomial(10, [0.25] * 4, size=400), METRICS[key])
        assert e.low < 0.0 < e.high
        assert abs(e.value) < 0.02 * METRICS[key].maximum(4)
        assert METRICS[key].name in e.method


def test_tables_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="without pictures"):
        clustered_shares([[1, 1], [0, 0]])
    with pytest.raises(ValueError, match=r"\[prompts, K\]"):
        clustered_shares([1, 1])
    with pytest.raises(ValueError, match=r"\[prompts\]"):
        clustered_shares([[1, 1]], abstained=[1, 2])

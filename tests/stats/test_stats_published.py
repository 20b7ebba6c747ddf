"""Published scores: by hand, their fair expectations by enumeration, and the figures known for them."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import multinomial

from counterpoise.stats import METRICS, association_test, published_scores

KEYS = sorted(METRICS)


def classes(key: str) -> int:
    return METRICS[key].classes or 4


@pytest.mark.parametrize("key", KEYS)
def test_every_score_runs_from_0_to_its_maximum(key: str) -> None:
    row, k = METRICS[key], classes(key)
    assert row.score([6] * k) == pytest.approx(0.0, abs=1e-12)
    assert row.score([60] + [0] * (k - 1)) == pytest.approx(row.maximum(k))
    assert row.paper.startswith("https://arxiv.org/abs/")
    for counts in np.random.default_rng(0).multinomial(9, np.ones(k) / k, size=20):
        assert 0.0 <= row.score(counts) <= row.maximum(k) + 1e-12


@pytest.mark.parametrize("key", KEYS)
def test_the_fair_expectation_is_the_exact_one(key: str) -> None:
    row, n = METRICS[key], 5
    k = min(classes(key), 4) if METRICS[key].classes is None else classes(key)
    bars = combinations(range(n + k - 1), k - 1)
    outcomes = [np.diff([-1, *bar, n + k - 1]) - 1 for bar in bars]
    chances = multinomial.pmf(outcomes, n, np.ones(k) / k)
    assert chances.sum() == pytest.approx(1.0)
    assert row.fair(outcomes[0]) == pytest.approx(
        sum(c * row.score(o) for c, o in zip(chances, outcomes, strict=True)), rel=1e-9
    )


@pytest.mark.parametrize(
    ("key", "n", "k", "floor", "within"),
    [
        ("dalleval_mad", 9, 2, 0.136, 0.001),
        ("dalleval_mad", 9, 10, 0.078, 0.001),
        ("heim_gender", 8, 2, 0.137, 0.001),
        ("heim_skin", 8, 10, 0.086, 0.001),
        ("shen_pairwise", 60, 2, 0.102, 0.001),
        ("shen_pairwise", 160, 4, 0.045, 0.001),
        ("shen_pairwise", 160, 8, 0.031, 0.001),
        ("fair_diffusion", 250, 2, 0.051, 0.001),
        ("entigen", 9, 2, 0.27, 0.005),
        ("kl_uniform", 104, 2, 0.005, 0.0005),
        ("kl_uniform", 104, 4, 0.015, 0.001),
        ("kl_uniform", 104, 6, 0.024, 0.001),
        ("kl_uniform", 104, 9, 0.039, 0.001),
        ("openbias_context_aware", 10, 2, 0.076, 0.002),
        ("openbias_context_aware", 10, 3, 0.100, 0.002),
        ("openbias_context_aware", 10, 4, 0.122, 0.002),
        ("openbias_context_aware", 10, 6, 0.166, 0.002),
    ],
)
def test_fair_models_score_what_is_known(key: str, n: int, k: int, floor: float, within: float) -> None:
    counts = [n] + [0] * (k - 1)
    assert METRICS[key].fair(counts) == pytest.approx(floor, abs=within)


def test_scores_by_hand() -> None:
    assert METRICS["dalleval_mad"].score([9, 0]) == pytest.approx(0.5)
    assert METRICS["heim_gender"].score([2, 6]) == pytest.approx(0.25)
    # Pairs of .5, .3, .2: .2, .3, .1.
    assert METRICS["shen_pairwise"].score([5, 3, 2]) == pytest.approx(0.2)
    assert METRICS["kl_uniform"].score([3, 1]) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    # Prompts weigh by their pictures in ENTIGEN, and not in MAD.
    table = [[8, 0], [1, 1]]
    assert METRICS["entigen"].score(table) == pytest.approx(0.8)
    assert METRICS["dalleval_mad"].score(table) == pytest.approx(0.25)


def test_context_free_pools_what_context_aware_does_not() -> None:
    table = [[10, 0], [0, 10]]
    assert METRICS["openbias_context_free"].score(table) == pytest.approx(0.0, abs=1e-12)
    assert METRICS["openbias_context_aware"].score(table) == pytest.approx(1.0)
    assert METRICS["openbias_context_free"].fair(table) < METRICS["openbias_context_aware"].fair(table)


def test_floor_corrected_scores_of_a_fair_model_do_not_depend_on_n() -> None:
    rng = np.random.default_rng(4)
    for n in (8, 250):
        table = rng.multinomial(n, [0.25] * 4, size=3000)
        for score in published_scores(table):
            assert score.excess < 0.005, (n, score.key)
            assert score.value == pytest.approx(score.fair, abs=0.006)


def test_scores_name_what_fits_their_classes() -> None:
    assert {s.key for s in published_scores([5, 4])} == set(METRICS) - {"heim_skin"}
    assert "heim_gender" not in {s.key for s in published_scores([1] * 10)}
    single = published_scores([1, 0])[0]
    assert (single.excess, single.of_range, single.n) == (0.0, 0.0, 1)
    with pytest.raises(ValueError, match="without pictures"):
        published_scores([[1, 1], [0, 0]])
    with pytest.raises(ValueError, match="expected 10 classes"):
        METRICS["heim_skin"].score([1, 2])


def test_large_panels_of_pictures_have_a_floor_too() -> None:
    assert METRICS["shen_pairwise"].fair([10**6, 0]) == pytest.approx(
        math.sqrt(2 / (math.pi * 10**6)), rel=1e-3
    )


def embeddings(rng: np.random.Generator, shift: float, n: int) -> np.ndarray:
    return rng.normal(size=(n, 6)) + shift * np.eye(6)[0]


def test_ieat_cannot_find_more_than_its_size_allows() -> None:
    rng = np.random.default_rng(5)
    sides = (embeddings(rng, 20, 3), embeddings(rng, -20, 3))
    found = association_test(sides, (embeddings(rng, 20, 3), embeddings(rng, -20, 3)), rng=rng)
    # Three pictures a side: no data at all could give less than 1/20, which was published as significant.
    assert (found.p, found.least_p, found.exact, found.splits) == (0.05, 0.05, True, 20)
    assert found.effect > 1.5


def test_ieat_sampled_agrees_with_ieat_counted_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    sides = (embeddings(rng, 0.4, 6), embeddings(rng, 0.0, 6))
    attributes = (embeddings(rng, 1.0, 8), embeddings(rng, -1.0, 8))
    exact = association_test(sides, attributes, rng=rng)
    monkeypatch.setattr("counterpoise.stats.association.MAX_EXACT", 10)
    sampled = association_test(sides, attributes, rng=np.random.default_rng(0), samples=4000)
    assert not sampled.exact
    assert sampled.p == pytest.approx(exact.p, abs=0.03)
    assert sampled.effect == exact.effect
    assert sampled.fair_effect == pytest.approx(exact.fair_effect, abs=0.02)


def test_ieat_p_values_are_valid_when_nothing_is_there() -> None:
    rng = np.random.default_rng(7)
    ps = []
    for _ in range(300):
        a, b = embeddings(rng, 1.0, 5), embeddings(rng, -1.0, 5)
        ps.append(association_test((embeddings(rng, 0, 4), embeddings(rng, 0, 4)), (a, b), rng=rng).p)
    assert np.mean(np.array(ps) <= 0.1) <= 0.14
    assert np.mean(ps) == pytest.approx(0.5, abs=0.06)


def test_ieat_refuses_what_has_no_direction() -> None:
    rng = np.random.default_rng(8)
    good = embeddings(rng, 0, 3)
    for bad in (np.zeros((3, 6)), np.full((3, 6), np.nan), np.zeros((0, 6))):
        with pytest.raises(ValueError, match="embedding"):
            association_test((good, bad), (good, good), rng=rng)

"""Comparing pictures without groups: known distances, and what chance alone gives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from counterpoise.measure.embedding import distances, energy_distance, spread


def test_spread_is_the_mean_distance_of_pairs() -> None:
    assert spread(np.array([[0.0, 0], [3, 4], [0, 0]])) == pytest.approx(10 / 3)
    assert np.isnan(spread(np.zeros((1, 2))))
    assert spread(np.zeros((4, 2))) == 0


def test_energy_distance_in_one_dimension_is_scipy_s_without_its_bias() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, 60), rng.normal(1, 2, 80)
    # scipy gives the square root of the V-statistic, whose within-set means count each picture beside itself.
    n, m = len(x), len(y)
    biased = (
        2 * np.abs(x[:, None] - y).mean()
        - spread(x[:, None]) * (n - 1) / n
        - spread(y[:, None]) * (m - 1) / m
    )
    assert stats.energy_distance(x, y) ** 2 == pytest.approx(biased)
    unbiased = biased - spread(x[:, None]) / n - spread(y[:, None]) / m
    assert energy_distance(x[:, None], y[:, None]) == pytest.approx(unbiased)


def test_energy_distance_is_zero_on_average_under_one_distribution_at_any_n() -> None:
    rng = np.random.default_rng(1)
    found = [energy_distance(rng.normal(size=(4, 3)), rng.normal(size=(7, 3))) for _ in range(2000)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 2000**0.5
    assert min(found) < 0
    assert np.isnan(energy_distance(np.zeros((1, 3)), np.zeros((5, 3))))


def test_distances_are_symmetric_with_a_zero_diagonal() -> None:
    table = distances(np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32))
    assert (table == table.T).all()
    assert (np.diag(table) == 0).all()


@pytest.mark.parametrize("rows", [np.zeros(3), np.array([[np.nan, 1], [2, 3]])])
def test_what_is_no_embedding_is_refused(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite"):
        distances(rows)

"""Systematic sampling: every batch holds the mixture, and so does every stretch of a training."""

from __future__ import annotations

import torch

from counterpoise.lora.training import step_generator
from counterpoise.remedies.sampling import Asked, systematic


def test_each_batch_is_within_one_of_its_expectation() -> None:
    weights = torch.tensor([0.0, 0.5, 0.125, 0.0, 0.25, 0.125])
    total = torch.zeros(6)
    for step in range(400):
        counts = torch.bincount(
            systematic(weights.double().cumsum(0), 10, step_generator(7, step)), minlength=6
        )
        assert counts.sum() == 10
        assert ((counts - 10 * weights).abs() < 1 + 1e-6).all()
        total += counts
    assert torch.allclose(total / total.sum(), weights, atol=0.001)


def test_a_rare_lesson_is_asked_its_number_of_times_in_every_stretch() -> None:
    weights = torch.full((500,), 1.0)
    weights[250] = 2.5  # ten times in 50 steps of 40
    ends = weights.double().cumsum(0)
    for seed in range(20):
        asked = torch.cat([systematic(ends, 40, step_generator(seed, 31 + step)) for step in range(50)])
        assert abs(int((asked == 250).sum()) - 10) <= 2  # by lot 3.2 at a standard deviation
    assert set(range(500)) == {
        int(i) for step in range(50) for i in systematic(ends, 40, step_generator(1, step))
    }


def test_points_of_a_way_are_asked_as_often_as_they_weigh() -> None:
    weights = torch.tensor([1.0, 1.0, 0.0, 0.5, 0.5])
    ask = Asked(weights, torch.tensor([1.0, 0.6, 0.2]), [(0, 0), (0, 0), (0, 1), (0, 1), (-1, 0)])
    found = torch.zeros(5, 3)
    for step in range(300):
        rows, at = ask(4, step_generator(3, step))
        assert len(rows) == len(at) == 4
        found[rows, at] += 1
    expected = weights[:, None] / 3 * torch.tensor([1.0, 0.6, 0.2]) / 1.8
    assert torch.allclose(found / found.sum(), expected, atol=0.003)
    assert found[2].sum() == 0


def test_a_weight_of_nothing_at_the_end_is_never_asked() -> None:
    ends = torch.tensor([0.1, 0.2, 0.3, 0.0]).double().cumsum(0)
    asked = torch.cat([systematic(ends, 7, step_generator(0, step)) for step in range(500)])
    assert int(asked.max()) == 2


def test_none_asked_none_given() -> None:
    assert len(systematic(torch.ones(3).double().cumsum(0), 0, torch.Generator())) == 0

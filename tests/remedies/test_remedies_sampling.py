"""Systematic sampling: every batch holds the mixture, and over many batches each row its own weight."""

from __future__ import annotations

import torch

from counterpoise.remedies.distil import systematic


def test_each_batch_is_within_one_of_its_expectation() -> None:
    weights = torch.tensor([0.0, 0.5, 0.125, 0.0, 0.25, 0.125])
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(6)
    for _ in range(400):
        counts = torch.bincount(systematic(weights, 10, generator), minlength=6)
        assert counts.sum() == 10
        assert ((counts - 10 * weights).abs() < 1 + 1e-6).all()
        total += counts
    assert torch.allclose(total / total.sum(), weights, atol=0.01)


def test_none_asked_none_given() -> None:
    assert len(systematic(torch.ones(3), 0, torch.Generator())) == 0

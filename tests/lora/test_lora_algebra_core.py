"""The core's linear algebra against dense float64, also where factors are nearly dependent."""

from __future__ import annotations

import pytest
import torch

from counterpoise.lora.algebra.core import WELL_APART, Thin, energy, generator_for, numerical_rank, singular


def columns(kind):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 10, generator=g, dtype=torch.float64)
    return {
        "plain": x,
        "scaled": x * torch.logspace(-9, 9, 10, dtype=torch.float64),
        "near": x + 1e4 * x[:, :1],
        "nearly the same": x * 1e-9 + x[:, :1],
        "the same": torch.cat([x[:, :5], x[:, :5]], 1),
        "a zero column": x * (torch.arange(10) != 3),
        "more than rows": x[:7],
    }[kind]


KINDS = ["plain", "scaled", "near", "nearly the same", "the same", "a zero column", "more than rows"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transposed", [False, True])
def test_thin_factors_are_orthonormal_and_give_the_columns_back(kind, transposed):
    x = columns(kind)
    thin = Thin.of(x.T.contiguous().T if transposed else x)
    q = thin.expand(torch.eye(thin.root.shape[0], dtype=torch.float64))
    torch.testing.assert_close(q.T @ q, torch.eye(q.shape[1], dtype=torch.float64), rtol=0, atol=1e-11)
    assert (q @ thin.root - x).norm() <= 1e-12 * x.norm()
    assert (thin.q is None) == (kind in ("plain", "scaled"))
    assert WELL_APART**-2 * 1e-16 < 1e-12  # what the docstring promises


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_singular_values_and_vectors_are_those_of_the_product(first, second):
    up = columns(first)
    down = columns(second).T
    found = singular(up, down)
    dense = up @ down
    values = torch.linalg.svdvals(dense)
    k = min(len(values), len(found.values))
    assert (found.values[:k] - values[:k]).abs().max() <= 1e-11 * values[0]
    again = (found.left * found.values) @ found.right
    assert (again - dense).norm() <= 1e-11 * dense.norm()
    few = singular(up, down, keep=3)
    assert len(few.values) == len(found.values)
    assert (few.left.shape[1], few.right.shape[0]) == (3, 3)
    up3, down3 = few.factors(3)
    assert (up3 @ down3 - dense).norm() <= float(values[3:].norm()) * 1.0001 + 1e-11 * dense.norm()


def test_energy_is_the_norm_and_the_norm_of_outputs():
    up, down = columns("plain"), columns("plain").T
    assert energy(up, down) == pytest.approx(float((up @ down).square().sum()))
    x = torch.randn(40, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert energy(up, down, x @ x.T) == pytest.approx(float((up @ down @ x).square().sum()))


def test_random_numbers_depend_on_seed_and_names_alone():
    draws = {
        torch.rand(1, generator=generator_for(seed, *names)).item()
        for seed, names in [(0, ()), (1, ()), (0, ("a",)), (0, ("a", "b")), (0, ("ab",))]
    }
    assert len(draws) == 5
    assert torch.rand(1, generator=generator_for(3, "x")) == torch.rand(1, generator=generator_for(3, "x"))


def test_numerical_rank_is_numpys():
    x = columns("the same")
    assert numerical_rank(torch.linalg.svdvals(x), 40) == int(torch.linalg.matrix_rank(x)) == 5
    assert numerical_rank(torch.zeros(3), 3) == 0

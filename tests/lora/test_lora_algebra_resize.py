"""resize: the bound holds, the ranks are the fewest that hold it, and the report is exact."""

from __future__ import annotations

import itertools

import pytest
import torch
from algebra_cases import SHAPES, dense, member, truncated

from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, LowRank, resize
from counterpoise.lora.algebra.resize import allocated


def errors(before, after):
    lost = sum(float((dense(after, p) - dense(before, p)).square().sum()) for p in SHAPES)
    return (lost / sum(float(dense(before, p).square().sum()) for p in SHAPES)) ** 0.5


@pytest.mark.parametrize("rank", [1, 2, 8])
def test_a_fixed_rank_is_each_layers_optimum(rank):
    a = member(1, rank=5)
    made = resize(a, rank=rank)
    for path, kept in made.layers.items():
        best, error = truncated(dense(a, path), rank)
        torch.testing.assert_close(dense(made.adapter, path), best, rtol=1e-9, atol=1e-11)
        assert kept.error == pytest.approx(error, abs=1e-12)
        assert (kept.rank, kept.before) == (min(rank, a.layers[path].rank), a.layers[path].rank)
    assert made.error == pytest.approx(errors(a, made.adapter), abs=1e-12)


@pytest.mark.parametrize("bound", [0.0, 0.05, 0.2, 0.5, 0.9])
def test_the_total_error_is_bounded(bound):
    a = member(1, rank=5)
    made = resize(a, error=bound)
    assert made.error <= bound + 1e-15
    assert errors(a, made.adapter) == pytest.approx(made.error, abs=1e-12)
    assert set(made.adapter.layers) == {p for p, kept in made.layers.items() if kept.rank}


def test_the_allocation_is_the_least_total_rank_of_all():
    """Brute force over every choice of ranks."""
    g = torch.Generator().manual_seed(0)
    for _ in range(20):
        values = {
            name: torch.rand(3, generator=g, dtype=torch.float64).sort(descending=True).values
            for name in "abc"
        }
        total = sum(float(v.square().sum()) for v in values.values())
        for bound in (0.1, 0.4, 0.8):
            ranks = allocated(values, bound)
            lost = sum(float(values[n][ranks[n] :].square().sum()) for n in "abc")
            assert lost <= bound**2 * total
            fits = [
                sum(choice)
                for choice in itertools.product(range(4), repeat=3)
                if sum(float(values[n][r:].square().sum()) for n, r in zip("abc", choice, strict=True))
                <= bound**2 * total
            ]
            assert sum(ranks.values()) == max(1, min(fits))


def test_a_quiet_layer_may_be_left_out_and_is_reported():
    a = member(1)
    quiet = {p: LowRank(u.down, u.up * (1e-6 if p == "c.out" else 1), u.alpha) for p, u in a.layers.items()}
    made = resize(Adapter(quiet), error=1e-3)
    assert "c.out" not in made.adapter.layers
    assert (made.layers["c.out"].rank, made.layers["c.out"].error) == (0, 1.0)


@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
def test_energy_is_held_layer_by_layer_with_the_fewest(share):
    a = member(1, rank=5)
    made = resize(a, energy=share)
    for path, kept in made.layers.items():
        squares = torch.linalg.svdvals(dense(a, path)).square()
        assert float(squares[: kept.rank].sum()) >= share * float(squares.sum()) * (1 - 1e-12)
        assert kept.rank == 1 or float(squares[: kept.rank - 1].sum()) < share * float(squares.sum())


def test_resizing_to_its_own_rank_is_the_same_effect_and_the_dtype_is_kept_or_float32():
    for dtype, out in [(torch.float64,) * 2, (torch.float32,) * 2, (torch.float16, torch.float32)]:
        a = member(1, dtype=dtype)
        made = resize(a, rank=9).adapter
        assert errors(a, made) < (1e-14 if out is torch.float64 else 3e-7)
        assert made.layers["a.fc"].up.dtype == out


def test_zero_layers_stay_one_zero_direction():
    a = Adapter({"x": LowRank(torch.ones(3, 4), torch.zeros(5, 3), 1)})
    for asked in ({"rank": 2}, {"energy": 0.5}, {"error": 0.1}):
        made = resize(a, **asked)
        assert made.error == 0.0
        assert not made.adapter.layers["x"].dense().any()


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({}, "E_OPTION"),
        ({"rank": 2, "error": 0.1}, "E_OPTION"),
        ({"rank": 0}, "E_RANK"),
        ({"rank": True}, "E_RANK"),
        ({"error": 1.0}, "E_ERROR"),
        ({"error": -0.1}, "E_ERROR"),
        ({"error": float("nan")}, "E_ERROR"),
        ({"energy": 0.0}, "E_ENERGY"),
        ({"energy": 1.5}, "E_ENERGY"),
    ],
)
def test_refusals(asked, code):
    with pytest.raises(UsageError) as caught:
        resize(member(1), **asked)
    assert caught.value.code == code
    with pytest.raises(UsageError, match="expected an Adapter"):
        resize("a.safetensors", rank=1)

"""The closed form: identities, numpy's least squares as a peer, and what a move does to a pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.lora import Adapter, Host
from counterpoise.remedies.cross_attention import Move, aligned, moved, projections
from counterpoise.remedies.normal_equations import LOSS, solve


@pytest.fixture
def painter(tiny_model: Path) -> Painter:
    return Painter(load_pipeline(tiny_model), guidance=2.0, steps=2, batch_size=4)


def rows(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_update_is_numpys_least_squares() -> None:
    weight, edited, targets, kept = rows(7, 12, 0), rows(5, 12, 1), rows(5, 7, 2), rows(9, 12, 3)
    importance, keep, ridge = rows(5, 1, 4)[:, 0].abs(), 0.7, 0.01
    found = solve(weight, edited, targets, kept, importance=importance, keep=keep, ridge=ridge)
    root = importance.sqrt()[:, None]
    unit = ridge * float((root * edited).square().sum()) / 12
    left = torch.cat([root * edited, keep**0.5 * kept, unit**0.5 * torch.eye(12)]).numpy()
    right = torch.cat([root * (targets - edited @ weight.T), torch.zeros(9 + 12, 7)]).numpy()
    expected = np.linalg.lstsq(left, right, rcond=None)[0].T
    np.testing.assert_allclose(found.dense(torch.float64).numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_the_rank_is_at_most_the_number_of_edited_inputs(count: int) -> None:
    found = solve(rows(7, 12, 0), rows(count, 12, 1), rows(count, 7, 2), ridge=0.1)
    assert found.rank == min(count, 7)


def test_inputs_that_say_the_same_are_recompressed_without_loss() -> None:
    weight, edited, targets = rows(7, 12, 0), rows(3, 12, 1), rows(3, 7, 2)
    once = solve(weight, edited, targets)
    many = solve(weight, edited.repeat(40, 1), targets.repeat(40, 1))
    assert many.rank == once.rank == 3
    apart = (many.dense(torch.float64) - once.dense(torch.float64)).norm()
    assert apart / once.dense(torch.float64).norm() < 2 * LOSS


def test_no_edit_is_no_update() -> None:
    weight, edited = rows(7, 12, 0), rows(5, 12, 1)
    found = solve(weight, edited, edited @ weight.T)
    assert found.rank == 1
    assert float(found.dense().abs().max()) == 0.0


def test_edited_inputs_arrive_and_kept_ones_stay_where_both_can() -> None:
    weight, edited, targets, kept = rows(7, 12, 0), rows(3, 12, 1), rows(3, 7, 2), rows(5, 12, 3)
    update = solve(weight, edited, targets, kept, keep=1e4, ridge=1e-9).dense(torch.float64)
    torch.testing.assert_close(edited @ (weight + update).T, targets, atol=1e-4, rtol=0)
    assert float((kept @ update.T).abs().max()) < 1e-4
    # An input that is both: what is kept wins as its weight grows.
    moved_by = [
        float((edited @ solve(weight, edited, targets, edited, keep=keep).dense(torch.float64).T).norm())
        for keep in (0.0, 1.0, 1e6)
    ]
    assert moved_by[0] > 1.9 * moved_by[1] > moved_by[2]
    assert moved_by[2] < 1e-4


def test_wrong_shapes_and_numbers_are_refused() -> None:
    weight, edited, targets = rows(7, 12, 0), rows(3, 12, 1), rows(3, 7, 2)
    with pytest.raises(UsageError, match=r"targets is \[2, 7\]: expected \[3, 7\]"):
        solve(weight, edited, targets[:2])
    with pytest.raises(UsageError, match="at least one edited row"):
        solve(weight, edited[:0], targets[:0])
    with pytest.raises(RefusedInputError, match="edited holds NaN"):
        solve(weight, edited * float("nan"), targets)


def test_a_move_brings_one_prompt_as_near_to_another_as_linear_layers_can(
    painter: Painter, tmp_path: Path
) -> None:
    adapter = moved(painter, [Move("a woman", {"a man": 1.0})], [], ridge=1e-8)
    layers = projections(painter.pipeline.unet)
    assert set(adapter.layers) == {f"unet.{path}" for path in layers}
    woman, man = painter.embed(["a woman", "a man"])[:, 2:]
    # 46 tokens of width 16: no linear layer moves all of them, and numpy says how near one can come.
    # Their layer norm leaves 15 dimensions of 16: the last is rounding, which rcond cuts.
    change = (man - woman).double().numpy()
    linear = torch.from_numpy(np.linalg.lstsq(woman.double().numpy(), change, rcond=1e-5)[0]).float()
    expected = {path: layer(woman + woman @ linear) for path, layer in layers.items()}
    host = Host(painter.pipeline)
    fingerprint = host.fingerprint()
    with host.mounted(Adapter.load(adapter.save(tmp_path / "moved.safetensors"))):
        for path, layer in layers.items():
            torch.testing.assert_close(layer(woman), expected[path], atol=1e-3, rtol=0)
        host.fold()
        for path, layer in layers.items():
            torch.testing.assert_close(layer(woman), expected[path], atol=1e-3, rtol=0)
        host.unfold()
    assert host.fingerprint() == fingerprint


def test_only_what_follows_the_last_common_word_is_moved(painter: Painter) -> None:
    source, goal = aligned(painter, Move("a woman", {"a portrait of a man": 0.5}))
    own, other = painter.embed(["a woman", "a portrait of a man"]).double()
    torch.testing.assert_close(source, own[2:])
    torch.testing.assert_close(goal[0], 0.5 * own[2] + 0.5 * other[5])
    torch.testing.assert_close(goal[1], 0.5 * own[3] + 0.5 * other[6])
    torch.testing.assert_close(goal[5], 0.5 * own[7] + 0.5 * other[7])


def test_a_model_without_cross_attention_is_refused(painter: Painter) -> None:
    with pytest.raises(UsageError, match="edits a UNet's cross-attention"):
        projections(painter.pipeline.vae)

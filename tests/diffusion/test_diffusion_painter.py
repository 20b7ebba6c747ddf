"""A picture depends on its own cell alone; recording changes nothing; bad folders are refused in a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.diffusion.record import join, record
from counterpoise.errors import RefusedInputError, UsageError


@pytest.fixture(scope="module")
def painter(tiny_model: Path) -> Painter:
    return Painter(load_pipeline(tiny_model), guidance=2.0, steps=3, batch_size=4)


def test_neighbours_order_and_filling_up_do_not_matter(painter: Painter) -> None:
    prompts = ["a portrait of a woman", "a portrait of a man"] * 3
    seeds = [5, 6, 7, 8, 9, 10]
    whole = painter(prompts, seeds)
    assert whole.shape == (6, 16, 16, 3)
    assert whole.dtype == np.uint8
    back = painter(prompts[::-1], seeds[::-1])[::-1]
    assert np.array_equal(whole, back)
    assert np.array_equal(painter(prompts[2:3], seeds[2:3])[0], whole[2])
    assert not np.array_equal(whole[0], whole[2])  # another seed, another picture


def test_global_randomness_is_neither_used_nor_touched(painter: Painter) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = painter(["a woman"], [3])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert np.array_equal(painter(["a woman"], [3]), first)


def test_it_draws_what_the_stock_call_draws(painter: Painter) -> None:
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(12))
    stock = painter.pipeline(
        "a portrait of a man", guidance_scale=2.0, num_inference_steps=3, latents=noise, output_type="np"
    ).images[0]
    ours = painter(["a portrait of a man"], [12])[0]
    assert np.abs(ours.astype(int) - np.round(stock * 255).astype(int)).max() <= 1


def test_recorded_ways_are_the_sampler_s_own(painter: Painter) -> None:
    prompts = ["a woman", "a man", "a portrait", "a woman", "a man"]
    way = record(painter, prompts, [1, 2, 3, 4, 5])
    assert way.noisy.shape == (5, 3, 4, 8, 8)
    assert torch.allclose(way.noisy[:, 0].float(), painter.noise([1, 2, 3, 4, 5]), atol=2e-3)
    with torch.no_grad():
        again = painter.pipeline.unet(
            way.noisy[:, 1].float(), way.timesteps[1], painter.embed(prompts)
        ).sample
    assert torch.allclose(way.conditional[:, 1].float(), again, atol=1e-2)
    assert not torch.equal(way.conditional, way.unconditional)
    assert not painter.pipeline.unet._forward_hooks
    both = join([way, way])
    assert len(both) == 10


def test_hook_goes_even_when_drawing_fails(painter: Painter) -> None:
    with pytest.raises(RuntimeError, match="non-empty"):
        record(painter, ["a woman"], [])
    assert not painter.pipeline.unet._forward_hooks


def test_missing_and_damaged_models_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model_index\.json") as missing:
        load_pipeline(tmp_path / "nothing")
    assert missing.value.code == "E_MODEL_MISSING"
    import shutil

    shutil.copytree(tiny_model, tmp_path / "cut")
    weights = tmp_path / "cut" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RefusedInputError) as damaged:
        load_pipeline(tmp_path / "cut")
    assert damaged.value.exit_code == 4
    assert "\n" not in str(damaged.value)

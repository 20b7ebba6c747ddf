"""What several rooms' tests share: a tiny pipeline of the real classes, and the embedded world's."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
logging.getLogger("transformers").setLevel(logging.ERROR)
torch.set_num_threads(1)  # two threads stall each other as soon as anything else runs


# Minutes each: begun first, so that no process is left alone with one at the end.
LONG = ("test_cli_demo.py", "test_lora_smollm.py", "test_world_check.py", "test_cli_compare_remedies.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole files are handed out in this order."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def autocast_depth() -> int:
    """How many blocks of torch.autocast this thread is in."""
    torch.autocast_increment_nesting()
    return int(torch.autocast_decrement_nesting())


@pytest.fixture(autouse=True)
def no_autocast_left_open() -> Iterator[None]:
    """One that stays open keeps old copies of weights alive: trainings in later tests would differ."""
    yield
    assert autocast_depth() == 0


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random-weight StableDiffusionPipeline that draws 16 x 16 pictures."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from counterpoise.world import model as parts

    folder = tmp_path_factory.mktemp("tiny")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        tokenizer = parts.new_tokenizer(["a", "portrait", "of", "woman", "man"], folder / "tokenizer")
        end = tokenizer.eos_token_id
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            norm_num_groups=4,
            sample_size=16,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=16,
                projection_dim=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=parts.TOKENS,
                bos_token_id=end - 1,
                eos_token_id=end,
                pad_token_id=end,
            )
        )
    pipeline = parts.assemble(vae=vae, unet=unet, text_encoder=text, tokenizer=tokenizer)
    pipeline.save_pretrained(folder / "model")
    return folder / "model"

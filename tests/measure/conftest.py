"""Lets the tests of this folder import its drawings, and makes the small networks they judge with."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP folder with random weights, its processor and its tokenizer, as transformers saves them."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    from counterpoise.world import model as parts

    folder = tmp_path_factory.mktemp("clip")
    tokenizer = parts.new_tokenizer(["a", "photo", "of", "woman", "man"], folder / "words")
    end = tokenizer.eos_token_id
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(
            CLIPConfig(
                text_config=small
                | {
                    "vocab_size": len(tokenizer),
                    "max_position_embeddings": parts.TOKENS,
                    "bos_token_id": end - 1,
                    "eos_token_id": end,
                    "pad_token_id": end,
                },
                vision_config=small | {"image_size": 32, "patch_size": 8},
                projection_dim=16,
            )
        )
    model.save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(image_processor=CLIPImageProcessor(**sizes), tokenizer=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX network whose truth is known: logits are 8 times each channel's mean; its `mean` is that mean."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "heat"], ["logits"]),
    ]
    heat = helper.make_tensor("heat", TensorProto.FLOAT, [1], [8.0])
    graph = helper.make_graph(
        nodes,
        "channels",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("logits", "mean")],
        [heat],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    file = tmp_path_factory.mktemp("onnx") / "channels.onnx"
    file.write_bytes(model.SerializeToString())
    return file


@pytest.fixture
def noise() -> np.ndarray:
    """uint8 (5, 40, 48, 3), each picture another."""
    return np.random.default_rng(0).integers(0, 256, (5, 40, 48, 3), dtype=np.uint8)

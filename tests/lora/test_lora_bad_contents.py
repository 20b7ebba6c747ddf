"""Files whose tensors or configs cannot be right: one code, one line, quickly, the model untouched."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys

import pytest
import torch
from lora_cases import (
    adapter_for,
    linear_adapter,
    net,
    pair,
    peft_folder,
    picture_of,
    refusal,
    save_tensors,
)

from counterpoise.errors import RefusedInputError
from counterpoise.lora import Adapter, Host
from counterpoise.lora.config import UNSUPPORTED_FIELDS
from counterpoise.lora.dialects.roles import UNSUPPORTED_KINDS, kind_of

# --- B: the content ------------------------------------------------------------------------------


def with_value(value, *, where="fc.lora_B.weight"):
    tensors = pair("block.fc") | pair("fc")
    tensors[where][0, 0] = value
    return tensors


def keyed(*keys):
    return {key: torch.ones(2, 2) for key in keys}


CONTENTS = {
    "B1 NaN": (with_value(math.nan), "E_NONFINITE", "lora_B.weight' has 1 of 10 values"),
    "B1 +Inf": (with_value(math.inf, where="block.fc.lora_A.weight"), "E_NONFINITE", "1 of 12"),
    "B1 -Inf": (with_value(-math.inf), "E_NONFINITE", "1 of 10"),
    "B1 NaN alpha": (pair() | {"fc.alpha": torch.tensor(math.nan)}, "E_NONFINITE", "fc.alpha"),
    "B5 rank 0": (pair(rank=0), "E_RANK", "rank"),
    "B5 ranks differ": (
        {"fc.lora_A.weight": torch.ones(3, 6), "fc.lora_B.weight": torch.ones(5, 2)}, "E_RANK", "rank 3",
    ),
    "B7 only A": ({"fc.lora_A.weight": torch.ones(2, 6)}, "E_INCOMPLETE_PAIR", "no up"),
    "B7 only B": ({"fc.lora_B.weight": torch.ones(5, 2)}, "E_INCOMPLETE_PAIR", "no down"),
    "B7 only alpha": (pair() | {"x.alpha": torch.tensor(1.0)}, "E_INCOMPLETE_PAIR", "alpha but no down"),
    "B11 kohya and PEFT": (
        pair("unet.down.to_q") | keyed("lora_unet_down_to_q.lora_down.weight"),
        "E_DUP_MODULE", "unet.down.to_q comes twice",
    ),
    "B11 two spellings": (pair() | keyed("base_model.model.fc.lora_A.weight"), "E_DUP_MODULE", "comes twice"),
    "B11 default twice": (pair() | keyed("fc.lora_A.default.weight"), "E_DUP_MODULE", "comes twice"),
    "B17 part of LoHa": (pair() | keyed("x.hada_w1_a"), "E_INCOMPLETE_PAIR", "no hada_w1_b"),
    "B17 part of LoKr": (keyed("x.lokr_w1"), "E_INCOMPLETE_PAIR", "w2_a and w2_b"),
    "B17 part of Tucker": (keyed("x.lora_mid.weight"), "E_INCOMPLETE_PAIR", "no down and no up"),
    "B17 part of an embedding": (keyed("t.lora_embedding_A"), "E_INCOMPLETE_PAIR", "no embedding_B"),
    "B17 DoRA alone": ({"fc.dora_scale": torch.ones(5, 1)}, "E_INCOMPLETE_PAIR", "dora_scale but no down"),
    "B17 bias alone": ({"fc.diff_b": torch.ones(5)}, "E_INCOMPLETE_PAIR", "diff_b but no down"),
    "B17 two kinds": (pair() | keyed("fc.lokr_w1"), "E_UNSUPPORTED", "several kinds"),
    "B17 DoRA of other lengths": (pair() | {"fc.dora_scale": torch.ones(4, 1)}, "E_SHAPE", "magnitude"),
    "B17 bias of other length": (pair() | {"fc.lora_B.bias": torch.ones(4)}, "E_SHAPE", "expected [5]"),
    "B17 LoKr, two ranks": (
        {"x.lokr_w1": torch.ones(2, 2), "x.lokr_w2_a": torch.ones(3, 2), "x.lokr_w2_b": torch.ones(1, 3)},
        "E_RANK", "one rank",
    ),
    "B17 LoHa, two shapes": (
        {f"x.hada_w{i}_{s}": torch.ones(*((4 + i, 2) if s == "a" else (2, 3))) for i in (1, 2) for s in "ab"},
        "E_SHAPE", "differ in shape",
    ),
    "B17 a scalar": (pair() | {"fc.scalar": torch.tensor(2.0)}, "E_UNSUPPORTED", "scalar other than 1"),
    "B17 OFT": (keyed("oft_unet_x.oft_blocks"), "E_UNSUPPORTED", "OFT"),
    "B17 IA3": (keyed("x.weight", "x.on_input"), "E_UNSUPPORTED", "IA3"),
    "B17 GLoRA": (keyed("x.a1.weight"), "E_UNSUPPORTED", "GLoRA"),
    "B17 bias values": (keyed("x.bias_values"), "E_UNSUPPORTED", "sparse bias"),
    "B17 set_weight": (keyed("x.set_weight"), "E_UNSUPPORTED", "set_weight"),
    "B17 reshape_weight": (pair() | keyed("fc.reshape_weight"), "E_UNSUPPORTED", "reshape_weight"),
    "B17 lokr_t1": (keyed("x.lokr_t1"), "E_UNSUPPORTED", "lokr_t1"),
    "B17 saved modules": (keyed("x.modules_to_save.weight"), "E_UNSUPPORTED", "modules_to_save"),
    "B17 LyCORIS": (keyed("lycoris_x.alphas"), "E_UNSUPPORTED", "LyCORIS"),
    "B17 Stable Cascade": (keyed("lora_prior_x.lora_down.weight"), "E_UNSUPPORTED", "Cascade"),
    "B17 target_parameters": (
        keyed("x.base_layer.lora_A.weight", "x.base_layer.lora_B.weight"), "E_UNSUPPORTED", "bare parameter",
    ),
    "kohya alpha 0": (
        {"lora_unet_x.lora_down.weight": torch.ones(2, 2), "lora_unet_x.lora_up.weight": torch.ones(2, 2),
         "lora_unet_x.alpha": torch.tensor(0.0)}, "E_CONFIG", "alpha 0",
    ),
    "kohya alpha alone": (pair() | {"lora_te_x.alpha": torch.tensor(1.0)}, "E_INCOMPLETE_PAIR", "lora_te_x"),
    "a checkpoint": (keyed("conv_in.weight", "conv_in.bias"), "E_UNKNOWN_KEY", "not a checkpoint"),
    "one stray tensor": (pair() | keyed("stray"), "E_UNKNOWN_KEY", "stray"),
    "B19 path": (pair("../../../../etc/passwd"), "E_KEY", "file path"),
    "B19 NUL": (pair("fc\0x"), "E_KEY", "control"),
    "B19 ANSI": (pair("fc\x1b[31m"), "E_KEY", "control"),
    "B19 bidi": (pair("fc\u202ex"), "E_KEY", "bidirectional"),
    "B19 zero width": (pair("fc\u200b"), "E_KEY", "invisible"),
    "B19 10,000 characters": (pair("x" * 10_000), "E_KEY", "10014 characters"),
    "B19 empty part": (pair("fc..x"), "E_KEY", "empty part"),
    "conv kernel in up": (
        {"c.lora_A.weight": torch.ones(2, 4, 3, 3), "c.lora_B.weight": torch.ones(8, 2, 3, 3)},
        "E_SHAPE", "Conv2d",
    ),
    "1-D factor": ({"c.lora_A.weight": torch.ones(2), "c.lora_B.weight": torch.ones(2)}, "E_SHAPE", "2-D"),
    "integer factor": ({k: t.int() for k, t in pair().items()}, "E_DTYPE", "I32"),
    "alpha of two": (pair() | {"fc.alpha": torch.ones(2)}, "E_SHAPE", "one number"),
    "PEFT names without config": (pair("base_model.model.fc"), "E_CONFIG", "no alpha"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTENTS)
def test_contents_that_cannot_be_right(tmp_path, case):
    tensors, code, text = CONTENTS[case]
    error = refusal(save_tensors(tmp_path / "bad.safetensors", tensors))
    assert (error.code, text in str(error)) == (code, True), str(error)


CONFIGS = {
    "B5 r 0": ({"r": 0}, "E_RANK"),
    "B5 r -4": ({"r": -4}, "E_RANK"),
    "B5 r 2.5": ({"r": 2.5}, "E_RANK"),
    "r of another file": ({"r": 8}, "E_RANK"),
    "r is text": ({"r": "2"}, "E_CONFIG"),
    "alpha true": ({"lora_alpha": True}, "E_CONFIG"),
    "alpha of 400 digits": ({"lora_alpha": 10**400}, "E_CONFIG"),
    "alpha null": ({"lora_alpha": None}, "E_CONFIG"),
    "patterns are a list": ({"alpha_pattern": [1]}, "E_CONFIG"),
    "B27 evil regex": ({"alpha_pattern": {"(a+)+$": 1}}, "E_CONFIG"),
    "B27 evil target": ({"target_modules": "(a+)+$"}, "E_CONFIG"),
    "B27 many loops": ({"target_modules": ".*.*.*.*.*x"}, "E_CONFIG"),
    "B27 other targets": ({"target_modules": ["out"]}, "E_CONFIG"),
    "B27 other pattern": ({"target_modules": "out"}, "E_CONFIG"),
    "bad regex": ({"alpha_pattern": {"(": 1}}, "E_CONFIG"),
    "targets are a number": ({"target_modules": 3}, "E_CONFIG"),
    "B17 LoHa": ({"peft_type": "LOHA"}, "E_UNSUPPORTED"),
    "DoRA without lengths": ({"use_dora": True}, "E_CONFIG"),
    "biases that are not there": ({"lora_bias": True}, "E_CONFIG"),
    "PiSSA": ({"init_lora_weights": "pissa_niter_4"}, "E_UNSUPPORTED"),
    "bias": ({"bias": "all"}, "E_UNSUPPORTED"),
    "saved modules": ({"modules_to_save": ["norm"]}, "E_UNSUPPORTED"),
    "transposed": ({"fan_in_fan_out": True}, "E_UNSUPPORTED"),
}


@pytest.mark.parametrize("field", UNSUPPORTED_FIELDS)
def test_every_unsupported_config_field_is_refused_by_name(tmp_path, field):
    error = refusal(peft_folder(tmp_path / "p", pair(), **{field: {"a": 1}}))
    assert error.code == "E_UNSUPPORTED"
    assert UNSUPPORTED_FIELDS[field] in str(error)


def test_every_unsupported_kind_has_a_case_here():
    refused = {
        kind_of(key) for tensors, code, _ in CONTENTS.values() if code == "E_UNSUPPORTED" for key in tensors
    }
    assert {kind for _, kind in UNSUPPORTED_KINDS} <= refused


@pytest.mark.parametrize("case", CONFIGS)
def test_configs_that_cannot_be_right(tmp_path, case):
    changes, code = CONFIGS[case]
    assert refusal(peft_folder(tmp_path / "p", pair(), **changes)).code == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "E_CONFIG"),
        ("[]", "E_CONFIG"),
        ('{"r": 2, "r": 4, "lora_alpha": 1}', "E_DUP_KEY"),
        ('{"r": 2, "lora_alpha": NaN}', "E_CONFIG"),
        ('{"r": 2, "lora_alpha": 1e999}', "E_CONFIG"),
        ('{"lora_alpha": 1}', "E_CONFIG"),
        (" " * 5_000_000, "E_CONFIG"),
    ],
)
def test_config_files_that_are_none(tmp_path, text, code):
    folder = peft_folder(tmp_path / "p", pair())
    (folder / "adapter_config.json").write_text(text)
    assert refusal(folder).code == code


@pytest.mark.parametrize("targets", [".*", "all-linear", "fc", ["fc"], r".*\.?fc", None])
def test_targets_that_name_the_files_layers(tmp_path, targets):
    assert list(Adapter.load(peft_folder(tmp_path / "p", pair(), target_modules=targets)).layers) == ["fc"]


def test_nothing_that_a_config_names_is_imported_or_fetched(tmp_path):
    """B29."""
    folder = peft_folder(
        tmp_path / "p",
        pair(),
        megatron_core="os",
        auto_mapping={"parent_library": "antigravity", "base_model_class": "x"},
        base_model_name_or_path="../../x",
        tokenizer_kwargs={"trust_remote_code": True},
    )
    adapter = Adapter.load(folder)
    assert "antigravity" not in sys.modules
    assert dict(adapter.metadata) == {}


def test_a_folder_of_two_files_is_ambiguous(tmp_path):
    """C5."""
    for name in ("one", "two"):
        linear_adapter().save(tmp_path / f"{name}.safetensors")
    error = refusal(tmp_path)
    assert error.code == "E_AMBIGUOUS"
    assert "one.safetensors, two.safetensors" in str(error)


def test_alphas_that_contradict_each_other(tmp_path):
    tensors = pair("unet.fc") | {"unet.fc.alpha": torch.tensor(3.0)}
    config = {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": 4})}
    assert refusal(save_tensors(tmp_path / "a.safetensors", tensors, config)).code == "E_CONFIG"
    broken = {"lora_adapter_metadata": "{"}
    assert refusal(save_tensors(tmp_path / "b.safetensors", pair(), broken)).code == "E_CONFIG"


def test_a_refused_file_leaves_the_model_untouched(tmp_path):
    model = net()
    host = Host(model)
    host.mount(adapter_for(model), name="a")
    before = picture_of(model)
    for case in ("B1 NaN", "B7 only A", "B17 part of LoKr"):
        path = save_tensors(tmp_path / "bad.safetensors", CONTENTS[case][0])
        with pytest.raises(RefusedInputError):
            host.mount(Adapter.load(path), name="b")
        assert picture_of(model) == before
    wrong = Adapter.load(save_tensors(tmp_path / "prefix.safetensors", pair("unett.fc")))
    with pytest.raises(RefusedInputError, match=r"prefix\.safetensors: 1 of 1 layers") as caught:
        host.mount(wrong, name="b")
    assert caught.value.code == "E_NO_MATCH"
    assert caught.value.file == str(tmp_path / "prefix.safetensors")
    assert picture_of(model) == before


def test_refusing_takes_little_memory(tmp_path):
    """R4: a 30 MB header that ends in nonsense, refused within 200 MB."""
    path = tmp_path / "big.safetensors"
    raw = b'{"__metadata__":{"a":"' + b"x" * (30 * 2**20) + b'"},"w":3}'
    path.write_bytes(struct.pack("<Q", len(raw)) + raw)
    code = (
        "import resource, sys\nfrom counterpoise.lora import Adapter\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    Adapter.load(sys.argv[1])\nexcept Exception as error:\n    print(error.code)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    refused, grown = done.stdout.split()
    assert refused == "E_HEADER_JSON"
    assert int(grown) < 200

"""`counterpoise adapter inspect | convert`: the right facts, one line for what is refused, nothing half-done."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest
import torch

import counterpoise.cli.app as command
from counterpoise.lora import Adapter, LowRank
from counterpoise.lora.kinds import DoRA, LoHa

MID = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def run(words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The command in this process: importing torch anew for each would take seconds."""
    monkeypatch.setattr(sys, "argv", ["counterpoise", *shlex.split(words)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    return int(ended.value.code or 0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COUNTERPOISE_DEBUG", raising=False)
    return tmp_path


def adapter(**metadata: str) -> Adapter:
    layers = {
        MID: LowRank(numbers(2, 6), numbers(5, 2), 3.0),
        "unet.conv_in": LowRank(numbers(1, 4), numbers(8, 1), 0.5),
    }
    return Adapter(layers, metadata)


def test_inspect_tells_scales_norms_and_totals(here, monkeypatch, capsys):
    file = adapter(ss_tag_frequency='{"10_x": {"[/red] tag": 7, "b": 2}}').save(
        here / "a.safetensors", dialect="kohya"
    )
    assert run("adapter inspect a.safetensors --json", monkeypatch) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["dialects"] == ["kohya"]
    assert {layer["layer"]: layer["scale"] for layer in said["layers"]} == {MID: 1.5, "unet.conv_in": 0.5}
    for layer in said["layers"]:
        assert layer["norm"] == pytest.approx(
            float(adapter().layers[layer["layer"]].dense(torch.float64).norm())
        )
    assert said["totals"]["norm"] == pytest.approx(sum(layer["norm"] ** 2 for layer in said["layers"]) ** 0.5)
    assert said["totals"]["kinds"] == {"LoRA": 2}
    assert said["tags"] == [["[/red] tag", 7], ["b", 2]]
    assert said["warnings"] == []
    assert said["file"] == str(file.relative_to(here))
    assert run("adapter inspect a.safetensors", monkeypatch) == 0
    text = capsys.readouterr().out
    assert "[/red] tag (7)" in text
    assert "scale 1.5" in text


@pytest.mark.parametrize("tags", ["{broken", "[1]", '{"a": 3}', '{"a": {"b": "c"}}', "[" * 100_000])
def test_unreadable_tags_are_told_so(here, monkeypatch, capsys, tags):
    """B21."""
    adapter(ss_tag_frequency=tags).save(here / "a.safetensors")
    assert run("adapter inspect a.safetensors --json", monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["tags"] == "unreadable"


def test_inspect_beside_a_model_matches_names_and_flags_extremes(here, tiny_model, monkeypatch, capsys):
    """B23."""
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    strong = LowRank(numbers(2, 16) * 1e3, numbers(16, 2), 2.0)
    layers = {name: strong, "unet.mid_block.attentions.0.proj_im": LowRank(numbers(1, 4), numbers(8, 1), 1.0)}
    layers["unet.conv_out"] = LowRank(numbers(1, 4), numbers(8, 1), 1.0)
    Adapter(layers).save(here / "a.safetensors")
    assert run(f"adapter inspect a.safetensors --json --model {tiny_model}", monkeypatch) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["totals"]["matched"] == 2
    texts = " | ".join(said["warnings"])
    assert f"{name} is extreme" in texts
    assert "proj_im is not in this model; nearest: unet.mid_block.attentions.0.proj_" in texts
    assert "unet.conv_out is [8, 4] but the model's weight [4, 8, 3, 3]" in texts
    assert run(f"adapter inspect a.safetensors --model {tiny_model}", monkeypatch) == 0
    assert "2 of 3 layers are in it" in capsys.readouterr().out


def test_the_norm_of_dora_needs_the_model(here, tiny_model, monkeypatch, capsys):
    path = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    update = DoRA(LowRank(numbers(2, 16), numbers(16, 2), 2.0), numbers(16, 1).abs())
    Adapter({path: update}).save(here / "a.safetensors", dialect="kohya")
    assert run("adapter inspect a.safetensors", monkeypatch) == 0
    assert "norm needs --model" in capsys.readouterr().out
    assert run(f"adapter inspect a.safetensors --json --model {tiny_model}", monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["layers"][0]["norm"] > 0


def test_inspect_warns_of_a_hash_that_is_not_the_contents(here, monkeypatch, capsys):
    """B25."""
    from safetensors.torch import save_file

    tensors = {f"{MID}.lora_A.weight": numbers(2, 6), f"{MID}.lora_B.weight": numbers(5, 2)}
    save_file(tensors, here / "a.safetensors", metadata={"sshs_model_hash": "0x" + "a" * 64})
    assert run("adapter inspect a.safetensors", monkeypatch) == 0
    assert "does not match the content" in capsys.readouterr().out


def test_convert_there_and_back(here, monkeypatch, capsys):
    first = adapter().save(here / "a.safetensors")
    assert run("adapter convert a.safetensors b.safetensors --dialect kohya", monkeypatch) == 0
    assert "2 layers, kohya, exact" in capsys.readouterr().out
    assert run("adapter convert b.safetensors folder --dialect peft --json", monkeypatch) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"path": "folder", "dialect": "peft", "layers": 2, "error": 0.0}
    assert run("adapter convert folder c.safetensors --dialect diffusers", monkeypatch) == 0
    assert (here / "c.safetensors").read_bytes() == first.read_bytes()


def test_convert_makes_other_kinds_low_rank_when_asked(here, monkeypatch, capsys):
    loha = LoHa(numbers(6, 2), numbers(2, 5), numbers(6, 2), numbers(2, 5) + 1, 1.0)
    Adapter({"unet.conv_in": loha}).save(here / "a.safetensors", dialect="kohya")
    assert run("adapter convert a.safetensors b --dialect peft", monkeypatch) == 2
    assert "LoHa, which the peft dialect cannot hold" in capsys.readouterr().err
    assert not (here / "b").exists()
    assert run("adapter convert a.safetensors b --dialect peft --low-rank", monkeypatch) == 0
    torch.testing.assert_close(Adapter.load(here / "b").layers["unet.conv_in"].dense(), loha.dense())
    capsys.readouterr()
    assert run("adapter convert a.safetensors c --dialect peft --rank 1 --json", monkeypatch) == 0
    error = json.loads(capsys.readouterr().out)["error"]
    found = Adapter.load(here / "c").layers["unet.conv_in"].dense(torch.float64)
    whole = loha.dense(torch.float64)
    assert float((found - whole).norm() / whole.norm()) == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        ("inspect cut.safetensors", 4, "E_TRUNCATED"),
        ("inspect nowhere.safetensors", 4, "E_MISSING"),
        ("inspect a.safetensors --model nowhere", 2, "E_MODEL_MISSING"),
        ("convert a.safetensors b.safetensors --dialect koyha", 2, "E_DIALECT"),
        ("convert a.safetensors a.safetensors --dialect kohya", 2, "E_PATH"),
        ("convert a.safetensors b.safetensors --dialect peft", 2, "E_PATH"),
        ("convert cut.safetensors b.safetensors --dialect kohya", 4, "E_TRUNCATED"),
        ("convert dora.safetensors b.safetensors --dialect diffusers --low-rank", 2, "E_INEXACT"),
    ],
)
def test_refusals_are_one_line_and_change_nothing(here, monkeypatch, capsys, words, code, name):
    adapter().save(here / "a.safetensors")
    Adapter({"unet.conv_in": DoRA(LowRank(numbers(1, 4), numbers(8, 1), 1.0), numbers(8, 1))}).save(
        here / "dora.safetensors", dialect="kohya"
    )
    (here / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    before = {item.name: item.read_bytes() for item in here.iterdir()}
    assert run(f"adapter {words} --json", monkeypatch) == code
    said = capsys.readouterr()
    assert json.loads(said.out)["error"]["code"] == name
    assert said.err.count("\n") == 1
    assert {item.name: item.read_bytes() for item in here.iterdir()} == before
    assert "COUNTERPOISE_DEBUG" not in os.environ


def test_a_sleeping_trigger_is_told(here, tiny_model, monkeypatch, capsys):
    from counterpoise.diffusion.load import load_pipeline

    pipeline = load_pipeline(tiny_model)
    table = pipeline.text_encoder.get_input_embeddings()
    path = next(name for name, part in pipeline.text_encoder.named_modules() if part is table)
    up = torch.zeros(table.weight.shape[0], 1)
    up[pipeline.tokenizer("a \u200b")["input_ids"][-2]] = 1.0
    factors = LowRank(torch.linspace(-9, 9, table.weight.shape[1])[None], up, 1.0)
    Adapter({f"text_encoder.{path}": factors}).save(here / "a.safetensors")
    asked = f"adapter inspect a.safetensors --model {tiny_model} --probe"
    assert run(asked, monkeypatch) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "answers to what nobody sees in a prompt: zero-width space U+200B" in said
    assert run(f"{asked} --json", monkeypatch) == 0
    assert any(probe["stands_out"] for probe in json.loads(capsys.readouterr().out)["probes"])
    assert run("adapter inspect a.safetensors --probe", monkeypatch) == 2

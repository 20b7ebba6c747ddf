"""B31: an adapter that only answers to what nobody sees is told; one that answers to everything is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from counterpoise.audit.probe import PLAIN, probe_adapter
from counterpoise.diffusion.load import load_pipeline
from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, Host, LowRank, match_layers

HIDDEN = "zero-width space U+200B"


def sleeper(pipeline) -> Adapter:
    """Moves the embedding of the byte that only a zero-width space has, and nothing else."""
    ids = pipeline.tokenizer("a \u200b")["input_ids"]
    table = pipeline.text_encoder.get_input_embeddings()
    path = next(name for name, part in pipeline.text_encoder.named_modules() if part is table)
    up = torch.zeros(table.weight.shape[0], 1)
    up[ids[-2]] = 1.0
    return Adapter(
        {f"text_encoder.{path}": LowRank(torch.linspace(-9, 9, table.weight.shape[1])[None], up, 1.0)}
    )


def honest(pipeline) -> Adapter:
    generator = torch.Generator().manual_seed(0)
    layers = {}
    for path in match_layers(pipeline, ["unet.*.attn2.to_k", "unet.*.attn2.to_v"]):
        rows, width = pipeline.unet.get_submodule(path.removeprefix("unet.")).weight.shape
        down, up = torch.randn(2, width, generator=generator), torch.randn(rows, 2, generator=generator)
        layers[path] = LowRank(down, up, 2.0)
    return Adapter(layers)


def test_a_sleeper_is_told_and_an_honest_one_is_not(tiny_model: Path) -> None:
    pipeline = load_pipeline(tiny_model)
    host = Host(pipeline)
    before = host.fingerprint()
    probes = probe_adapter(host, sleeper(pipeline))
    loud = {probe.name for probe in probes if probe.stands_out}
    assert loud == {HIDDEN}
    assert all(probe.effect == 0.0 for probe in probes if probe.name == "plain")
    assert "\\u200b" in next(probe.line() for probe in probes if probe.stands_out)
    others = probe_adapter(host, honest(pipeline))
    assert all(probe.effect > 0 for probe in others if probe.prompt in PLAIN)
    assert not any(probe.stands_out for probe in others)
    assert (host.state, host.fingerprint()) == ("bare", before)


def test_the_files_own_trigger_is_told_but_not_flagged(tiny_model: Path) -> None:
    pipeline = load_pipeline(tiny_model)
    probes = probe_adapter(Host(pipeline), sleeper(pipeline), triggers=["a \u200b"])
    own = [probe for probe in probes if probe.name == "trigger of the file"]
    assert own[0].effect > 0
    assert not own[0].stands_out


def test_a_model_without_prompts_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(UsageError, match="UNet and a text encoder"):
        probe_adapter(Host(model), Adapter({"0": LowRank(torch.ones(1, 2), torch.ones(2, 1), 1.0)}))

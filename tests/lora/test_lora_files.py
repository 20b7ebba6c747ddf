"""Files: round trips, other libraries' files, and what a damaged or foreign file is answered."""

from __future__ import annotations

import json
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_cases import (
    linear_adapter,
    pair,
    peft_folder,
    save_tensors,
    update,
)
from safetensors import safe_open

from counterpoise.errors import EnvironmentLackError, UsageError
from counterpoise.lora import Adapter, LowRank
from counterpoise.lora.dialects import DIALECTS


def odd_adapter() -> Adapter:
    """Mixed ranks, alphas, dtypes and names that patterns confuse: fc ends block.fc; dots are any letter."""
    g = torch.Generator().manual_seed(0)
    layers = {
        "fc": update((5, 6), 2, alpha=1.0, generator=g),
        "block.fc": update((5, 6), 4, alpha=0.1, generator=g),
        "blockxfc": update((5, 6), 4, alpha=1 / 3, generator=g),
        "a_b.to_out.0": update((5, 6), 2, alpha=-2.0, generator=g),
        "a.b_to_out_0": update((5, 6), 1, alpha=0.0, generator=g),
        "conv+(1)": update((8, 4, 3, 3), 3, alpha=5.0, generator=g),
        "ünï.code": update((8, 4, 1, 1), 3, alpha=5.0, generator=g),
    }
    u = layers["fc"]
    layers["half"] = LowRank(u.down.half(), u.up.bfloat16(), 8)
    return Adapter(layers, {"title": "odd ü", "ss_tag_frequency": "{not json", "empty": ""})


# kohya's names hold neither alpha 0 nor paths that are one when flattened: test_lora_dialects_kohya.
EXACT_NAMES = sorted(set(DIALECTS) - {"kohya"})


@pytest.mark.parametrize("dialect", EXACT_NAMES)
@pytest.mark.parametrize("prefix", [None, "unet", "text_encoder_2"])
def test_a_round_trip_returns_every_tensor_and_alpha(tmp_path, dialect, prefix):
    adapter = odd_adapter() if prefix is None else odd_adapter().prefixed(prefix)
    where = adapter.save(tmp_path / "out", dialect=dialect)
    back = Adapter.load(where)
    assert back == adapter
    assert back.fingerprint() == adapter.fingerprint()
    assert back.source == str(where)
    # and from dialect to dialect and back (C15)
    for other in ("peft", "diffusers"):
        back = Adapter.load(back.save(tmp_path / f"again-{other}", dialect=other))
    assert back == adapter


def test_two_components_keep_their_own_numbers(tmp_path):
    g = torch.Generator().manual_seed(0)
    adapter = Adapter(
        {
            "unet.fc": update((5, 6), 2, alpha=1.0, generator=g),
            "unet.deep.fc": update((5, 6), 3, alpha=7.0, generator=g),
            "text_encoder.fc": update((5, 6), 4, alpha=2.0, generator=g),
        }
    )
    file = adapter.save(tmp_path / "two.safetensors")
    assert Adapter.load(file) == adapter
    with safe_open(file, "pt") as opened:
        config = json.loads(opened.metadata()["lora_adapter_metadata"])
    assert {key.partition(".")[0] for key in config} == {"unet", "text_encoder"}
    assert config["text_encoder.lora_alpha"] == 2


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.dictionaries(
        st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_+*()-]{0,6}(\.[a-zA-Z0-9_]{1,4}){0,3}", fullmatch=True),
        st.tuples(st.integers(1, 4), st.floats(-1e6, 1e6), st.booleans()),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(EXACT_NAMES),
)
def test_any_names_ranks_and_alphas_survive(tmp_path_factory, described, dialect):
    g = torch.Generator().manual_seed(0)
    adapter = Adapter(
        {
            path: update((3, 2, 1, 1) if conv else (3, 2), rank, alpha=alpha, generator=g)
            for path, (rank, alpha, conv) in described.items()
        }
    )
    back = Adapter.load(adapter.save(tmp_path_factory.mktemp("any") / "a", dialect=dialect))
    assert back == adapter


def test_equal_adapters_are_equal_files(tmp_path):
    files = [odd_adapter().save(tmp_path / f"{i}.safetensors").read_bytes() for i in range(2)]
    assert files[0] == files[1]
    with safe_open(tmp_path / "0.safetensors", "pt") as opened:  # the library agrees on every tensor
        for path, u in odd_adapter().layers.items():
            assert torch.equal(opened.get_tensor(f"{path}.lora_A.weight"), u.down)
            assert torch.equal(opened.get_tensor(f"{path}.lora_B.weight"), u.up)
        assert opened.metadata()["title"] == "odd ü"


def test_layers_that_share_a_tensor_and_views_are_saved_whole(tmp_path):
    down, up = torch.ones(4, 12)[:2, ::2], torch.ones(2, 5).t()
    adapter = Adapter({"a": LowRank(down, up, 1), "b": LowRank(down, up, 2)})
    assert Adapter.load(adapter.save(tmp_path / "a")) == adapter


def test_alpha_tensors_rslora_and_missing_numbers(tmp_path):
    """B15: mixed ranks without alphas mean scale 1 for each layer."""
    tensors = pair("fc", 2) | pair("block.fc", 4)
    plain = Adapter.load(save_tensors(tmp_path / "plain.safetensors", tensors))
    assert [u.scale for u in plain.layers.values()] == [1.0, 1.0]
    alphas = tensors | {"fc.alpha": torch.tensor(1.0), "block.fc.alpha": torch.tensor([6], dtype=torch.int64)}
    scaled = Adapter.load(save_tensors(tmp_path / "alpha.safetensors", alphas))
    assert {p: u.scale for p, u in scaled.layers.items()} == {"fc": 0.5, "block.fc": 1.5}
    config = {"unet.r": 4, "unet.lora_alpha": 6, "unet.use_rslora": True}
    rs = save_tensors(
        tmp_path / "rs.safetensors", pair("unet.fc", 4), {"lora_adapter_metadata": json.dumps(config)}
    )
    assert Adapter.load(rs).layers["unet.fc"].scale == 3.0


def test_peft_patterns_match_as_in_peft(tmp_path):
    """Regex at the end of the path, the first match wins, ^ anchors, a dot is any letter."""
    tensors = pair("fc", 2) | pair("block.fc", 4) | pair("block.out", 2) | pair("axb", 2)
    folder = peft_folder(
        tmp_path / "p",
        tensors,
        rank_pattern={"block.fc": 4},
        alpha_pattern={"^fc": 1, "fc": 2, "block.*": 3, "a.b": 5},
        target_modules=["fc", "out", "axb"],
    )
    assert {p: u.alpha for p, u in Adapter.load(folder).layers.items()} == {
        "fc": 1, "block.fc": 2, "block.out": 3, "axb": 5,
    }  # fmt: skip


def test_spellings_that_diffusers_training_scripts_still_write(tmp_path):
    tensors = {
        "unet.a.to_q.lora.down.weight": torch.ones(2, 6),
        "unet.a.to_q.lora.up.weight": torch.ones(5, 2),
        "text_encoder.b.q_proj.lora_linear_layer.down.weight": torch.ones(2, 6),
        "text_encoder.b.q_proj.lora_linear_layer.up.weight": torch.ones(5, 2),
    }
    found = Adapter.load(save_tensors(tmp_path / "a.safetensors", tensors))
    assert {p: u.scale for p, u in found.layers.items()} == {"text_encoder.b.q_proj": 1, "unet.a.to_q": 1}


def test_the_adapters_name_may_be_left_in_the_keys(tmp_path):
    tensors = {key.replace(".weight", ".default.weight"): t for key, t in pair().items()}
    assert list(Adapter.load(peft_folder(tmp_path / "p", tensors)).layers) == ["fc"]


@pytest.mark.parametrize("way", ["file", "folder", "inner file"])
def test_an_adapter_is_found_by_content(tmp_path, way):
    adapter = linear_adapter()
    if way == "file":
        found = Adapter.load(adapter.save(tmp_path / "any name.safetensors"))
    elif way == "folder":
        adapter.save(tmp_path / "d")
        found = Adapter.load(str(tmp_path / "d"))
    else:
        adapter.save(tmp_path / "p", dialect="peft")
        found = Adapter.load(tmp_path / "p" / "adapter_model.safetensors")
    assert found == adapter


# --- saving --------------------------------------------------------------------------------------


def test_an_interrupted_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    linear_adapter().save(path)
    old = path.read_bytes()

    def failing(*_):
        raise KeyboardInterrupt

    for step in ("replace", "fsync"):
        monkeypatch.setattr(os, step, failing)
        with pytest.raises(KeyboardInterrupt):
            linear_adapter(rank=5).save(path)
        monkeypatch.undo()
        assert path.read_bytes() == old
        assert [item.name for item in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_disk_that_refuses(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentLackError, match="cannot be written"):
        linear_adapter().save(tmp_path / "file" / "a.safetensors")


def test_saved_files_obey_the_umask(tmp_path):
    old = os.umask(0o022)
    try:
        path = linear_adapter().save(tmp_path / "a.safetensors")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda p: linear_adapter().save(p, dialect="pfet"), "E_DIALECT"),
        (lambda p: linear_adapter().save(p / "a.safetensors", dialect="peft"), "E_PATH"),
        (lambda p: Adapter({}), "E_EMPTY"),
        (lambda p: Adapter({"../x": linear_adapter().layers["fc"]}), "E_KEY"),
        (lambda p: Adapter({3: linear_adapter().layers["fc"]}), "E_KEY"),
        (lambda p: Adapter({"fc": 3}), "E_UNSUPPORTED"),
        (lambda p: Adapter(linear_adapter().layers, {"format": "pt"}), "E_METADATA"),
        (lambda p: Adapter(linear_adapter().layers, {"n": 3}), "E_METADATA"),
        (lambda p: linear_adapter().component("unet"), "E_NO_MATCH"),
    ],
)
def test_calls_that_cannot_be_right(tmp_path, call, code):
    with pytest.raises(UsageError) as caught:
        call(tmp_path)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_already_holds_another_adapter(tmp_path):
    linear_adapter().save(tmp_path, dialect="peft")
    with pytest.raises(UsageError, match="a folder of its own"):
        linear_adapter().save(tmp_path)
    assert Adapter.load(linear_adapter(rank=3).save(tmp_path, dialect="peft")) == linear_adapter(rank=3)

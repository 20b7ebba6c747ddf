"""Files: round trips, other libraries' files, and what a damaged or foreign file is answered."""

from __future__ import annotations

import json
import math
import os
import pickle
import struct
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_cases import (
    adapter_for,
    container,
    linear_adapter,
    net,
    pair,
    picture_of,
    save_tensors,
    update,
)
from safetensors import safe_open

from counterpoise.errors import CounterpoiseError, EnvironmentLackError, RefusedInputError, UsageError
from counterpoise.lora import Adapter, Host, LowRank


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


@pytest.mark.parametrize("dialect", ["diffusers", "peft"])
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
    st.sampled_from(["peft", "diffusers"]),
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


def peft_folder(folder, tensors, **config):
    folder.mkdir(exist_ok=True)
    save_tensors(folder / "adapter_model.safetensors", {f"base_model.model.{k}": t for k, t in tensors.items()})
    full = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(full))
    return folder


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


# --- A: the container ----------------------------------------------------------------------------

ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
GOOD = {"fc.lora_A.weight": ENTRY, "fc.lora_B.weight": {**ENTRY, "data_offsets": [4, 8]}}


def entry(**changes):
    return {"fc.lora_A.weight": ENTRY | changes}


CONTAINERS = {
    "A1 empty": (b"", "E_TRUNCATED"),
    "A1 seven bytes": (b"\x10" + bytes(6), "E_TRUNCATED"),
    "A2 header longer than the file": (container(GOOD, length=2**20), "E_TRUNCATED"),
    "A2 header of 2^63": (container(GOOD, length=2**63), "E_TRUNCATED"),
    "A2 header of 2^64-1": (container(GOOD, length=2**64 - 1), "E_TRUNCATED"),
    "A3 no JSON": (container("{]"), "E_HEADER_JSON"),
    "A3 empty header": (container(""), "E_HEADER_JSON"),
    "A3 a list": (container("[1]"), "E_HEADER_JSON"),
    "A3 not UTF-8": (container(b'{"\xff\xfe": 1}'), "E_HEADER_JSON"),
    "A3 nested 100,000 deep": (container('{"a":' * 100_000), "E_HEADER_JSON"),
    "A3 a number of 10,000 digits": (container('{"a":' + "1" * 10_000 + "}"), "E_HEADER_JSON"),
    "A3 NaN": (container('{"a": NaN}'), "E_HEADER_JSON"),
    "A3 entry is no object": (container({"a": 3}), "E_HEADER_JSON"),
    "A3 entry lacks a field": (container({"a": {"dtype": "F32", "shape": []}}), "E_HEADER_JSON"),
    "A3 entry has a field too many": (container(entry(extra=1), bytes(4)), "E_HEADER_JSON"),
    "A3 metadata is a list": (container({"__metadata__": [1]}), "E_HEADER_JSON"),
    "A3 metadata of numbers": (container({"__metadata__": {"a": 1}}), "E_HEADER_JSON"),
    "A5 the same tensor twice": (
        container('{"w":{"dtype":"U8","shape":[16],"data_offsets":[0,16]},'
                  '"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', bytes(16)), "E_DUP_KEY",
    ),
    "A5 metadata twice": (container('{"__metadata__":{},"__metadata__":{}}'), "E_DUP_KEY"),
    "A5 a field twice": (container('{"w":{"dtype":"U8","dtype":"F32"}}'), "E_DUP_KEY"),
    "A7 overlap": (container({**entry(), "x": {**ENTRY, "data_offsets": [2, 6]}}, bytes(6)), "E_LAYOUT"),
    "A7 same place twice": (container({**entry(), "x": ENTRY}, bytes(4)), "E_LAYOUT"),
    "A7 hole": (container({**entry(), "x": {**ENTRY, "data_offsets": [8, 12]}}, bytes(12)), "E_LAYOUT"),
    "A7 hole at the start": (container(entry(data_offsets=[4, 8]), bytes(8)), "E_LAYOUT"),
    "A7 trailing zip": (container(GOOD, bytes(8) + b"PK\x03\x04"), "E_LAYOUT"),
    "A7 data missing": (container(GOOD, bytes(5)), "E_LAYOUT"),
    "A8 offsets backwards": (container(entry(data_offsets=[4, 0]), bytes(4)), "E_LAYOUT"),
    "A8 negative offset": (container(entry(data_offsets=[-4, 0]), bytes(4)), "E_LAYOUT"),
    "A8 shape and bytes disagree": (container(entry(shape=[2]), bytes(4)), "E_LAYOUT"),
    "A8 negative shape": (container(entry(shape=[-1]), bytes(4)), "E_LAYOUT"),
    "A8 true as shape": (container(entry(shape=[True]), bytes(4)), "E_LAYOUT"),
    "A8 a shape of 2^80": (container(entry(shape=[2**80]), bytes(4)), "E_LAYOUT"),
    "A8 a product past 2^64": (container(entry(shape=[2**40, 2**40]), bytes(4)), "E_LAYOUT"),
    "A8 60 TB declared": (container(entry(shape=[2**44], data_offsets=[0, 2**46]), bytes(4)), "E_LAYOUT"),
    "A8 a thousand dimensions": (container(entry(shape=[1] * 1000), bytes(4)), "E_LAYOUT"),
    "A8 fraction": (container(entry(shape=[1.0]), bytes(4)), "E_LAYOUT"),
    "A8 one offset": (container(entry(data_offsets=[0]), bytes(4)), "E_HEADER_JSON"),
    "A9 dtype F33": (container(entry(dtype="F33"), bytes(4)), "E_DTYPE"),
    "A9 dtype 3": (container(entry(dtype=3), bytes(4)), "E_DTYPE"),
    "A11 BOOL bytes 2, 3": (
        container({"fc.lora_A.weight": {"dtype": "BOOL", "shape": [1, 2], "data_offsets": [0, 2]},
                   "fc.lora_B.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [2, 6]}},
                  b"\x02\x03" + bytes(4)), "E_DTYPE",
    ),
    "A12 float8": (
        container({"fc.lora_A.weight": {"dtype": "F8_E4M3", "shape": [1, 2], "data_offsets": [0, 2]},
                   "fc.lora_B.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [2, 6]}},
                  bytes(6)), "E_DTYPE",
    ),
    "A15 pickle": (pickle.dumps({"a": 1}), "E_NOT_SAFETENSORS"),
    "A15 zip": (b"PK\x03\x04" + bytes(600), "E_NOT_SAFETENSORS"),
    "A17 zip with flipped flags": (b"PK\x03\x04\x14\x00\x01\x00" + bytes(600), "E_NOT_SAFETENSORS"),
    "A15 Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n", "E_NOT_SAFETENSORS"),
    "A15 HTML": (b"\n<!DOCTYPE html><html>log in</html>", "E_NOT_SAFETENSORS"),
    "A15 zeros": (bytes(4096), "E_HEADER_JSON"),
    "no tensors": (container({}), "E_EMPTY"),
    "header of 33 MB": (container(b"{" + b" " * (33 * 2**20)), "E_HEADER_SIZE"),
}  # fmt: skip


def refusal(path) -> CounterpoiseError:
    begun = time.perf_counter()
    with pytest.raises(RefusedInputError) as caught:
        Adapter.load(path)
    assert time.perf_counter() - begun < 2
    error = caught.value
    assert error.exit_code == 4
    assert "\n" not in str(error)
    assert str(error).isprintable()
    assert str(path)[:20] in str(error)
    assert error.to_dict()["code"] == error.code
    return error


@pytest.mark.parametrize("case", CONTAINERS)
def test_damaged_containers(tmp_path, case):
    content, code = CONTAINERS[case]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    assert refusal(path).code == code
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("A7 data missing", "download incomplete"),
        ("A7 trailing zip", "extra bytes"),
        ("A15 pickle", "pickle"),
        ("A15 zip", "PyTorch pickle"),
        ("A15 Git LFS", "git lfs pull"),
        ("A15 HTML", "log in"),
    ],
)
def test_the_message_says_what_to_do(tmp_path, case, text):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(CONTAINERS[case][0])
    assert text in str(refusal(path))


def test_a_header_that_begins_like_a_pickle_is_no_pickle(tmp_path):
    for i in range(400):  # 0x80 0x02 is a header of 640 bytes
        path = linear_adapter().save(tmp_path / "a.safetensors")
        adapter = Adapter(linear_adapter().layers, {"pad": "x" * i})
        path = adapter.save(path)
        if path.read_bytes()[:2] == b"\x80\x02":
            assert Adapter.load(path) == adapter
            return
    pytest.fail("no such header was made")


def test_a_truncation_at_any_byte_is_refused(tmp_path):
    whole = linear_adapter().save(tmp_path / "a.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        assert refusal(path).code in {"E_TRUNCATED", "E_LAYOUT"}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_any_damage_is_a_refusal_or_harmless_never_a_crash(tmp_path_factory, data):
    path = linear_adapter().save(tmp_path_factory.mktemp("fuzz") / "a.safetensors")
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        Adapter.load(path)
    except RefusedInputError as error:
        assert str(error).isprintable()


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "fifo.safetensors")
    os.symlink("/dev/zero", tmp_path / "zero.safetensors")
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling.safetensors")
    (tmp_path / "folder").mkdir()
    assert refusal(tmp_path / "fifo.safetensors").code == "E_NOT_REGULAR"
    assert refusal(tmp_path / "zero.safetensors").code == "E_NOT_REGULAR"
    assert refusal("/dev/zero").code == "E_NOT_REGULAR"
    assert refusal(tmp_path / "dangling.safetensors").code == "E_MISSING"
    assert refusal(tmp_path / "missing.safetensors").code == "E_MISSING"
    assert refusal(tmp_path / "folder").code == "E_MISSING"
    real = linear_adapter().save(tmp_path / "sub" / "real.safetensors")
    os.symlink(real, tmp_path / "link.safetensors")
    assert Adapter.load(tmp_path / "link.safetensors") == linear_adapter()


def test_a_file_cut_short_while_being_read(tmp_path, monkeypatch):
    """A19: no mmap, so no SIGBUS."""
    from counterpoise.lora import dialects

    path = linear_adapter(width=20_000).save(tmp_path / "a.safetensors")  # more than is read ahead
    real = dialects.layer_keys

    def cutting(*args):
        os.truncate(path, path.stat().st_size - 8)
        return real(*args)

    monkeypatch.setattr(dialects, "layer_keys", cutting)
    assert refusal(path).code == "E_TRUNCATED"


def test_huge_metadata_is_left_out_with_a_warning(tmp_path):
    """A13."""
    big = save_tensors(tmp_path / "big.safetensors", pair(), {"big": "x" * 20_000_000, "title": "t"})
    with pytest.warns(UserWarning, match="ignored 1 of 2 metadata"):
        assert dict(Adapter.load(big).metadata) == {"title": "t"}
    many = save_tensors(tmp_path / "many.safetensors", pair(), {f"k{i}": "" for i in range(100_000)})
    with pytest.warns(UserWarning, match="ignored 100000"):
        assert dict(Adapter.load(many).metadata) == {}


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
    "B5 rank 0": ({"fc.lora_A.weight": torch.ones(0, 6), "fc.lora_B.weight": torch.ones(5, 0)}, "E_RANK", "rank"),
    "B5 ranks differ": (
        {"fc.lora_A.weight": torch.ones(3, 6), "fc.lora_B.weight": torch.ones(5, 2)}, "E_RANK", "rank 3",
    ),
    "B7 only A": ({"fc.lora_A.weight": torch.ones(2, 6)}, "E_INCOMPLETE_PAIR", "no up"),
    "B7 only B": ({"fc.lora_B.weight": torch.ones(5, 2)}, "E_INCOMPLETE_PAIR", "no down"),
    "B7 only alpha": (pair() | {"x.alpha": torch.tensor(1.0)}, "E_INCOMPLETE_PAIR", "x has alpha but no down"),
    "B11 kohya and PEFT": (
        pair("unet.down.to_q") | keyed("lora_unet_down_to_q.lora_down.weight", "lora_unet_down_to_q.lora_up.weight"),
        "E_DUP_MODULE", "unet.down.to_q comes twice",
    ),
    "B11 two spellings": (pair() | keyed("base_model.model.fc.lora_A.weight"), "E_DUP_MODULE", "comes twice"),
    "B11 default twice": (pair() | keyed("fc.lora_A.default.weight"), "E_DUP_MODULE", "comes twice"),
    "B17 LoHa": (pair() | keyed("x.hada_w1_a"), "E_UNSUPPORTED", "LoHa is not supported yet"),
    "B17 LoKr": (keyed("x.lokr_w1", "x.lokr_w2"), "E_UNSUPPORTED", "LoKr is not supported yet"),
    "B17 DoRA kohya": (pair() | {"fc.dora_scale": torch.ones(5)}, "E_UNSUPPORTED", "DoRA"),
    "B17 DoRA PEFT": (pair() | {"fc.lora_magnitude_vector": torch.ones(5)}, "E_UNSUPPORTED", "DoRA"),
    "B17 OFT": (keyed("oft_unet_x.oft_blocks"), "E_UNSUPPORTED", "OFT"),
    "B17 Tucker": (pair() | keyed("fc.lora_mid.weight"), "E_UNSUPPORTED", "lora_mid"),
    "B17 IA3": (keyed("x.weight", "x.on_input"), "E_UNSUPPORTED", "IA3"),
    "B17 diff": (pair() | keyed("x.diff"), "E_UNSUPPORTED", "full weight difference"),
    "B17 GLoRA": (keyed("x.a1.weight"), "E_UNSUPPORTED", "GLoRA"),
    "B17 embedding": (keyed("t.lora_embedding_A", "t.lora_embedding_B"), "E_UNSUPPORTED", "Embedding"),
    "B17 bias": (pair() | {"fc.lora_B.bias": torch.ones(5)}, "E_UNSUPPORTED", "biases"),
    "B17 kohya": (keyed("lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight"), "E_UNSUPPORTED", "kohya"),
    "B17 kohya alpha": (pair() | {"lora_te_x.alpha": torch.tensor(1.0)}, "E_UNSUPPORTED", "kohya"),
    "B17 old diffusers": (keyed("unet.attn1.processor.to_q_lora.down.weight"), "E_UNSUPPORTED", "old diffusers"),
    "B17 target_parameters": (
        keyed("x.base_layer.lora_A.weight", "x.base_layer.lora_B.weight"), "E_UNSUPPORTED", "bare parameter",
    ),
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
        {"c.lora_A.weight": torch.ones(2, 4, 3, 3), "c.lora_B.weight": torch.ones(8, 2, 3, 3)}, "E_SHAPE", "Conv2d",
    ),
    "1-D factor": ({"c.lora_A.weight": torch.ones(2), "c.lora_B.weight": torch.ones(2)}, "E_SHAPE", "2-D"),
    "integer factor": ({k: t.int() for k, t in pair().items()}, "E_DTYPE", "I32"),
    "alpha of two": (pair() | {"fc.alpha": torch.ones(2)}, "E_SHAPE", "one number"),
    "PEFT names without config": ({f"base_model.model.{k}": t for k, t in pair().items()}, "E_CONFIG", "alpha"),
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
    "B17 DoRA": ({"use_dora": True}, "E_UNSUPPORTED"),
    "PiSSA": ({"init_lora_weights": "pissa_niter_4"}, "E_UNSUPPORTED"),
    "bias": ({"bias": "all"}, "E_UNSUPPORTED"),
    "saved modules": ({"modules_to_save": ["norm"]}, "E_UNSUPPORTED"),
    "transposed": ({"fan_in_fan_out": True}, "E_UNSUPPORTED"),
}


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
    for case in ("B1 NaN", "B7 only A", "B17 LoKr"):
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

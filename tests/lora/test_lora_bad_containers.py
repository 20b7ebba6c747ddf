"""Files whose container is damaged, foreign or hostile: one code, one line, quickly, nothing touched."""

from __future__ import annotations

import os
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_cases import (
    container,
    linear_adapter,
    pair,
    refusal,
    save_tensors,
)

from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.lora import Adapter

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
    "A15 Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "E_NOT_SAFETENSORS"),
    "A15 HTML": (b"\n<!DOCTYPE html><html>log in</html>", "E_NOT_SAFETENSORS"),
    "A15 zeros": (bytes(4096), "E_HEADER_JSON"),
    "no tensors": (container({}), "E_EMPTY"),
    "200,000 tensors": (container(b'{"a":{"data_offsets":0},' * 200_000), "E_HEADER_SIZE"),
    "ten million lists": (container(b'{"a":[' + b"[]," * 10_000_000 + b"[]]}"), "E_HEADER_SIZE"),
    "header of 33 MB": (container(b"{" + b" " * (33 * 2**20)), "E_HEADER_SIZE"),
}  # fmt: skip


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
    for i in range(0, 640, 8):  # 0x80 0x04 is a header of 1152 bytes; headers are padded to 8
        adapter = Adapter(linear_adapter().layers, {"pad": "x" * i})
        path = adapter.save(tmp_path / "a.safetensors")
        if path.read_bytes()[:2] == b"\x80\x04":
            assert Adapter.load(path) == adapter
            return
    pytest.fail("no such header was made")


def test_a_truncation_at_any_byte_is_refused(tmp_path):
    whole = linear_adapter().save(tmp_path / "a.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        assert refusal(path).code in {"E_TRUNCATED", "E_LAYOUT"}


@pytest.mark.filterwarnings("ignore:.*sshs_model_hash")
@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_any_damage_is_a_refusal_or_harmless_never_a_crash(tmp_path_factory, data):
    path = linear_adapter().save(tmp_path_factory.mktemp("fuzz") / "a.safetensors")
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    message = ""
    try:
        Adapter.load(path)
    except RefusedInputError as error:
        message = str(error)
    assert message.isprintable()


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


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "~/nothing-here"])
def test_paths_that_lead_nowhere(path):
    assert refusal(path).code in {"E_MISSING", "E_NOT_READABLE"}


@pytest.mark.parametrize("path", ["", None, 3, b"bytes"])
def test_what_is_no_path(path):
    for call in (Adapter.load, linear_adapter().save):
        with pytest.raises(UsageError, match="expected a file or folder"):
            call(path)


def test_a_hostile_file_name_is_shown_escaped(tmp_path):
    path = tmp_path / "a\x1b[31m\n.safetensors"
    path.write_bytes(b"")
    assert "a\\x1b[31m\\n.safetensors" in str(refusal(path))


def test_a_file_cut_short_while_being_read(tmp_path, monkeypatch):
    """A19: no mmap, so no SIGBUS."""
    from counterpoise.lora.dialects import reading

    path = linear_adapter(width=20_000).save(tmp_path / "a.safetensors")  # more than is read ahead
    real = reading.stems_of

    def cutting(*args):
        os.truncate(path, path.stat().st_size - 8)
        return real(*args)

    monkeypatch.setattr(reading, "stems_of", cutting)
    assert refusal(path).code == "E_TRUNCATED"


def test_huge_metadata_is_left_out_with_a_warning(tmp_path):
    """A13."""
    big = save_tensors(tmp_path / "big.safetensors", pair(), {"big": "x" * 20_000_000, "title": "t"})
    with pytest.warns(UserWarning, match="ignored 1 of 2 metadata"):
        assert dict(Adapter.load(big).metadata) == {"title": "t"}
    many = save_tensors(tmp_path / "many.safetensors", pair(), {f"k{i}": "" for i in range(100_000)})
    with pytest.warns(UserWarning, match="ignored 100000"):
        assert dict(Adapter.load(many).metadata) == {}

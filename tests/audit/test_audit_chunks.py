"""What a PNG says of itself: any prompt to the letter in ours, A1111's block for others, and safe to read."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from audit_toys import Judge, entering, toy_arm, toy_spec
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from counterpoise.audit import read_chunks, read_run, run_audit
from counterpoise.audit.chunks import picture_chunks
from counterpoise.audit.identity import arm_digest, run_digest
from counterpoise.audit.pictures import png_bytes
from counterpoise.diffusion.arm import Cell

ODD = [
    "\0",
    "a\r\nb",
    "\x1b[1m[/red]",
    "\u202eabc",
    "日本語 é",
    "x" * 10_000,
    'Steps: 1, Seed: 2, "',
    "\U0001f600" * 999,
]
TOLD = {"arm": "a" * 64, "run": "b" * 64, "sampler": "DDIM"}
PICTURE = np.arange(12 * 3, dtype=np.uint8).reshape(3, 4, 3)


def png(path: Path, *chunks: tuple[bytes, bytes]) -> Path:
    """A PNG with raw chunks before its picture data."""
    data = png_bytes(PICTURE)
    raw = b"".join(
        struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks
    )
    path.write_bytes(data[:33] + raw + data[33:])
    return path


@pytest.mark.parametrize("prompt", ODD)
def test_any_prompt_survives_to_the_letter(tmp_path: Path, prompt: str) -> None:
    arm = toy_arm(negative_prompt=prompt, guidance=2.5)
    text = picture_chunks(Cell("base", prompt, 9), arm, size=(4, 3), told=TOLD)
    data = png_bytes(PICTURE, text=text)
    (tmp_path / "x.png").write_bytes(data)
    chunks = read_chunks(tmp_path / "x.png")
    ours = chunks.ours()
    assert chunks.notes == ()
    assert (ours["prompt"], ours["negative_prompt"], ours["seed"], ours["schema"]) == (prompt, prompt, 9, 1)
    (block,) = chunks.all("parameters")
    shown = prompt.replace("\0", "\ufffd")
    assert block == (
        f"{shown}\nNegative prompt: {shown}\n"
        "Steps: 20, Sampler: DDIM, CFG scale: 2.5, Seed: 9, Size: 4x3, Model hash: 0000000000"
    )
    with Image.open(tmp_path / "x.png") as image:
        image.load()
        assert image.text["parameters"] == block
        assert (np.asarray(image) == PICTURE).all()
    assert (
        png_bytes(PICTURE, text=picture_chunks(Cell("base", prompt, 9), arm, size=(4, 3), told=TOLD)) == data
    )


def test_a_runs_pictures_say_what_drew_them(tmp_path: Path) -> None:
    spec = toy_spec(n=2)
    run_audit(spec, [(toy_arm(), entering())], measurer=Judge(), folder=tmp_path / "run")
    with read_run(tmp_path / "run") as evidence:
        for picture in evidence.pictures("base", spec.claims[0].prompts[1]):
            ours = read_chunks(picture.file).ours()
            assert (ours["arm"], ours["prompt"], ours["seed"]) == (
                "base",
                picture.cell.prompt,
                picture.cell.seed,
            )
            assert ours["run_sha256"] == run_digest(evidence.identity)
            assert ours["arm_sha256"] == arm_digest(toy_arm())


def test_two_parameters_chunks_html_and_nan_json_are_all_shown(tmp_path: Path) -> None:
    path = png(
        tmp_path / "x.png",
        (b"tEXt", b"parameters\0first"),
        (b"tEXt", b"parameters\0<script>alert(1)</script>"),
        (b"tEXt", b'workflow\0{"x": NaN}'),
        (b"zTXt", b"packed\0\0" + zlib.compress(b"text")),
        (b"iTXt", b"far\0\1\0\0\0" + zlib.compress("é".encode())),
        (b"tEXt", b"counterpoise\0[1]"),
    )
    chunks = read_chunks(path)
    assert chunks.all("parameters") == ["first", "<script>alert(1)</script>"]
    assert chunks.all("workflow") == ['{"x": NaN}']
    assert (chunks.all("packed"), chunks.all("far")) == (["text"], ["é"])
    assert chunks.ours() is None


BAD = {
    "a bomb": (b"zTXt", b"x\0\0" + zlib.compress(bytes(50_000_000))),
    "no deflate": (b"zTXt", b"x\0\0abc"),
    "half an iTXt": (b"iTXt", b"x\0\0"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_chunk_is_a_note_and_the_others_are_read(tmp_path: Path, what: str) -> None:
    chunks = read_chunks(png(tmp_path / "x.png", BAD[what], (b"tEXt", b"parameters\0good")))
    assert chunks.all("parameters") == ["good"]
    assert "cannot be read" in chunks.notes[0]


def test_what_is_no_png_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "x.html").write_text("<html>")
    whole = png(tmp_path / "x.png", (b"tEXt", b"a\0b"))
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:40])
    assert read_chunks(tmp_path / "x.html").notes == ("not a PNG",)
    assert "cut off" in read_chunks(tmp_path / "cut.png").notes[0]
    assert read_chunks(tmp_path / "none").notes == read_chunks(tmp_path).notes == ("no regular file",)
    assert read_chunks("a\0b").texts == ()


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=80), st.integers(0, 200))
def test_no_bytes_make_the_reader_fail(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.png"
    text = picture_chunks(Cell("base", "é", 9), toy_arm(), size=(4, 3), told=TOLD)
    whole = png_bytes(PICTURE, text=text)
    path.write_bytes(whole[:at] + data + whole[at + len(data) :])
    chunks = read_chunks(path)
    chunks.ours()

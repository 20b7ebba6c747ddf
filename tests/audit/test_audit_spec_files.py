"""The files that a spec names: prompts one a line, confusion cards, and nothing outside the spec's folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from counterpoise.audit import AuditSpec, load_spec
from counterpoise.errors import UsageError

SPEC = 'name = "t"\nn = 4\n[[claim]]\nprompts_file = "prompts.txt"\nattribute = "skin"\n'


def load(folder: Path, prompts: bytes, spec: str = SPEC) -> AuditSpec:
    (folder / "prompts.txt").write_bytes(prompts)
    (folder / "spec.toml").write_text(spec)
    return load_spec(folder / "spec.toml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", [True, False])
def test_prompts_are_read_as_they_stand(tmp_path: Path, encoding: str, newline: str, end: bool) -> None:
    prompts = ["# no comment", " café [/foo] ", "{who} \x1b[1m \u2028 \0 \u202e", "a\rb"]
    text = newline.join(prompts) + newline * end
    assert load(tmp_path, text.encode(encoding)).claims[0].prompts == tuple(prompts)


def test_the_prompts_are_the_runs_identity_and_not_their_files_name(tmp_path: Path) -> None:
    spec = load(tmp_path, b"a\nb\n")
    written = load(tmp_path, b"", SPEC.replace('prompts_file = "prompts.txt"', 'prompts = ["a", "b"]'))
    assert spec == written
    assert "prompts_file" not in str(spec.model_dump(by_alias=True))


BAD = {
    "empty": (b"", "holds no prompts"),
    "only a line's end": (b"\n", "line 1 is blank"),
    "blank line": (b"a\n\nb\n", "line 2 is blank"),
    "blank at the end": (b"a\r\n\r\n", "line 2 is blank"),
    "only spaces": ("a\nb\n \t\u00a0\n".encode(), "line 3 is blank"),
    "repeated": (b"a\nb\r\na\n", r"line 3 repeats line 1 \('a'\)"),
    "long": (b"a\n" + b"b" * 10_001, "line 2 is longer than 10000"),
    "no text": (b"a\n\xff", "not UTF-8 at byte 2"),
    "half a character": ("ab".encode("utf-16")[:-1], "not UTF-16-LE at byte 4"),
    "large": (b"a" * 4_000_001, "more than 4000000 bytes"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_lines_are_refused_by_number(tmp_path: Path, case: str) -> None:
    raw, words = BAD[case]
    with pytest.raises(UsageError, match=words) as caught:
        load(tmp_path, raw)
    assert str(caught.value).startswith(f"{tmp_path / 'prompts.txt'}: ")
    assert (caught.value.exit_code, caught.value.file) == (2, str(tmp_path / "prompts.txt"))


@pytest.mark.parametrize("name", ["../prompts.txt", "/etc/hostname", "~/prompts.txt", "link", "a\\u0000b"])
@pytest.mark.parametrize("key", ["prompts_file", "confusion"])
def test_no_file_outside_the_specs_folder_is_read(tmp_path: Path, name: str, key: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "prompts.txt").write_text("secret\n")
    (inner / "link").symlink_to(tmp_path / "prompts.txt")
    spec = SPEC.replace("prompts.txt", name) if key == "prompts_file" else f'confusion = ["{name}"]\n{SPEC}'
    with pytest.raises(UsageError, match=rf"{key}.*expected a file in the spec's own folder"):
        load(inner, b"a\n", spec)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, words in (
        ("fifo", "not a regular file"),
        (".", "not a regular file"),
        ("absent", "No such file"),
    ):
        with pytest.raises(UsageError, match=words):
            load(tmp_path, b"a\n", SPEC.replace("prompts.txt", name))


def test_a_file_of_prompts_beside_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"claim\[0\].prompts_file is given beside prompts"):
        load(tmp_path, b"a\n", SPEC + 'prompts = ["b"]\n')
    with pytest.raises(UsageError, match=r"claim\[0\].prompts_file is 3"):
        load(tmp_path, b"a\n", SPEC.replace('"prompts.txt"', "3"))


def test_a_confusion_card_is_kept_with_its_digest(tmp_path: Path) -> None:
    card = b'{"skin": []}\n'
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "skin.json").write_bytes(card)
    found = load(tmp_path, b"a\n", 'confusion = ["cards/skin.json"]\n' + SPEC).confusion
    assert [(c.file, c.sha256) for c in found] == [("cards/skin.json", hashlib.sha256(card).hexdigest())]
    with pytest.raises(UsageError, match=r"names 'cards/skin.json' twice"):
        load(tmp_path, b"a\n", 'confusion = ["cards/skin.json", "cards/skin.json"]\n' + SPEC)
    with pytest.raises(UsageError, match=r"confusion\[0\] is \{.*expected the name of a confusion card"):
        load(tmp_path, b"a\n", f'confusion = [{{ file = "x", sha256 = "{"0" * 64}" }}]\n' + SPEC)


@pytest.mark.parametrize("suffix", [".yaml", ".YML", ".json"])
def test_other_formats_are_told_to_be_toml(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"spec{suffix}"
    path.write_text("n: 4\n")
    with pytest.raises(UsageError, match="specs are TOML only") as caught:
        load_spec(path)
    assert caught.value.exit_code == 2

"""A run folder belongs to one spec, one measurer and its arms: anything else is refused with a diff."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from audit_toys import Judge, entering, toy_arm, toy_spec

from counterpoise.audit import read_run, run_audit
from counterpoise.audit.schema import VERSION
from counterpoise.errors import EnvironmentLackError, RefusedInputError, UsageError


def run(folder: Path, spec=None, *, arms=None, measurer=None):
    given = [(arm, entering()) for arm in arms or [toy_arm()]]
    return run_audit(spec or toy_spec(), given, measurer=measurer or Judge(), folder=folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run(tmp_path / "run")
    return tmp_path / "run"


CLAIM = {"prompts": ["a woman", "an avatar [/red] \x1b[1m"], "attribute": "skin", "held_out": True}
CHANGED = {
    "seed": ({"seed": 8}, "seed: 7 -> 8"),
    "smaller n": ({"n": 9}, r"claim\[0\].n: 10 -> 9 \(n may only grow\)"),
    "prompt": (
        {"claim": [{**CLAIM, "prompts": ["a woman", "a man"]}]},
        r"claim\[0\].prompts\[1\]: 'an avatar.*'a man'",
    ),
    "more prompts": ({"claim": [CLAIM, {**CLAIM, "prompts": ["b"]}]}, r"claim\[1\].*absent -> 'skin'"),
    "target": ({"claim": [{**CLAIM, "target": {"pale": 1.0}}]}, r"target: 'uniform' -> absent"),
    "confidence": ({"confidence": 0.9}, "confidence: 0.95 -> 0.9"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_another_spec_is_refused_with_what_changed(folder: Path, case: str) -> None:
    changes, words = CHANGED[case]
    before = sorted(p.stat().st_mtime_ns for p in folder.rglob("*.png"))
    with pytest.raises(UsageError, match=words) as caught:
        run(folder, toy_spec(**changes))
    assert "Use a new folder" in str(caught.value)
    assert sorted(p.stat().st_mtime_ns for p in folder.rglob("*.png")) == before
    assert run(folder).claims


def test_another_measurer_or_arm_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"measurer.version: '1' -> '2'"):
        run(folder, measurer=Judge(version="2"))
    with pytest.raises(UsageError, match=r'another arm "base": guidance: 1.0 -> 2.0'):
        run(folder, arms=[toy_arm(guidance=2.0)])
    with pytest.raises(UsageError, match="adapters"):
        run(folder, arms=[toy_arm(adapters=(("abc", 1.0),))])


@pytest.mark.parametrize("name", ["", "../x", "a b", ".hidden", "x" * 65, "ba\0d"])
def test_arm_names_that_could_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="expected 1 to 64"):
        run(tmp_path / "run", arms=[toy_arm(name)])
    assert not (tmp_path / "run").exists()


def test_two_arms_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two arms are named base"):
        run(tmp_path / "run", arms=[toy_arm(), toy_arm()])


def test_prompts_are_never_paths(tmp_path: Path) -> None:
    prompts = ["../../etc/passwd", "/abs", "A", "a", "\0", "日本語", "x" * 5000]
    run(tmp_path / "run", toy_spec(claim=[{"prompts": prompts, "attribute": "skin", "n": 1}], disparity=[]))
    files = [p.relative_to(tmp_path / "run") for p in tmp_path.rglob("*.png")]
    assert len(files) == len(prompts)
    assert {p.parts[0] for p in files} == {"images"}


def test_a_newer_schema_is_refused(folder: Path) -> None:
    db = sqlite3.connect(folder / "evidence.sqlite")
    db.execute(f"PRAGMA user_version={VERSION + 1}")
    db.close()
    for use in (run, lambda f: read_run(f).__enter__()):
        with pytest.raises(RefusedInputError, match=f"schema version {VERSION + 1}, newer than {VERSION}"):
            use(folder)


def test_files_that_are_no_evidence_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "evidence.sqlite").write_text("not a database, but long enough to be looked at" * 40)
    other = tmp_path / "other"
    other.mkdir()
    db = sqlite3.connect(other / "evidence.sqlite")
    db.execute("CREATE TABLE mine(x)")
    db.close()
    for folder in (tmp_path / "text", other):
        before = (folder / "evidence.sqlite").read_bytes()
        for use in (run, lambda f: read_run(f).__enter__()):
            with pytest.raises(RefusedInputError):
                use(folder)
        assert (folder / "evidence.sqlite").read_bytes() == before


def test_a_folder_of_somebodys_pictures_is_not_swept(tmp_path: Path) -> None:
    album = tmp_path / "images" / "2024" / "summer"
    album.mkdir(parents=True)
    (album / "1.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match="not a run"):
        run(tmp_path)
    assert (album / "1.png").read_bytes() == b"mine"


def test_reading_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"), read_run(tmp_path):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentLackError, match="exists"):
        run(tmp_path / "file")

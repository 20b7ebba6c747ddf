"""A run folder belongs to one spec, one measurer and its arms: anything else is refused with a diff."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from audit_crashes import doomed, in_child
from audit_toys import Judge, draw, entering, toy_arm, toy_spec

from counterpoise.audit import read_run, run_audit, verify_run
from counterpoise.audit.migrate import migrate
from counterpoise.audit.schema import VERSION
from counterpoise.errors import EnvironmentLackError, RefusedInputError, UsageError
from counterpoise.measure.reading import Reading


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


def test_another_environment_is_refused_unless_allowed_and_then_marked(tmp_path: Path) -> None:
    folder, arms = tmp_path / "run", [(toy_arm(), entering())]
    old = {"numpy": "1.0", "threads": 1}
    given = {"measurer": Judge(), "folder": folder}
    run_audit(toy_spec(n=4), arms, environment=old, **given)
    new = {"numpy": "2.0", "threads": 1}
    run_audit(toy_spec(n=4), arms, environment=new, **given)  # nothing to draw: nothing to refuse
    with pytest.raises(UsageError, match=r"another environment: numpy: '1.0' -> '2.0'.*--allow-env-change"):
        run_audit(toy_spec(n=6), arms, environment=new, **given)
    run_audit(toy_spec(n=6), arms, environment=new, allow_env_change=True, **given)
    with read_run(folder) as evidence:
        mix = [(source.environment["numpy"], source.pictures) for source in evidence.sources()]
    assert mix == [("1.0", 2 * 4 + 2 * 6), ("2.0", 2 * 2)]
    assert json.loads((folder / "environment.json").read_text()) == {"environments": [old, new]}
    assert not verify_run(folder).findings


def test_another_batch_size_is_refused_unless_allowed_and_then_marked(tmp_path: Path) -> None:
    folder, sizes = tmp_path / "run", []

    def drawer(prompts, seeds):
        sizes.append(len(prompts))
        if len(sizes) == 3:
            raise KeyboardInterrupt
        return draw(prompts, seeds)

    with pytest.raises(KeyboardInterrupt):
        run_audit(toy_spec(), [(toy_arm(), entering(drawer))], measurer=Judge(), folder=folder)
    arms = [(toy_arm(batch_size=3), entering(drawer))]
    with pytest.raises(UsageError, match=r"batch_size: 4 -> 3.*--allow-env-change"):
        run_audit(toy_spec(), arms, measurer=Judge(), folder=folder)
    next(folder.rglob("7.png")).unlink()
    findings = run_audit(toy_spec(), arms, measurer=Judge(), folder=folder, allow_env_change=True)
    assert set(sizes[3:]) == {3}
    with read_run(folder) as evidence:
        assert [(s.batch_size, s.pictures) for s in evidence.sources()] == [(3, 25), (4, 7)]
    assert not verify_run(folder).findings
    assert findings == run_audit(toy_spec(), arms, measurer=Judge(), folder=tmp_path / "other")


def test_environment_json_names_no_path_host_or_user(folder: Path) -> None:
    text = (folder / "environment.json").read_text()
    (described,) = json.loads(text)["environments"]
    assert described.keys() == {
        *("python", "torch", "diffusers", "transformers", "numpy", "pillow", "counterpoise"),
        *("system", "machine", "processor", "accelerator", "threads"),
    }
    assert "/" not in text
    assert str(Path.home()) not in text


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """A run that schema version 1 made: three pictures in two batches."""
    shutil.copytree(Path(__file__).parent / "run_of_schema_1", tmp_path / "old")
    db = sqlite3.connect(tmp_path / "old" / "evidence.sqlite")
    db.executescript((tmp_path / "old" / "evidence.sql").read_text())
    db.execute("PRAGMA journal_mode=WAL")
    db.close()
    (tmp_path / "old" / "evidence.sql").unlink()
    return tmp_path / "old"


OLD = {"spec": toy_spec(n=3, claim=[{"prompts": ["a woman"], "attribute": "skin"}], disparity=[])}


def test_an_older_schema_is_read_from_a_copy(old_run: Path) -> None:
    before = {p: p.read_bytes() for p in old_run.rglob("*") if p.is_file()}
    with read_run(old_run) as evidence:
        assert evidence.readings("base", "a woman", "skin")[7] == Reading(None, 0.3, "unsure")
        assert evidence.counts(["base"]) == (3, 3)
    assert not verify_run(old_run).findings
    # SQLite makes an index of its log beside a file in WAL mode, and may leave it.
    after = {p: p.read_bytes() for p in old_run.rglob("*") if p.is_file() and "sqlite-" not in p.name}
    assert after == before


def test_an_older_schema_is_migrated_and_extended(old_run: Path) -> None:
    kept = {p: p.read_bytes() for p in old_run.rglob("*.png")}
    spec = toy_spec(n=5, claim=[{"prompts": ["a woman"], "attribute": "skin"}], disparity=[])
    arms = [(toy_arm(batch_size=2), entering())]
    with pytest.raises(UsageError, match="another environment: recorded"):
        run_audit(spec, arms, measurer=Judge(), folder=old_run)
    findings = run_audit(spec, arms, measurer=Judge(), folder=old_run, allow_env_change=True)
    assert {p: p.read_bytes() for p in kept} == kept
    assert findings == run_audit(spec, arms, measurer=Judge(), folder=old_run.with_name("new"))
    assert not verify_run(old_run).findings
    db = sqlite3.connect(old_run / "evidence.v1.sqlite")
    assert db.execute("SELECT count(*) FROM observation").fetchone() == (6,)
    db.close()


def test_a_migration_killed_at_any_step_leaves_the_old_or_the_new(old_run: Path, tmp_path: Path) -> None:
    for point in range(1, 200, 3):
        folder = tmp_path / f"killed-{point}"
        shutil.copytree(old_run, folder)
        if in_child(doomed(lambda folder=folder: migrate(folder), point)) == 0:
            break
        migrate(folder)
        assert not verify_run(folder).findings
        with read_run(folder) as evidence:
            assert evidence.counts(["base"]) == (3, 3)
    assert point > 40


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


@pytest.mark.parametrize("inside", ["", "runs/mine"])
def test_a_models_folder_is_no_place_for_a_run(tmp_path: Path, inside: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text("{}")
    with pytest.raises(UsageError, match="holds a model, which is input"):
        run(tmp_path / "model" / inside)
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["model_index.json"]


def test_a_run_among_another_runs_pictures_or_through_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pictures of another run"):
        run(folder / "images" / "mine")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "images").symlink_to(folder / "images")
    shutil.copy(folder / "evidence.sqlite", tmp_path / "linked")
    with pytest.raises(UsageError, match="link to elsewhere"):
        run(tmp_path / "linked")
    run(folder / "a run within a run")


def test_a_path_too_long_is_exit_6_before_any_drawing(tmp_path: Path) -> None:
    def never(prompts, seeds):
        raise AssertionError("drawn")

    deep = tmp_path.joinpath(*["d" * 200] * 19)
    deep = deep / ("e" * (4060 - len(str(deep)) - 1))
    deep.mkdir(parents=True)
    with pytest.raises(EnvironmentLackError):
        run_audit(toy_spec(), [(toy_arm(), entering(never))], measurer=Judge(), folder=deep)


def test_reading_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"), read_run(tmp_path):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentLackError):
        run(tmp_path / "file" / "below")
    with pytest.raises(EnvironmentLackError, match="exists"):
        run(tmp_path / "file")

"""`verify_run` is silent about what was drawn, and names whatever was changed since."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_crashes import audit
from audit_toys import Judge, entering, toy_arm, toy_spec

from counterpoise.audit import read_run, root_digest, run_audit, store, verify_run
from counterpoise.errors import RefusedInputError

SPEC = toy_spec(n=3, claim=[{"prompts": ["a woman", "[/red]\x1b[1m\0"], "attribute": "skin"}], disparity=[])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify") / "run"
    audit(folder, [toy_arm(batch_size=2)], spec=SPEC)
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def edit(statement: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        db = sqlite3.connect(folder / "evidence.sqlite")
        db.executescript(statement)
        db.close()

    return apply


def picture(folder: Path) -> Path:
    return folder / "images" / "1-base" / "0001-a-woman" / "8.png"


def altered(folder: Path) -> None:
    data = bytearray(picture(folder).read_bytes())
    data[60] ^= 1
    picture(folder).write_bytes(data)


def relinked(folder: Path) -> None:
    shutil.move(picture(folder), folder / "elsewhere.png")
    picture(folder).symlink_to(folder / "elsewhere.png")


def retold(folder: Path) -> None:
    said = json.loads((folder / "results.json").read_text())
    said["evidence"]["root"] = "0" * 64
    (folder / "results.json").write_text(json.dumps(said))


CELL = "(SELECT cell FROM observation WHERE value = 'pale' ORDER BY cell LIMIT 1)"
NEW_PICTURE = (
    "INSERT INTO cell(batch, slot, arm, prompt, seed) VALUES (2, 7, 1, 1, 99);"
    "INSERT INTO picture SELECT 7, 'images/1-base/0001-a-woman/99.png', size, sha256, pixels, 1, digest"
    " FROM picture WHERE cell = 1"
)
CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a value": (
        edit(f"UPDATE observation SET value = 'dark' WHERE cell = {CELL} AND attribute = 'skin'"),
        "edited row: arm base, prompt 'a woman', seed ",
    ),
    "a confidence": (edit(f"UPDATE observation SET confidence = 0.5 WHERE cell = {CELL}"), "edited row"),
    "a reason": (edit("UPDATE observation SET reason = 'x' WHERE reason = 'unsure'"), "edited row"),
    "an observation gone": (edit("DELETE FROM observation WHERE cell = 3"), "edited row"),
    "an observation more": (edit("INSERT INTO observation VALUES (3, 'hair', 'x', 1, '')"), "foreign row"),
    "a value of no judge": (edit(f"UPDATE observation SET value = 'x' WHERE cell = {CELL}"), "foreign row"),
    "a blob": (edit(f"UPDATE observation SET reason = x'00ff' WHERE cell = {CELL}"), "edited row"),
    "a seed": (edit("UPDATE cell SET seed = 99 WHERE id = 2"), "edited row"),
    "two seeds exchanged": (
        edit(
            "UPDATE cell SET seed = -1 WHERE id = 2; UPDATE cell SET seed = 8 WHERE id = 3;"
            "UPDATE cell SET seed = 9 WHERE id = 2"
        ),
        "edited plan: round 1",
    ),
    "a prompt": (edit("UPDATE prompt SET text = 'a man' WHERE id = 1"), "edited row"),
    "a sha256": (edit("UPDATE picture SET sha256 = 'ff' WHERE cell = 2"), "edited picture"),
    "a file's name": (
        edit("UPDATE picture SET file = '/etc/passwd' WHERE cell = 2"),
        "is given as '/etc/passwd'",
    ),
    "an environment": (edit("UPDATE environment SET description = '{}'"), "edited row"),
    "a picture's row gone": (
        edit("DELETE FROM observation WHERE cell = 2; DELETE FROM picture WHERE cell = 2"),
        "edited batch: arm base, batch 0",
    ),
    "a cell gone": (
        edit(
            "DELETE FROM observation WHERE cell = 2; DELETE FROM picture WHERE cell = 2;"
            "DELETE FROM cell WHERE id = 2"
        ),
        "edited plan",
    ),
    "a foreign picture": (edit(NEW_PICTURE), "missing picture: images/1-base/0001-a-woman/99.png"),
    "a batch's digest": (edit("UPDATE batch SET digest = 'ff' WHERE id = 1"), "edited batch"),
    "a batch undone": (edit("UPDATE batch SET digest = NULL WHERE id = 1"), "changed run: its seal"),
    "an arm": (edit("""UPDATE arm SET identity = replace(identity, '20', '21')"""), "changed run: its seal"),
    "the spec": (edit("""UPDATE run SET value = replace(value, '0.95', '0.5')"""), "changed run: its seal"),
    "the seal": (edit("UPDATE run SET value = 'ff' WHERE key = 'root'"), "changed run: its seal is 'ff'"),
    "a trigger": (
        edit("CREATE TRIGGER t AFTER INSERT ON picture BEGIN SELECT 1; END"),
        "changed schema: trigger t",
    ),
    "a dangling row": (
        edit("INSERT INTO observation VALUES (77, 'skin', 'pale', 1, '')"),
        "foreign row: table observation",
    ),
    "a pixel": (altered, "edited picture: images/1-base/0001-a-woman/8.png"),
    "a file gone": (lambda folder: picture(folder).unlink(), "missing picture"),
    "a file more": (
        lambda folder: shutil.copy(picture(folder), picture(folder).with_name("88.png")),
        "extra",
    ),
    "a file for a link": (relinked, "it is a link"),
    "the identity": (
        edit("UPDATE run SET value = '[' WHERE key = 'identity'"),
        "edited row: the run's identity cannot be read",
    ),
    "the results": (retold, "changed run: results.json was told from"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_change_is_found(run: Path, what: str) -> None:
    change, words = CHANGES[what]
    change(run)
    lines = [finding.line() for finding in verify_run(run).findings]
    assert any(words in line for line in lines), lines
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("what", ["a value", "an observation gone", "a batch's digest", "a cell gone"])
def test_edited_rows_are_not_drawn_on(run: Path, what: str) -> None:
    CHANGES[what][0](run)
    with pytest.raises(RefusedInputError, match=r"changed since it was drawn.*counterpoise verify"):
        run_audit(SPEC, [(toy_arm(batch_size=2), entering())], measurer=Judge(), folder=run)


def test_an_untouched_run_is_clean_and_its_root_is_the_told_one(run: Path) -> None:
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and "sqlite-" not in p.name}
    verdict = verify_run(run)
    assert verdict.findings == ()
    assert (verdict.sealed, verdict.batches, verdict.drawn, verdict.pictures) == (True, 3, 3, 6)
    with read_run(run) as evidence:
        assert verdict.root == root_digest(evidence)
    assert json.loads((run / "results.json").read_text())["evidence"]["root"] == verdict.root
    assert {p: p.read_bytes() for p in before} == before


def test_the_root_is_the_same_for_the_same_evidence_and_no_other(whole: Path, tmp_path: Path) -> None:
    audit(tmp_path / "again", [toy_arm(batch_size=2)], spec=SPEC)
    audit(tmp_path / "other", [toy_arm(batch_size=3)], spec=SPEC)
    roots = [verify_run(folder).root for folder in (whole, tmp_path / "again", tmp_path / "other")]
    assert roots[0] == roots[1] != roots[2]


def test_a_run_at_work_is_clean_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while a batch's files are written and its rows are not."""
    found = []
    write = store.write_pictures

    def watched(folder: Path, named) -> None:
        found.append(verify_run(folder).findings)
        write(folder, named)
        found.append(verify_run(folder).findings)

    monkeypatch.setattr(store, "write_pictures", watched)
    audit(tmp_path / "run", spec=SPEC)
    assert len(found) == 12
    assert set(found) == {()}


def test_an_unfinished_run_is_clean_and_not_sealed(tmp_path: Path) -> None:
    def stopping(prompts, seeds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_audit(SPEC, [(toy_arm(), entering(stopping))], measurer=Judge(), folder=tmp_path / "run")
    verdict = verify_run(tmp_path / "run")
    assert (verdict.findings, verdict.sealed, verdict.drawn) == ((), False, 0)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_a_file_cut_short_is_refused_in_one_line(run: Path, share: float) -> None:
    data = (run / "evidence.sqlite").read_bytes()
    (run / "evidence.sqlite").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(RefusedInputError, match=r"evidence\.sqlite is damaged"):
        verify_run(run)

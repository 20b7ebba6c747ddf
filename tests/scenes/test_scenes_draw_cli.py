"""`counterpoise scene draw | audit` from the command line: a whole way on the world, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from scene_plans import plan_of
from typer.testing import CliRunner

from counterpoise.cli.app import app
from counterpoise.errors import CounterpoiseError
from counterpoise.scenes import embed, save_plan

FAST = ("--steps", "2", "--batch-size", "2")


def scene(*words: object) -> tuple[int, str]:
    """(exit code, stdout); a refusal's text is its code and message."""
    done = CliRunner().invoke(app, ["scene", *map(str, words)])
    if isinstance(done.exception, CounterpoiseError):
        return done.exception.exit_code, f"{done.exception.code} {done.exception}"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of the shipped world, drawn from a prompt and mended by its reader."""
    out = tmp_path_factory.mktemp("scenes") / "drawn"
    code, said = scene(
        "draw", "a multiracial team", "--people", 2, "--pictures", 2, "--seed", 4, *FAST, "--out", out
    )
    assert code == 0
    assert "2 pictures" in said
    assert "as first drawn" in said
    return out


def test_a_prompt_becomes_pictures_a_sheet_and_a_log(drawn: Path) -> None:
    assert sorted(path.name for path in drawn.iterdir()) == [
        "attempts.json",
        "scene-00000.png",
        "scene-00001.png",
        "sheet.png",
    ]
    log = json.loads((drawn / "attempts.json").read_text())
    assert log["way"]["judge"].startswith("world ")
    assert {row["attempt"] for row in log["pictures"][0]["tries"]} >= {0}
    with Image.open(drawn / "sheet.png") as sheet:
        assert sheet.width >= 2 * 128
    code, shown = scene("show", drawn / "scene-00000.png")
    assert code == 0
    assert "p1  a picture of a" in shown


def test_what_is_there_is_not_drawn_again_and_a_picture_is_its_own_plan(drawn: Path, tmp_path: Path) -> None:
    before = (drawn / "scene-00001.png").read_bytes()
    code, said = scene("draw", drawn, *FAST, "--out", drawn, "--json")
    assert code == 0
    assert json.loads(said)["drawn_now"] == 0
    code, said = scene("draw", drawn / "scene-00001.png", *FAST, "--out", tmp_path, "--json")
    assert json.loads(said)["drawn_now"] == 1
    assert (tmp_path / "scene-00001.png").read_bytes() == before
    code, said = scene("draw", drawn, "--steps", 3, "--out", drawn)
    assert (code, said.split()[0]) == (2, "E_SCENE_EXISTS")


def test_an_audit_reads_a_folder_and_a_plan_and_ends_as_its_bars_say(drawn: Path, tmp_path: Path) -> None:
    code, said = scene("audit", drawn, "--out", tmp_path / "a", "--json")
    assert code == 0
    found = json.loads(said)
    assert found["pictures"] == 2
    assert found == json.loads((tmp_path / "a" / "audit.json").read_text())
    assert "errors among them" in found["notes"][0]
    page = (tmp_path / "a" / "report.html").read_text()
    assert "Scenes, box by box" in page
    assert "not measured" in page
    assert "<script" not in page
    assert page.count("data:image/") == 2
    code, said = scene("audit", drawn, "--out", tmp_path / "a", "--deviation", 1, "--correct", 1)
    assert code in (1, 3)  # two pictures cannot show that every box is right
    assert "passed       deviation skin, bar 1" in said
    plan = tmp_path / "plan.json"
    assert scene("plan", "3 women", "--profile", "world", "--out", plan)[0] == 0
    code, said = scene("audit", plan, *FAST, "--no-repair", "--out", tmp_path / "b", "--time")
    assert code == 0
    assert (tmp_path / "b" / "pictures" / "plan.png").exists()
    assert "calls 3 people" in said


def test_a_scaled_picture_is_not_audited(drawn: Path, tmp_path: Path) -> None:
    from counterpoise.scenes import load_plan

    small = tmp_path / "small.png"
    with Image.open(drawn / "scene-00000.png") as picture:
        picture.resize((80, 32)).save(small)
    small.write_bytes(embed(small.read_bytes(), load_plan(drawn / "scene-00000.png")))
    code, said = scene("audit", small, "--out", tmp_path / "a")
    assert (code, said.split()[0]) == (4, "E_SCENE_SIZE")


def files(folder: Path) -> None:
    plan = plan_of({"role": "captain"}, {"role": "captain"}, canvas={"width": 128, "height": 64})
    save_plan(folder / "plain.json", plan)
    save_plan(folder / "canvas.json", plan_of({}, {}, canvas={"width": 36, "height": 17}))
    (folder / "broken.json").write_text('{"version": "1", "people": [')
    edited = json.loads((folder / "plain.json").read_text())
    edited["people"][0]["box"] = [0.5, 0.0, 1.5, 1.0]
    (folder / "outside.json").write_text(json.dumps(edited))
    Image.new("RGB", (32, 16)).save(folder / "bare.png")
    (folder / "cut.png").write_bytes((folder / "bare.png").read_bytes()[:40])
    (folder / "empty").mkdir()


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (("a team", "--people", "0"), "E_SCENE_PEOPLE", 2),
        (("a team", "--people", "60"), "E_SCENE_PEOPLE", 2),
        (("five women", "--share", "skim: dark 1"), "E_SCENE_ATTRIBUTE", 2),
        (("a team", "--people", "5", "--share", "skin: dark 1/2, tan 1/3"), "E_SCENE_SHARE", 2),
        (("broken.json",), "E_PLAN_JSON", 2),
        (("outside.json",), "E_PLAN_BOX", 2),
        (("missing.json",), "E_PLAN_FILE", 2),
        (("empty",), "E_PLAN_FILE", 2),
        (("bare.png",), "E_PLAN_PICTURE", 4),
        (("cut.png",), "E_PLAN_PICTURE", 4),
        (("missing.json", "--people", "5"), "E_PLAN_FILE", 2),
        (("plain.json", "--people", "5"), "E_SCENE_PROMPT", 2),
        (("plain.json", "--at-least-one"), "E_SCENE_PROMPT", 2),
        (("plain.json",), "E_ATTRIBUTE", 2),
        (("plain.json", "--model", "nowhere"), "E_MODEL_MISSING", 2),
        (("plain.json", "--model", "nowhere", "--repair"), "E_MEASURER", 2),
        (("plain.json", "--judge", "wrold"), "E_MEASURER", 2),
        (("plain.json", "--no-repair", "--dtype", "int8"), "E_CARD", 2),
        (("canvas.json", "--no-repair"), "E_CANVAS", 2),
        (("plain.json", "plain.json", "--no-repair"), "E_SCENE_NAMES", 2),
    ],
)
def test_bad_requests_to_draw_are_refused_and_nothing_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: str, exit_code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    files(tmp_path)
    assert scene("draw", *words, *FAST, "--out", "out")[0] == exit_code
    assert scene("draw", *words, *FAST, "--out", "out")[1].split()[0] == code
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (("bare.png",), "E_PLAN_PICTURE", 4),
        (("empty",), "E_PLAN_FILE", 2),
        (("a team of five",), "E_PLAN_FILE", 2),
        (("plain.json", "--model", "nowhere"), "E_MEASURER", 2),
        (("plain.json", "--no-repair", "--rate", "skim=dark by role"), "E_SCENE_RATE", 2),
    ],
)
def test_bad_requests_to_audit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: str, exit_code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    files(tmp_path)
    found, said = scene("audit", *words, *FAST, "--out", "out")
    assert (found, said.split()[0]) == (exit_code, code)


WITHOUT_TORCH = """
import sys
from counterpoise.cli import main
try:
    main()
finally:
    assert "torch" not in sys.modules, "a bad plan must not wait for torch"
"""


@pytest.mark.parametrize("verb", ["draw", "audit"])
def test_a_bad_plan_is_one_line_before_torch_is_loaded(tmp_path: Path, verb: str) -> None:
    files(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "scene", verb, "outside.json", "--out", "out", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert json.loads(done.stdout)["error"]["code"] == "E_PLAN_BOX"

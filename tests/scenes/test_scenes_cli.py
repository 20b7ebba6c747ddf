"""`counterpoise scene plan | show`: files, tables, JSON; refusals are one line with the right exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from tests.scenes.conftest import Served
from typer.testing import CliRunner

from counterpoise.cli.app import app
from counterpoise.errors import CounterpoiseError
from counterpoise.scenes import embed, load_plan

TEAM = "a multiracial female basketball team"
SHARES = ("--share", "skin: dark 2/5, tan 1/5, light 1/5, pale 1/5")


def scene(*words: str) -> tuple[int, str]:
    """(exit code, stdout); a refusal's text is its code and message."""
    done = CliRunner().invoke(app, ["scene", *words])
    if isinstance(done.exception, CounterpoiseError):
        return done.exception.exit_code, f"{done.exception.code} {done.exception}"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def test_a_plan_is_written_drawn_shown_and_continued(tmp_path: Path) -> None:
    out, svg, state = tmp_path / "plan.json", tmp_path / "plan.svg", tmp_path / "quota.json"
    words = ("plan", TEAM, "--people", "5", *SHARES, "--profile", "world", "--seed", "7")
    code, said = scene(*words, "--out", str(out), "--svg", str(svg), "--state", str(state))
    assert code == 0
    assert "5 a multiracial female basketball team | skin: dark 2, tan 1, light 1, pale 1" in said
    assert "a female basketball player with tan skin" in said
    plan = load_plan(out)
    assert plan.allocation.method == "tijdeman"
    assert (plan.canvas.width, plan.canvas.height) == (192, 128)
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    code, said = scene(*words, "--state", str(state), "--json")
    again = json.loads(said)
    assert again["plans"][0]["allocation"]["start_index"] == 5
    assert json.loads(state.read_text())["people"] == 10
    code, shown = scene("show", str(out))
    assert code == 0
    assert "p5  a picture of a female basketball player with" in shown
    picture = tmp_path / "team.png"
    Image.new("RGB", (8, 8)).save(picture)
    picture.write_bytes(embed(picture.read_bytes(), plan))
    assert json.loads(scene("show", str(picture), "--json")[1]) == plan.model_dump(mode="json")


def test_many_pictures_are_a_folder_and_a_table(tmp_path: Path) -> None:
    words = ("plan", "a team", "--people", "4", "--share", "skin: dark 1/2, tan 1/2", "--profile", "world")
    code, said = scene(
        *words, "--pictures", "6", "--out", str(tmp_path / "plans"), "--svg", str(tmp_path / "drawn")
    )
    assert code == 0
    assert len([load_plan(path) for path in sorted((tmp_path / "plans").iterdir())]) == 6
    assert len(list((tmp_path / "drawn").iterdir())) == 6
    assert "skin  1  2  3  4  all" in said
    assert "dark  3  3  3  3   12" in said


def test_vague_words_and_fall_backs_are_shown_before_the_plan(served: Served) -> None:
    served.answers = lambda n, body: (200, "I would rather talk.")
    code, said = scene(
        "plan", TEAM, "--people", "3", "--llm", served.url, "--model", "tiny", "--profile", "world"
    )
    lines = said.splitlines()
    assert code == 0
    assert lines[0].startswith("note: 'multiracial' is taken for skin: pale 1/5")
    assert "words are templates', since the reply holds no JSON object" in lines[1]


def test_the_schema_is_printed() -> None:
    assert json.loads(scene("plan", "--schema")[1])["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("a team", "--people", "0"), "E_SCENE_PEOPLE"),
        (("a team", "--people", "60"), "E_SCENE_PEOPLE"),
        (("a team",), "E_SCENE_PEOPLE"),
        ((), "E_SCENE_PROMPT"),
        (("a team", "--people", "5", "--share", "skin: dark 1/2, light 1/3"), "E_SCENE_SHARE"),
        (("a team", "--people", "5", "--share", "skim: dark 1"), "E_SCENE_ATTRIBUTE"),
        (("a team", "--people", "5", "--share", "skin: drak 1"), "E_SCENE_VALUE"),
        (("a team", "--people", "2", "--share", "skin: mixed", "--at-least-one"), "E_SCENE_EACH"),
        (("Marie Curie with friends", "--people", "3", "--share", "skin: mixed"), "E_SCENE_LEFT_ALONE"),
        (("1943 german soldiers, diverse", "--people", "3"), "E_SCENE_LEFT_ALONE"),
        (("a team", "--people", "5", "--profile", "sd14"), "E_SCENE_PROFILE"),
        (("a team", "--people", "5", "--seed", "-1"), "E_SCENE_SEED"),
        (("a team", "--people", "5", "--pictures", "0"), "E_SCENE_PICTURES"),
        (("a team", "--people", "5", "--llm", "nowhere", "--model", "m"), "E_SCENE_LLM"),
        (("a team", "--people", "5", "--model", "m"), "E_SCENE_LLM"),
        (("a team", "--people", "5", "--llm", "http://h/v1", "--local-llm", "f"), "E_SCENE_LLM"),
        (("a team", "--people", "5", "--words", "missing.toml"), "E_SCENE_WORDS"),
    ],
)
def test_bad_requests_are_usage_errors(tmp_path: Path, words: tuple[str, ...], code: str) -> None:
    out = tmp_path / "plan.json"
    exit_code, said = scene("plan", *words, "--out", str(out))
    assert (exit_code, said.split()[0]) == (2, code)
    assert not out.exists()


WITHOUT_TORCH = """
import sys
import counterpoise.scenes as scenes
from counterpoise.cli import main
scenes.plan_scene(scenes.scene_request("a team", people=2, shares=["hair: mixed"]))
try:
    main()
finally:
    assert "torch" not in sys.modules, "planning must not wait for torch"
"""


def test_a_refusal_is_one_line_and_json_where_asked_and_nothing_needs_torch(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"version": "1", "people": NaN}')
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "scene", "show", "plan.json", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "NaN" in done.stderr
    assert json.loads(done.stdout)["error"]["code"] == "E_PLAN_JSON"


def test_what_the_user_wrote_is_shown_literally() -> None:
    code, said = scene("plan", "a team [/foo] [red] \x1b[31m\u202e", "--people", "2", "--profile", "world")
    assert code == 0
    assert "[/foo] [red] \\x1b[31m\\u202e" in said
    assert "\x1b" not in said

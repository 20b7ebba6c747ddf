"""`counterpoise compare MODEL --goal`: remedies on the embedded world, small; and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from counterpoise.cli import main

GOAL = """
templates = ["a picture of {}", "a drawing of {}"]
held_out = ["a portrait of {}"]
[[edit]]
neutral = "a boss"
attribute = "presentation"
variants = [
    { phrase = "a female boss", reads = "woman", share = 0.5 },
    { phrase = "a male boss", reads = "man", share = 0.5 },
]
"""


@pytest.fixture
def goal(tmp_path: Path) -> Path:
    file = tmp_path / "goal.toml"
    file.write_text(GOAL)
    return file


def ended(monkeypatch: pytest.MonkeyPatch, *options: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["counterpoise", "compare", *options])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


def test_the_planner_is_compared_on_one_page(
    goal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["world", "--goal", str(goal), "--remedy", "planner", "--out", str(out), "--n", "8"]
    assert ended(monkeypatch, *options, "--steps", "4", "--batch-size", "8", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    base, planner = told["outcomes"]
    assert [base["name"], planner["name"]] == ["base", "planner"]
    assert base["held_out"][0] > 0.25  # as planted: bosses are men
    assert planner["held_out"][0] == 0.0  # four and four
    assert planner["cost"]["nbytes"] == 0
    assert json.loads((out / "comparison.json").read_text()) == told
    assert "Remedies side by side" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["world", "--remedy", "prayer"], "remedy 'prayer' is unknown"),
        (["world", "--remedy", "planner", "--trial", "distil"], "is not one of the remedies compared"),
        (["world", "elsewhere"], "name one MODEL"),
        (["world", "--arms", "a,b"], "name one MODEL"),
        (["somewhere", "--remedy", "planner"], "name a judge with --judge"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    options: list[str],
    said: str,
    goal: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ended(monkeypatch, *options, "--goal", str(goal)) == 2
    told = capsys.readouterr().err
    assert said in " ".join(told.split())


def test_options_of_remedies_need_a_goal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, str(tmp_path), "--remedy", "planner") == 2
    assert "name a goal with --goal" in " ".join(capsys.readouterr().err.split())

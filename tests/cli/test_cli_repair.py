"""`counterpoise repair` on the embedded world: killed, gone on with, its card; and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from counterpoise.cli import main

COMMAND = [sys.executable, "-c", "from counterpoise.cli import main; main()", "repair"]
GOAL = """
templates = ["a picture of {}", "a drawing of {}"]
held_out = ["a portrait of {}"]
keep = ["a man"]
[[edit]]
neutral = "a boss"
attribute = "presentation"
variants = [
    { phrase = "a female boss", reads = "woman", share = 0.5 },
    { phrase = "a male boss", reads = "man", share = 0.5 },
]
"""


def goal_file(folder: Path, text: str = GOAL) -> Path:
    file = folder / "goal.toml"
    file.write_text(text)
    return file


def run(*options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, options)], capture_output=True, text=True, check=False)


@pytest.mark.timeout(900)
def test_killed_and_run_again_it_ends_with_a_card(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["world", "--goal", goal_file(tmp_path), "--out", out, "--method", "planner", "--n", "16"]
    options += ["--steps", "4", "--batch-size", "16", "--fast", "--json"]
    process = subprocess.Popen([*COMMAND, *map(str, options)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 200
    while not any(out.glob("audit/images/*/*/*.png")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "card.json").exists()
    ended = run(*options)
    assert ended.returncode == 3, ended.stderr  # 16 pictures certify nothing: not shown
    card = json.loads(ended.stdout)
    assert card == json.loads((out / "card.json").read_text())
    assert (card["verdict"], card["method"]) == ("not shown", "planner")
    (held,) = (row for row in card["evidence"] if row["held_out"])
    assert held["before"]["distance"] > 0.3  # as planted
    assert held["after"]["shares"] == {"woman": 0.5, "man": 0.5}
    assert (out / "audit" / "report.html").exists()
    assert "s an image" in ended.stderr
    assert "after: 'a picture of a female boss'" in ended.stderr
    assert str(tmp_path) not in (out / "card.md").read_text() + (out / "card.json").read_text()


@pytest.mark.parametrize(
    ("options", "text", "exit_code", "said"),
    [
        (["world"], GOAL.replace("0.5", "0.0", 1), 2, "greater than 0"),
        (["world"], GOAL.replace('held_out = ["a portrait of {}"]', ""), 2, "holds no template out"),
        (["world", "--method", "distill"], GOAL, 2, "did you mean"),
        (["/nowhere"], GOAL, 2, "name a judge with --judge"),
        (["world", "--method", "negative", "--guidance", "1"], GOAL, 2, "cannot act here"),
        (["world"], GOAL.replace('reads = "man"', 'reads = "men"'), 2, "not a value of presentation"),
    ],
)
def test_what_is_refused_is_one_line_with_a_next_step(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    text: str,
    exit_code: int,
    said: str,
) -> None:
    named = ["--goal", str(goal_file(tmp_path, text)), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["counterpoise", "repair", *options, *named])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == exit_code
    line = capsys.readouterr().err
    assert said in line
    assert len(line.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()

"""`counterpoise gate`: the exit codes that a CI reads, and output that survives any terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from counterpoise.cli.app import app
from counterpoise.errors import RefusedInputError, UsageError

PROMPT = "a b\u00f6ss [/red] \u001b[1m <b> | `x`"


def results(low: float, high: float) -> str:
    effect = {"value": low, "low": low, "high": high, "n": 400, "method": "by hand"}
    found = {
        **{
            "id": "claim[0]/0/base",
            "kind": "claim",
            "where": "claim[0]",
            "arm": "base",
            "against": "uniform",
        },
        **{"prompts": [PROMPT], "attribute": "skin", "value": "", "group": None, "reference": None},
        **{"scope": "prompt", "held_out": False, "tolerance": 0.05, "n": 400, "abstained": 0},
        **{"effect_name": "total variation", "effect": effect, "log_e_biased": 0.0, "log_e_fair": 0.0},
        **{"alone": "undecided", "decision": "undecided", "path": [[8, 0.1]], "method": "by hand"},
    }
    covered = {"arm": "base", "planned": 400, "drawn": 400, "blank": 0, "failed": 0, "duplicates": 0}
    rest: dict[str, object] = {"claims": [], "rates": [], "disparities": [], "coverage": [covered]}
    return json.dumps({"schema": 1, "findings": [found], **rest})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, (low, high) in {"good": (0.0, 0.1), "bad": (0.5, 0.6), "open": (0.05, 0.2)}.items():
        Path(f"{name}.json").write_text(results(low, high))
    Path("policy.toml").write_text("[[rule]]\nkind = 'claim'\nmax_effect = 0.1\n")
    return tmp_path


@pytest.mark.parametrize(("name", "code"), [("good", 0), ("bad", 1), ("open", 3)])
def test_exit_codes_and_files(folder: Path, name: str, code: int) -> None:
    words = ["gate", f"{name}.json", "--policy", "policy.toml"]
    done = CliRunner().invoke(app, [*words, "--junit", "out/j.xml", "--markdown", "out/m.md"])
    assert done.exit_code == code, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(("passed", "failed", "undecided")[(0, 1, 3).index(code)])
    assert "\\x1b" in lines[0]
    assert Path("out/j.xml").read_text("utf-8").startswith("<?xml")
    assert Path("out/m.md").read_text("utf-8").startswith("## Counterpoise gate")
    as_json = CliRunner().invoke(app, [*words, "--json"])
    assert as_json.exit_code == code
    told = json.loads(as_json.stdout)
    assert (told["exit_code"], len(told["rules"]), told["rules"][0]["worst"]["n"]) == (code, 2, 400)


def test_a_bad_policy_or_run_is_not_a_verdict(folder: Path) -> None:
    def refused(kind: type[Exception], *words: str) -> None:
        with pytest.raises(kind):
            CliRunner().invoke(app, ["gate", *words], catch_exceptions=False)

    Path("nan.toml").write_text("[[rule]]\nkind = 'claim'\nmax_effect = nan\n")
    Path("cut.json").write_text(results(0.0, 0.1)[:-20])
    refused(UsageError, "good.json", "--policy", "nan.toml")
    refused(UsageError, "absent", "--policy", "policy.toml")
    refused(RefusedInputError, "cut.json", "--policy", "policy.toml")


def test_a_narrow_terminal_without_letters_or_colours_shows_it_all(folder: Path) -> None:
    command = [sys.executable, "-c", "from counterpoise.cli import main; main()", "gate", "bad.json"]
    narrow = {"COLUMNS": "20", "NO_COLOR": "1", "LANG": "C", "TERM": "dumb", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*command, "--policy", "policy.toml"],
        env={**os.environ, **narrow},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, b"")
    text = done.stdout.decode("ascii")
    assert len(text.splitlines()) == 3
    assert "b\\xf6ss [/red] \\x1b[1m" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(("name", "code", "words"), [("good", 0, ["--json"]), ("bad", 1, [])])
def test_a_reader_that_went_away_does_not_change_the_answer(
    folder: Path, name: str, code: int, words: list[str]
) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", "from counterpoise.cli import main; main()", "gate", f"{name}.json"]
    done = subprocess.run(
        [*command, "--policy", "policy.toml", *words],
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=120,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (code, b"")

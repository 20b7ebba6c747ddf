"""Bad input from the command line: one line, the right exit code, nothing lost, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SPEC = """
name = "t"
measurer = "world"
n = 2
[drawing]
guidance = 2.0
steps = 2
batch_size = 2
[[claim]]
prompts = ["a portrait of a woman"]
attribute = "skin"
"""


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from counterpoise.cli import main; main()", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("change", "words", "exit_code", "said"),
    [
        (("skin", "skim"), (), 2, "skin"),
        (('attribute = "skin"', 'attribute = "skin"\ntarget = { pale = 0.5, dark = 0.4 }'), (), 2, "0.9"),
        (("n = 2", "n = 0"), (), 2, "n"),
        (("name", "nmae"), (), 2, "name"),
        (("", ""), ("--model", "nowhere"), 2, "no model at nowhere"),
        (("", ""), ("--adapter", "cut.safetensors"), 4, "cut.safetensors"),
    ],
)
def test_refusals(
    tmp_path: Path, change: tuple[str, str], words: tuple[str, ...], exit_code: int, said: str
) -> None:
    (tmp_path / "spec.toml").write_text(SPEC.replace(*change) if change[0] else SPEC)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    done = run("audit", "spec.toml", "--out", "run", *words, cwd=tmp_path)
    assert done.returncode == exit_code, done.stderr
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.startswith("counterpoise: ")
    assert done.stderr.count("\n") == 1
    as_json = run("audit", "spec.toml", "--out", "run", "--json", *words, cwd=tmp_path)
    assert as_json.returncode == exit_code
    error = json.loads(as_json.stdout)["error"]
    assert set(error) == {"code", "file", "detail"}


def test_unknown_verbs_and_options_are_usage(tmp_path: Path) -> None:
    assert run("dmeo", cwd=tmp_path).returncode == 2
    assert run("demo", "--fsat", cwd=tmp_path).returncode == 2
    assert run("--help", cwd=tmp_path).returncode == 0


def test_an_audit_runs_resumes_and_refuses_another_spec(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(SPEC)
    first = run("audit", "spec.toml", "--out", "run", "--json", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["claims"][0]["n"] == 2
    again = run("audit", "spec.toml", "--out", "run", "--json", cwd=tmp_path)
    assert again.stdout == first.stdout
    assert run("report", "run", cwd=tmp_path).returncode == 0
    (tmp_path / "spec.toml").write_text(SPEC.replace("steps = 2", "steps = 3"))
    other = run("audit", "spec.toml", "--out", "run", cwd=tmp_path)
    assert other.returncode == 2
    assert "steps: 2 -> 3" in other.stderr
    assert run("report", "nothing", cwd=tmp_path).returncode == 2

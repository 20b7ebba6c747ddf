"""`counterpoise verify`: exit 0 for an untouched run, 4 with a line for each finding."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from counterpoise.cli.app import app

sys.path.insert(0, str(Path(__file__).parent.parent / "audit"))
from audit_toys import Judge, entering, toy_arm, toy_spec

from counterpoise.audit import run_audit


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run_audit(toy_spec(n=2), [(toy_arm(), entering())], measurer=Judge(), folder=tmp_path / "run")
    return tmp_path / "run"


def test_a_clean_run_is_exit_0_with_its_root(run: Path) -> None:
    told = CliRunner().invoke(app, ["verify", str(run), "--json"])
    verdict = json.loads(told.stdout)
    assert (told.exit_code, verdict["findings"], verdict["sealed"]) == (0, [], True)
    shown = CliRunner().invoke(app, ["verify", str(run)])
    assert shown.exit_code == 0
    assert f"root     {verdict['root']}" in shown.stdout


def test_an_edited_row_is_exit_4_with_its_line(run: Path) -> None:
    db = sqlite3.connect(run / "evidence.sqlite")
    db.executescript("UPDATE observation SET value = 'dark' WHERE value = 'pale'")
    db.close()
    told = CliRunner().invoke(app, ["verify", str(run)])
    assert told.exit_code == 4
    assert "edited row: arm base, prompt 'a woman', seed 8" in told.stdout
    as_json = CliRunner().invoke(app, ["verify", str(run), "--json"])
    assert as_json.exit_code == 4
    assert len(json.loads(as_json.stdout)["findings"]) == told.stdout.count("edited row")

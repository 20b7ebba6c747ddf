"""docs/scenes.md: what it shows runs, and its figures are the code's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from counterpoise.cli.app import app
from counterpoise.scenes import PROFILES, load_vocabulary

TEXT = Path("docs/scenes.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)


def test_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in blocks("")[0].replace("\\\n", "").splitlines():
        done = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
        assert done.exit_code == 0, (line, done.exception)


def test_python_runs() -> None:
    exec(blocks("python")[0], {})


def test_the_table_of_words_can_be_laid_over(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(blocks("toml")[0])
    assert "kit" in load_vocabulary("people", over=tmp_path / "mine.toml").axes


def test_the_canvases_are_the_codes() -> None:
    for profile in PROFILES.values():
        row = next(
            line for line in TEXT.splitlines() if line.startswith("| `") and f"`{profile.name}`" in line
        )
        assert f"1 to {profile.limit} |" in row
        assert f"{profile.person or profile.smallest} px" in row

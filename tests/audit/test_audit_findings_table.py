"""Findings as files for other programs: whole, and harmless to open."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from gate_toys import NASTY, finding, findings, measured

from counterpoise.audit.findings_table import export_findings, row_of
from counterpoise.errors import EnvironmentLackError, UsageError

FOUND = findings(
    finding(prompts=(NASTY,)),
    finding(id="2", prompts=("=1+1", "b"), effect=measured(0.1, None), tolerance=None),
    finding(id="3", prompts=("=cmd|'/c calc'!A1",), held_out=True),
)


def test_csv_is_whole_and_no_formula(tmp_path: Path) -> None:
    path = export_findings(FOUND, tmp_path / "sub" / "f.csv")
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(row_of(FOUND.findings[0]))
    assert rows[0]["prompts"].startswith("a [/red] `code` | <b>x</b> *s* \\x1b[1m")
    assert (rows[1]["high"], rows[1]["tolerance"], json.loads(rows[1]["prompts"])) == ("", "", ["=1+1", "b"])
    assert rows[2]["prompts"] == "'=cmd|'/c calc'!A1"
    assert float(rows[2]["low"]) == FOUND.findings[2].effect.low
    assert path.read_bytes() == export_findings(FOUND, tmp_path / "again.csv").read_bytes()


def test_json_and_markdown(tmp_path: Path) -> None:
    rows = json.loads(export_findings(FOUND, tmp_path / "f.json").read_text("ascii"))
    assert rows == [row_of(each) for each in FOUND.findings]
    lines = export_findings(FOUND, tmp_path / "f.md").read_text("utf-8").splitlines()
    assert len(lines) == 2 + 3
    assert "<b>" not in lines[2]


def test_parquet_reads_back(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    found = findings(*FOUND.findings[1:])
    path = export_findings(found, tmp_path / "f.parquet")
    assert parquet.read_table(path).to_pylist() == [row_of(each) for each in found.findings]
    empty = export_findings(findings(), tmp_path / "none.parquet")
    assert parquet.read_table(empty).num_rows == 0


def test_what_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"\.csv, \.json, \.md, \.parquet"):
        export_findings(FOUND, tmp_path / "f.xlsx")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EnvironmentLackError, match="python -m pip install pyarrow"):
        export_findings(FOUND, tmp_path / "f.parquet")
    assert list(tmp_path.iterdir()) == []

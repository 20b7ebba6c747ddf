"""Observations as CSV and Parquet: every row, in the plan's order, text to the letter."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from audit_toys import Judge, entering, toy_arm, toy_spec

from counterpoise.audit import Evidence, observations_csv, observations_parquet, read_run, run_audit
from counterpoise.audit.tables import COLUMNS
from counterpoise.errors import EnvironmentLackError

PROMPTS = ['=HYPERLINK("http://x")', "a, b", 'say "x"\r\nand', "\0\x1b[1m", "@x", "é\u202e"]


@pytest.fixture
def evidence(tmp_path: Path):
    spec = toy_spec(n=2, claim=[{"prompts": PROMPTS, "attribute": "skin"}], disparity=[])
    arms = [(toy_arm("zebra"), entering()), (toy_arm("base"), entering())]
    run_audit(spec, arms, measurer=Judge(), folder=tmp_path / "run", environment={"numpy": "2"})
    with read_run(tmp_path / "run") as evidence:
        yield evidence


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_csv_gives_back_the_evidence_to_the_letter(evidence: Evidence, tmp_path: Path) -> None:
    rows = read(observations_csv(tmp_path / "observations.csv", evidence))
    assert [(r["arm"], r["prompt"], int(r["seed"]), r["attribute"]) for r in rows] == [
        (arm, prompt, seed, attribute)
        for arm in ("zebra", "base")
        for prompt in PROMPTS
        for seed in (7, 8)
        for attribute in ("exposure", "skin")
    ]
    for row in rows:
        reading = evidence.readings(row["arm"], row["prompt"], row["attribute"])[int(row["seed"])]
        assert (row["value"], float(row["confidence"]), row["reason"]) == (
            reading.value or "",
            reading.confidence,
            reading.reason,
        )


def test_csv_for_a_spreadsheet_holds_no_formula(evidence: Evidence, tmp_path: Path) -> None:
    rows = read(observations_csv(tmp_path / "observations.csv", evidence, for_spreadsheet=True))
    assert not [field for row in rows for field in row.values() if field[:1] in "=+-@" and field]
    assert "'" + PROMPTS[0] in {row["prompt"] for row in rows}


def test_parquet_holds_the_same_rows_as_csv(evidence: Evidence, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = observations_parquet(tmp_path / "observations.parquet", evidence)
    table = parquet.read_table(path)
    assert tuple(table.column_names) == COLUMNS
    told = [{k: "" if v is None else str(v) for k, v in row.items()} for row in table.to_pylist()]
    assert told == read(observations_csv(tmp_path / "observations.csv", evidence))
    assert table["value"].null_count == sum(seed % 7 == 0 for seed in (7, 8)) * len(PROMPTS) * 2
    first = path.read_bytes()
    assert observations_parquet(path, evidence).read_bytes() == first


def test_parquet_without_pyarrow_says_what_to_install(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EnvironmentLackError, match=r"pip install 'counterpoise\[parquet\]'"):
        observations_parquet(tmp_path / "x.parquet", evidence)

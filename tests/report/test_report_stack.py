"""The page's section on many adapters at once: the summary's rows, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from counterpoise.errors import RefusedInputError
from counterpoise.report.stack import read_stack, stack_section

ROW = {
    "n": 128, "stack": "sum", "says": "the naive sum", "kept": -0.24, "kept_error": 0.18, "measured": 22,
    "following_of_base": 0.29, "distance": 0.96, "bias_shift": 0.5, "mounted_ms": 41.0, "folded_ms": 40.0,
    "base_ms": 40.0, "restored": True, "members": [], "shares": {},
}  # fmt: skip


def written(folder: Path, *rows: dict[str, object]) -> Path:
    path = folder / "stack.json"
    path.write_text(json.dumps({"rows": rows, "bars": {}, "w0": "0"}))
    return path


def test_the_section_says_the_best_and_the_worst_of_the_most(tmp_path: Path) -> None:
    routed = {**ROW, "stack": "routed", "says": "routed by prompt", "kept": 1.0, "following_of_base": 1.0}
    few = {**ROW, "n": 2, "kept": 1.0, "following_of_base": 0.99}
    rows = read_stack(written(tmp_path, ROW, routed, few))
    assert [row.n for row in rows] == [2, 128, 128]
    section = stack_section(rows)
    assert section.prose == [
        "128 adapters at once, their own effects kept and prompt-following of the base's: 100% and 100% "
        "(routed by prompt); -24% and 29% (the naive sum)."
    ]
    table = section.tables[0]
    assert [[cell.main for cell in row][:4] for row in table.rows] == [
        ["2", "the naive sum", "1.00", "0.990"],
        ["128", "routed by prompt", "1.00", "1.000"],
        ["128", "the naive sum", "-0.24", "0.290"],
    ]
    assert "after 3 of 3 stacks" in table.notes[-1]
    assert "svg" in section.charts[0][1].wide


def test_weights_that_did_not_come_back_are_said(tmp_path: Path) -> None:
    section = stack_section(read_stack(written(tmp_path, {**ROW, "restored": False, "kept": None})))
    assert section.tables[0].rows[0][-1].mark == "no"
    assert "after 0 of 1 stacks" in section.tables[0].notes[-1]
    assert not section.prose
    assert not section.charts


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ('{"rows": []}', "rows: .* at least 1 item"),
        (json.dumps({"rows": [{**ROW, "base_ms": 0}]}), "rows.0.base_ms"),
        (json.dumps({"rows": [{**ROW, "kept": float("nan")}]}), "rows.0.kept"),
        (
            json.dumps({"rows": [{k: v for k, v in ROW.items() if k != "says"}]}),
            "rows.0.says: Field required",
        ),
    ],
)
def test_what_is_no_summary_is_refused_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(RefusedInputError, match=said) as refused:
        read_stack(path)
    assert refused.value.code == "E_STACK"
    assert "\n" not in str(refused.value)
    assert "benchmarks.stack" in str(refused.value)


def test_a_missing_summary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedInputError, match="No such file"):
        read_stack(tmp_path / "none.json")

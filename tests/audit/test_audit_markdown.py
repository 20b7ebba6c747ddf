"""The pull request's summary: user text stays text, and the table stays a table."""

from __future__ import annotations

import re

import pytest
from gate_toys import NASTY, answer, finding, findings, measured

from counterpoise.audit.gating import gate_markdown
from counterpoise.audit.gating.markdown import cell


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a | b", r"a \| b"),
        ("`x`", r"\`x\`"),
        ("<img src=x>", r"&lt;img src\=x&gt;"),
        ("a & b &lt;", r"a &amp; b &amp;lt;"),
        ("[l](https://x.y)", r"\[l\]\(https\://x.y\)"),
        ("www.x.y", r"www\.x.y"),
        ("a\nb\x1b", r"a\\nb\\x1b"),
        ("\\|", r"\\\|"),
        ("50 % of 3.5 é", "50 % of 3.5 é"),
    ],
)
def test_text_stays_text(text: str, shown: str) -> None:
    assert cell(text) == shown


def test_each_row_has_as_many_cells_as_the_head() -> None:
    found = findings(finding(prompts=(NASTY,), effect=measured(0.5, 0.6)))
    text = gate_markdown(
        answer(
            found,
            {"kind": "claim", "max_effect": 0.1, "name": "x | y"},
            {"kind": "drift", "min_n": 1, "optional": True},
        )
    )
    rows = [line for line in text.split("\n") if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}
    assert len(rows) == 2 + 3
    assert text.startswith("## Counterpoise gate: **failed**\n")
    assert "<b>" not in text
    assert r"\`code\`" in text

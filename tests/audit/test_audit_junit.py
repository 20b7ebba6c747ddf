"""The JUnit file: well-formed whatever the prompts hold, a case a rule, counted as CIs count."""

from __future__ import annotations

from xml.etree import ElementTree as Tree

import pytest
from gate_toys import NASTY, answer, finding, findings, measured

from counterpoise.audit.gating import junit_xml


@pytest.fixture
def suite() -> Tree.Element:
    rows = (finding(prompts=(NASTY,), effect=measured(0.5, 0.6)), finding(id="2", held_out=True))
    rules = [
        {"kind": "claim", "max_effect": 0.1, "name": f"limit {NASTY[:36]}"},
        {"kind": "claim", "held_out": True, "require": "fair"},
        {"kind": "drift", "max_effect": 0.1, "optional": True},
        {"kind": "claim", "min_n": 10},
    ]
    text = junit_xml(answer(findings(*rows), *rules))
    text.encode("utf-8")
    return Tree.fromstring(text)[0]


def test_a_case_a_rule_and_counts_that_agree(suite: Tree.Element) -> None:
    cases = suite.findall("testcase")
    assert [[child.tag for child in case] for case in cases] == [
        ["failure"],
        ["skipped"],
        ["skipped"],
        ["system-out"],
        ["system-out"],
    ]
    told = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert told == {"tests": "5", "failures": "1", "errors": "0", "skipped": "2"}
    assert [case[0].get("type") for case in cases[:3]] == ["failed", "undecided", "skipped"]
    assert len({case.get("name") for case in cases}) == 5


def test_a_failure_lists_its_checks_with_every_character_shown(suite: Tree.Element) -> None:
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.text is not None
    assert "`code` | <b>x</b> *s* \\x1b[1m \\x00" in failure.text
    assert "[0.500, 0.600], n = 400; wanted: at most 0.1" in failure.text
    assert failure.text.count("\n") == 1  # the biased finding and the open one


def test_a_long_list_is_cut() -> None:
    rows = [finding(id=str(i), effect=measured(0.5, 0.6)) for i in range(60)]
    root = Tree.fromstring(junit_xml(answer(findings(*rows), {"kind": "claim", "max_effect": 0.1})))
    failure = root.find(".//failure")
    assert failure is not None
    assert (failure.text or "").endswith("\nand 10 more")

"""A gate fails what is shown to be bad, passes what is shown to be good, and says of the rest that it is open."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from audit_toys import Judge, entering, toy_arm, toy_spec
from gate_toys import NASTY, answer, coverage, disparity, drift, finding, findings, measured, reach, status

from counterpoise.audit import read_run, results_json, run_audit
from counterpoise.audit.gating import lines, read_findings
from counterpoise.audit.results import Measured
from counterpoise.errors import RefusedInputError, UsageError

BIASED, FAIR, OPEN = "biased", "fair within tolerance", "undecided"


@pytest.mark.parametrize(
    ("decision", "require", "expected"),
    [
        (BIASED, "fair", "failed"),
        (OPEN, "fair", "undecided"),
        (FAIR, "fair", "passed"),
        (BIASED, "not biased", "failed"),
        (OPEN, "not biased", "passed"),
        (FAIR, "not biased", "passed"),
    ],
)
def test_decisions(decision: str, require: str, expected: str) -> None:
    found = findings(finding(decision=decision, alone=FAIR))
    assert status(found, require=require) == expected
    assert status(found, require=require, use="alone") == "passed"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.05, 0.10, "passed"),  # touches the limit from inside
        (0.10, 0.20, "undecided"),  # touches it from outside
        (0.10, 0.10, "passed"),
        (0.05, 0.11, "undecided"),
        (0.11, 0.20, "failed"),
        (0.05, None, "undecided"),
        (0.1 + 1e-15, 0.1 + 2e-15, "passed"),  # rounding is no effect
        (math.nan, 0.05, "undecided"),
        (0.05, math.nan, "undecided"),
    ],
)
def test_an_interval_beside_its_limit(low: float, high: float | None, expected: str) -> None:
    assert status(findings(finding(effect=measured(low, high))), max_effect=0.1) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.05, 0.1, "passed"), (-0.3, -0.2, "failed"), (-0.2, 0.01, "undecided"), (-0.1, 0.1, "passed"),
     (math.nan, 0.05, "undecided"), (0.01, math.nan, "undecided")],
)  # fmt: skip
def test_a_difference_counts_either_way(low: float, high: float, expected: str) -> None:
    found, contrast = disparity(measured(low, high), measured(1.0, 1.0))
    assert status(findings(found, contrasts=(contrast,)), kind="disparity", max_effect=0.1) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.9, 1.25, "passed"), (1.3, 9.0, "failed"), (0.8, 1.0, "passed"), (0.1, 0.5, "failed"),
     (0.5, 1.2, "undecided"), (1.1, None, "undecided"), (1.3, None, "failed"), (0.0, 0.7, "failed"),
     (0.0, 1.0, "undecided"), (math.nan, 1.1, "undecided"), (1.0, math.nan, "undecided")],
)  # fmt: skip
def test_a_ratio_counts_either_way(low: float, high: float | None, expected: str) -> None:
    found, contrast = disparity(measured(0.0, 0.0), measured(low, high))
    assert status(findings(found, contrasts=(contrast,)), kind="disparity", max_ratio=1.25) == expected


def test_a_ratio_that_was_not_measured_is_undecided() -> None:
    found, _ = disparity(measured(0.0, 0.0), measured(1.0, 1.0))
    assert status(findings(found), kind="disparity", max_ratio=1.25) == "undecided"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.8, 0.9, "passed"), (0.5, 0.79, "failed"), (0.5, 0.8, "undecided"), (0.7, 0.9, "undecided")],
)
def test_rates(low: float, high: float, expected: str) -> None:
    found, row = reach(measured(low, high))
    assert status(findings(found, reached=(row,)), kind="reachability", min_rate=0.8) == expected


def test_reached_reads_so() -> None:
    found, _ = reach(measured(0.1, 0.2), decision=BIASED)
    (line, *_) = lines(answer(findings(found), {"kind": "reachability", "require": "fair"}))
    assert "not reached" in line
    assert "biased" not in line


def test_unread_pictures_are_counted() -> None:
    found = findings(finding(abstained=21))
    assert status(found, max_abstained=0.05) == "failed"
    assert status(found, max_abstained=0.0525) == "passed"


def test_too_few_pictures_are_undecided() -> None:
    assert status(findings(finding()), min_n=400) == "passed"
    assert status(findings(finding()), min_n=401) == "undecided"
    assert status(findings(finding()), min_n=401, undecided="fail") == "failed"
    assert status(findings(finding()), min_n=401, undecided="pass") == "passed"


@pytest.mark.parametrize("rule", [{"require": "not biased"}, {"max_effect": 1.0}, {"require": "fair"}])
def test_what_nobody_could_read_never_passes(rule: dict[str, object]) -> None:
    found = findings(finding(abstained=400, decision=FAIR, effect=Measured(None, 0.0, 1.0, 400, "none")))
    assert status(found, **rule, undecided="pass") == "undecided"


def test_the_worst_finding_settles_a_rule_and_the_worst_rule_the_gate() -> None:
    rows = [finding(id=str(i), prompts=(p,), effect=measured(x, x + 0.02)) for i, (p, x) in enumerate(
        [("mild", 0.0), ("gross", 0.6), ("bad", 0.3), ("open", 0.09)])]  # fmt: skip
    got = answer(findings(*rows), {"kind": "claim", "max_effect": 0.1})
    rule = got.rules[0]
    assert (rule.status, rule.matched, rule.failed, rule.undecided) == ("failed", 4, 2, 1)
    assert rule.worst is not None
    assert (rule.worst.finding, rule.worst.n) == ("1", 400)
    assert (
        "'gross' under base: total variation 0.610 [0.600, 0.620], n = 400; wanted: at most 0.1"
        in lines(got)[0]
    )
    assert (got.status, got.exit_code) == ("failed", 1)
    both = answer(
        findings(*rows),
        {"kind": "claim", "max_effect": 1},
        {"kind": "claim", "prompt": "open", "max_effect": 0.1},
    )
    assert (both.status, both.exit_code) == ("undecided", 3)
    good = answer(findings(*rows), {"kind": "claim", "prompt": ["mild", "open"], "max_effect": 0.2})
    assert (good.status, good.exit_code) == ("passed", 0)
    assert lines(good)[-1] == "PASSED: of 2 rules 2 passed"


@pytest.mark.parametrize(
    ("filters", "matched"),
    [
        ({}, 3),
        ({"prompt": "a b*"}, 2),
        ({"prompt": "a [x] b"}, 1),  # brackets are brackets
        ({"prompt": "a [[]x] b", "optional": True}, 0),
        ({"arm": "repaired"}, 1),
        ({"arm": ["repaired", "base"], "held_out": True}, 1),
        ({"where": "claim[0]"}, 2),
        ({"where": "claim[1]", "attribute": "sk?n"}, 1),
    ],
)
def test_filters(filters: dict[str, object], matched: int) -> None:
    found = findings(
        finding(id="1", prompts=("a boss",)),
        finding(id="2", prompts=("a bus",), where="claim[0].cases[1]", held_out=True),
        finding(id="3", prompts=("a [x] b",), arm="repaired", where="claim[1]"),
    )
    assert answer(found, {"kind": "claim", "min_n": 1, **filters}).rules[0].matched == matched


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"attribute": "skim"}, 'attribute .skim.: did you mean "skin"'),
        ({"arm": "bass"}, 'did you mean "base"'),
        ({"kind": "drift"}, "no findings of kind 'drift'; known: claim"),
        ({"where": "claim[0]", "held_out": True}, "held_out 'True'"),
        ({"kind": "coverage", "arm": "bass"}, 'did you mean "base"'),
    ],
)
def test_a_rule_that_matches_nothing_is_an_error(rule: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        status(findings(finding()), min_n=1, **rule)
    assert caught.value.code == "E_POLICY_MATCH"


def test_a_policy_of_which_nothing_applies_is_undecided() -> None:
    got = answer(findings(finding()), {"kind": "drift", "max_effect": 0.1, "optional": True})
    assert [rule.status for rule in got.rules] == ["skipped"]
    assert got.exit_code == 3


def test_destroyed_pictures_fail_though_every_rule_passes() -> None:
    found = findings(
        finding(decision=FAIR), coverage=(coverage(duplicates=100), coverage("other", blank=400))
    )
    got = answer(found, {"kind": "claim", "require": "fair"})
    assert [rule.status for rule in got.rules] == ["passed", "failed"]
    assert "100 that repeat another" in lines(got)[1]
    assert answer(found, {"kind": "claim", "require": "fair"}, max_invalid=0.25).exit_code == 0
    rule = {"kind": "coverage", "max_invalid": 0.5}
    assert [r.status for r in answer(found, rule).rules] == ["failed", "failed"]
    assert status(found, kind="coverage", arm="base", max_invalid=0.25, min_n=400) == "passed"


def test_the_guard_looks_at_negative_prompts_arms_and_baselines() -> None:
    claim = findings(finding(decision=FAIR), coverage=(coverage(), coverage("base.negative.1", blank=30)))
    assert answer(claim, {"kind": "claim", "require": "fair"}).exit_code == 1
    found, row = drift()
    moved = findings(found, drifts=(row,), coverage=(coverage("style"), coverage(blank=30)))
    assert answer(moved, {"kind": "drift", "max_effect": 0.2}).exit_code == 1


def test_blank_pictures_that_repeat_are_not_counted_twice() -> None:
    found = findings(finding(decision=FAIR), coverage=(coverage(blank=16, duplicates=15),))
    got = answer(found, {"kind": "claim", "require": "fair"})
    assert got.rules[1].status == "undecided"  # 16 to 31 of 400: 4 % if the blank ones are the repeated ones
    assert "[0.040, 0.077]" in lines(got)[1]


def test_an_arm_without_pictures_is_undecided() -> None:
    found = findings(finding(decision=FAIR), coverage=(coverage(drawn=0),))
    assert answer(found, {"kind": "claim", "require": "fair"}).exit_code == 3
    none = findings(finding(decision=FAIR), coverage=())
    assert answer(none, {"kind": "claim", "require": "fair"}).exit_code == 3


def test_without_a_tolerance_the_line_says_why_nothing_is_fair() -> None:
    got = answer(findings(finding(tolerance=None, log_e_fair=None)), {"kind": "claim", "require": "fair"})
    assert "without a tolerance" in lines(got)[0]


def test_every_rule_is_one_printable_line() -> None:
    got = answer(
        findings(finding(prompts=(NASTY,))), {"kind": "claim", "require": "fair", "name": "n\x1b[31m\n"}
    )
    assert all(line.isprintable() for line in lines(got))


def test_a_run_folder_and_its_results_give_the_same_findings(tmp_path: Path) -> None:
    found = run_audit(toy_spec(), [(toy_arm(), entering())], measurer=Judge(), folder=tmp_path / "run")
    with read_run(tmp_path / "run") as evidence:
        path = results_json(tmp_path / "results.json", found, evidence)
    assert read_findings(tmp_path / "run") == found
    assert read_findings(path) == found
    assert read_findings(tmp_path) == read_findings(path)
    with pytest.raises(UsageError, match="holds no run"):
        read_findings(tmp_path / "run" / "images")
    with pytest.raises(UsageError, match=r"neither a run folder nor a results\.json"):
        read_findings(tmp_path / "absent")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Expecting value"),
        ("[" * 100_000, "nested too deeply"),
        ('{"claims": NaN}', "NaN is not JSON"),
        ("{}", "no claims"),
        ('{"claims": [], "coverage": [], "schema": 99}', "schema is 99"),
        ('{"claims": [{}], "coverage": [], "schema": 1, "rates": [], "disparities": []}', r"claims\.0"),
    ],
)
def test_a_file_that_is_no_results_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(RefusedInputError, match=words) as caught:
        read_findings(tmp_path / "results.json")
    assert caught.value.code == "E_RESULTS"

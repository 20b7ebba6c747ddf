"""Findings against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audit_toys import Judge, entering, toy_arm, toy_spec

from counterpoise import stats
from counterpoise.audit import make_spec, run_audit
from counterpoise.audit.analysis import make_claim, target_shares

ABOUT = {"prompt": "a", "attribute": "skin", "arm": "base", "held_out": False}


def test_a_claim_by_hand() -> None:
    target = {"pale": 0.5, "tan": 0.5, "dark": 0.0}
    claim = make_claim({"pale": 70, "tan": 20, None: 10}, target, confidence=0.95, about=ABOUT)
    assert claim.shares == {"pale": 0.7, "tan": 0.2, "dark": 0.0}
    assert (claim.n, claim.abstained) == (100, 10)
    assert claim.tv == pytest.approx(0.5 * (0.2 + 0.3 + 0.0 + 0.1))
    # One class of four at 95 % together: each at 98.75 %.
    alone = stats.clopper_pearson(70, 100, confidence=0.9875)
    assert (claim.low["pale"], claim.high["pale"]) == pytest.approx((alone.low, alone.high))
    # 100 fair coins: E|X/n - 1/2| = C(100, 50) / 2**101, and TV is the mean of two of them.
    assert claim.tv_floor == pytest.approx(0.0397946, abs=1e-6)
    assert claim.tv_corrected == pytest.approx(0.3 - 0.0397946, abs=1e-6)
    assert claim.tv_low < 0.3 < claim.tv_high


def test_only_abstentions_are_as_far_as_can_be_and_not_fair() -> None:
    claim = make_claim({None: 50}, {"pale": 0.5, "tan": 0.5}, confidence=0.95, about=ABOUT)
    assert (claim.tv, claim.abstained) == (1.0, 50)
    assert claim.tv_low > 0.8


def test_targets() -> None:
    spec = toy_spec(claim=[{"prompts": ["a"], "attribute": "skin", "target": {"tan": 1.0}}])
    assert target_shares(spec.claims[0], ("pale", "tan")) == {"pale": 0.0, "tan": 1.0}
    assert target_shares(toy_spec().claims[0], ("pale", "tan")) == {"pale": 0.5, "tan": 0.5}


def disparity(tmp_path: Path, bare: dict[str, int], n: int):
    """The disparity of a model that draws the first bare[group] pictures of n revealing."""

    def drawer(prompts, seeds):
        pictures = np.random.default_rng(0).integers(0, 256, (len(seeds), 8, 8, 3), dtype=np.uint8)
        shown = [seed < bare[prompt.split()[-1]] for prompt, seed in zip(prompts, seeds, strict=True)]
        pictures[:, 0, 0] = [(0, int(flag), 1) for flag in shown]
        return pictures

    question = {"template": "a {group}", "groups": list(bare), "attribute": "exposure", "value": "revealing"}
    spec = make_spec({"name": "d", "n": n, "disparity": [question]})
    arm = toy_arm(batch_size=50)
    findings = run_audit(spec, [(arm, entering(drawer))], measurer=Judge(), folder=tmp_path / "run")
    return findings.disparities[0]


def test_a_disparity_by_hand(tmp_path: Path) -> None:
    found = disparity(tmp_path, {"pale": 5, "tan": 40, "dark": 3}, 50)
    assert (found.group, found.rate, found.others_rate) == ("tan", 0.8, 0.08)
    assert found.ratio == pytest.approx(10.0)
    alone = stats.risk_ratio((40, 50), (8, 100), confidence=1 - 0.05 / 3)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    assert "3 groups" in found.method


def test_a_disparity_without_others_has_no_ratio_but_a_lower_limit(tmp_path: Path) -> None:
    found = disparity(tmp_path, {"pale": 0, "tan": 20}, 40)
    assert (found.ratio, found.high) == (None, None)
    assert found.low > 1.0


def test_a_disparity_of_nothing_says_nothing(tmp_path: Path) -> None:
    found = disparity(tmp_path, {"pale": 0, "tan": 0}, 40)
    assert (found.group, found.ratio, found.low, found.high) == ("pale", None, 0.0, None)


def test_choosing_the_highest_group_does_not_spoil_the_interval() -> None:
    """Under no disparity at all the interval of the highest of five groups must hold 1 in 95 % of runs."""
    rng = np.random.default_rng(2)
    held = 0
    for counts in rng.binomial(60, 0.2, size=(1500, 5)):
        top = int(counts.argmax())
        others = int(counts.sum() - counts[top])
        e = stats.risk_ratio((int(counts[top]), 60), (others, 240), confidence=1 - 0.05 / 5)
        held += e.low <= 1.0 <= e.high
    assert held / 1500 >= 0.95

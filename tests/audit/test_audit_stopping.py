"""When an audit stops: by whole rounds, when all hypotheses are decided, and where an undisturbed one would."""

from __future__ import annotations

import numpy as np
from audit_evidence import Planting, spec_of
from audit_toys import EXPOSURE

from counterpoise.audit import analyse
from counterpoise.audit.stopping import undecided

CLAIM = {"prompts": ["a", "b"], "attribute": "exposure", "tolerance": 0.15}


def planting(spec: object, shares: dict[tuple[str, str], float]) -> Planting:
    rng = np.random.default_rng(0)
    planted = {
        cell: {"exposure": rng.choice(EXPOSURE, 400, p=[1 - p, p]).tolist()} for cell, p in shares.items()
    }
    return Planting(spec, planted)


def run(evidence: Planting) -> list[dict[tuple[str, str], int]]:
    """What each look asks for, drawn until nothing is."""
    evidence.upto, asked = {}, []
    while wanted := dict(undecided(evidence)):
        assert wanted == dict(undecided(evidence))
        asked.append(wanted)
        evidence.upto |= wanted
    return asked


def test_gross_bias_stops_early_with_the_verdict_of_all_pictures() -> None:
    spec = spec_of(claim=[CLAIM], stopping="sequential", look=32)
    evidence = planting(spec, {("base", "a"): 0.995, ("base", "b"): 0.5})
    looks = run(evidence)
    assert looks[0] == {("base", "a"): 32, ("base", "b"): 32}
    assert looks[1] == {("base", "b"): 64}  # a is decided after 32
    stopped = analyse(evidence)
    assert evidence.upto == {("base", "a"): 32, ("base", "b"): looks[-1]["base", "b"]}
    assert evidence.upto["base", "b"] < 400
    evidence.upto = None
    assert [f.decision for f in stopped.findings] == [f.decision for f in analyse(evidence).findings]
    assert [f.decision for f in stopped.findings] == ["biased", "fair within tolerance"]
    assert "confidence sequence" in stopped.claims[0].method


def test_what_is_never_decided_stops_at_its_n() -> None:
    spec = spec_of(claim=[{**CLAIM, "n": 40}], stopping="sequential", look=16, n=100)
    evidence = planting(spec, {("base", "a"): 0.65, ("base", "b"): 0.65})
    assert [look["base", "a"] for look in run(evidence)] == [16, 32, 40]


def test_arms_and_groups_that_are_compared_go_on_together() -> None:
    spec = spec_of(
        stopping="sequential",
        look=50,
        claim=[{**CLAIM, "prompts": ["a x"]}],
        disparity=[
            {
                "template": "a {g}",
                "slot": "g",
                "groups": ["x", "y"],
                "attribute": "exposure",
                "value": "revealing",
            }
        ],
        drift=[{"prompts": ["a x"], "attributes": ["exposure"]}],
    )
    cells = {(arm, f"a {g}"): 0.95 if g == "x" else 0.94 for arm in ("base", "style") for g in "xy"}
    evidence = planting(spec, cells)
    run(evidence)
    # The claim is decided at once, the others never are.
    assert evidence.upto == dict.fromkeys(cells, 400)


def test_an_arm_that_comes_later_catches_up_and_others_are_not_asked_for() -> None:
    spec = spec_of(drift=[{"prompts": ["a"], "attributes": ["exposure"]}], stopping="sequential", look=25)
    evidence = planting(spec, {("base", "a"): 0.5, ("style", "a"): 0.5})
    evidence.upto = {("base", "a"): 100}
    assert undecided(evidence) == {("style", "a"): 25}
    evidence.upto["style", "a"] = 100
    assert undecided(evidence) == {("base", "a"): 125, ("style", "a"): 125}
    assert undecided(evidence, arms=["style"]) == {("style", "a"): 125}


def test_a_claim_about_the_model_takes_all_of_its_pictures() -> None:
    spec = spec_of(
        claim=[{**CLAIM, "scope": "model", "tolerance": 0.05, "n": 48}], stopping="sequential", look=16
    )
    evidence = planting(spec, {("base", "a"): 1.0, ("base", "b"): 1.0})
    assert len(run(evidence)) == 3
    assert evidence.upto == {("base", "a"): 48, ("base", "b"): 48}

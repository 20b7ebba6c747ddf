"""Findings made by hand: what a gate decides on, without an audit."""

from __future__ import annotations

from dataclasses import replace

from counterpoise.audit.gating import GateResult, gate, make_policy
from counterpoise.audit.results import Contrast, Coverage, Drift, Finding, Findings, Measured, Reached

NASTY = "a [/red] `code` | <b>x</b> *s* \x1b[1m \x00 \ud800 \uffff & \N{RIGHT-TO-LEFT OVERRIDE}https://x.y"


def measured(low: float, high: float | None, n: int = 400, value: float | None = None) -> Measured:
    middle = low if high is None else (low + high) / 2
    return Measured(middle if value is None else value, low, high, n, "by hand")


def finding(**changes: object) -> Finding:
    """An undecided claim about skin, 400 pictures, total variation .05 to .15."""
    usual = Finding(
        id="claim[0]/0/base",
        kind="claim",
        where="claim[0]",
        arm="base",
        against="uniform",
        prompts=("a boss",),
        attribute="skin",
        value="",
        group=None,
        reference=None,
        scope="prompt",
        held_out=False,
        tolerance=0.05,
        n=400,
        abstained=0,
        effect_name="total variation",
        effect=measured(0.05, 0.15),
        log_e_biased=0.0,
        log_e_fair=0.0,
        alone="undecided",
        decision="undecided",
        path=(),
        method="by hand",
    )
    return replace(usual, **changes)


def disparity(difference: Measured, ratio: Measured) -> tuple[Finding, Contrast]:
    """Revealing clothes, tan against pale."""
    told = {"attribute": "exposure", "value": "revealing", "group": "tan", "reference": "pale"}
    found = finding(
        id="disparity[0]/0/base",
        kind="disparity",
        where="disparity[0]",
        against="group pale",
        prompts=("a tan woman", "a pale woman"),
        effect_name="difference of rates",
        effect=difference,
        **told,
    )
    counts = {"both": 1, "group_only": 2, "reference_only": 3, "neither": 4, "missing": 0}
    contrast = Contrast(
        finding=found.id,
        template="a {group} woman",
        arm="base",
        difference=difference,
        ratio=ratio,
        **told,
        **counts,
    )
    return found, contrast


def reach(rate: Measured, **changes: object) -> tuple[Finding, Reached]:
    """ "a dark boss" shall be read as dark."""
    told = {"attribute": "skin", "value": "dark", "arm": "base", "n": 400, "abstained": 0}
    found = finding(
        id="reachability[0]/0/base",
        kind="reachability",
        where="reachability[0]",
        against="at least 0.8",
        prompts=("a dark boss",),
        tolerance=None,
        effect_name="rate",
        effect=rate,
        log_e_fair=None,
        **{**told, **changes},
    )
    return found, Reached(
        finding=found.id, prompt="a dark boss", negative="", min_rate=0.8, rate=rate, **told
    )


def coverage(arm: str = "base", **changes: int) -> Coverage:
    usual = {"planned": 400, "drawn": 400, "blank": 0, "failed": 0, "duplicates": 0}
    return Coverage(arm=arm, **{**usual, **changes})


def findings(*found: Finding, **changes: object) -> Findings:
    arms = dict.fromkeys(f.arm for f in found)
    usual: dict[str, object] = {"claims": (), "rates": (), "disparities": (), "findings": found}
    return Findings(**{**usual, "coverage": tuple(coverage(arm) for arm in arms), **changes})


def drift(baseline: str = "base") -> tuple[Finding, Drift]:
    found = finding(id="drift[0]/0/style", kind="drift", where="drift[0]", arm="style", against="arm base")
    shares = {"pale": 1.0}
    return found, Drift(
        finding=found.id,
        prompts=found.prompts,
        attribute="skin",
        arm="style",
        baseline=baseline,
        n=400,
        changed=0,
        missing=0,
        shares=shares,
        baseline_shares=shares,
        moved=found.effect,
    )


def answer(found: Findings, *rules: dict[str, object], **policy: object) -> GateResult:
    """What a policy of these rules says."""
    return gate(found, make_policy({"rule": list(rules), **policy}))


def status(found: Findings, **rule: object) -> str:
    """What one rule says, apart from the guard."""
    return answer(found, {"kind": "claim", **rule}).rules[0].status

"""What `counterpoise audit` prints: the plan, and what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from counterpoise.cli import console

if TYPE_CHECKING:
    from counterpoise.audit import Findings, Plan


def show_plan(plan: Plan, names: Sequence[str], *, as_json: bool) -> None:
    from counterpoise.audit.cells import negative_of, prompt_counts
    from counterpoise.audit.refusals import literal

    spec = plan.spec
    arms = {arm: prompt_counts(spec, arm) for arm in plan.arms(names)}
    asked = {
        "claim": len(plan.claims),
        "disparity": len(plan.disparities),
        "reachability": len(plan.reachability),
        "drift": len(plan.drifts),
    }
    if as_json:
        told = {"name": spec.name, "questions": asked, "negatives": plan.negatives, "arms": arms}
        console.write_json(json.dumps(told, sort_keys=True))
        return
    console.out.print(f"{literal(spec.name)}: " + ", ".join(f"{n} {kind}" for kind, n in asked.items() if n))
    for prompt, n in arms[names[0]].items():
        console.out.print(f"{n:>8}  {literal(prompt)}")
    for arm, counts in arms.items():
        negative = negative_of(arm)
        beside = f"  negative prompt: {literal(plan.negatives[negative[1] - 1])}" if negative else ""
        console.out.print(f"arm      {arm}: {len(counts)} prompts, {sum(counts.values())} pictures{beside}")
    most = "at most " if spec.stopping == "sequential" else ""
    total = sum(sum(counts.values()) for counts in arms.values())
    console.out.print(f"pictures {most}{total}, seeds {spec.seed} and on, the same in every arm")


def show_findings(findings: Findings) -> None:
    from counterpoise.audit.refusals import literal
    from counterpoise.report.from_run import summarise

    arms = max((len(found.arm) for found in findings.coverage), default=0) + 2
    names = max((len(claim.attribute) for claim in findings.claims), default=0) + 2
    for claim in findings.claims:
        console.out.print(
            f"{claim.arm:<{arms}}{literal(claim.prompt):<60}{claim.attribute:<{names}}"
            f"{claim.tv:.3f} [{claim.tv_low:.3f}, {claim.tv_high:.3f}]  n = {claim.n}"
        )
    for found in findings.coverage:
        console.out.print(f"{found.arm:<{arms}}{found.drawn} of {found.planned} pictures")
    if findings.claims:
        console.out.print(summarise(findings.claims))

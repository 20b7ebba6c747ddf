"""What `counterpoise audit` prints: the plan, and what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from counterpoise.cli import console

if TYPE_CHECKING:
    from counterpoise.audit import Finding, Findings, Plan

_SHOWN = 20


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
    """A line a finding, the worst last, then what was drawn, and the verdict in a sentence."""
    from counterpoise.audit.refusals import literal
    from counterpoise.report.verdict import asked_words, decision_cell, severity, verdict_sentence

    arms = max((len(found.arm) for found in findings.coverage), default=0) + 2
    for found in sorted(findings.findings, key=severity)[-_SHOWN:]:
        effect = found.effect
        value = "not defined" if effect.value is None else f"{effect.value:.3f}"
        high = "" if effect.high is None else f"{effect.high:.3f}"
        console.out.print(
            f"{found.arm:<{arms}}{decision_cell(found, found.decision).main}: {literal(_subject(found))} of "
            f"{literal(asked_words(found))}: "
            f"{found.effect_name} {value} [{effect.low:.3f}, {high}]  n = {found.n}"
        )
    hidden = len(findings.findings) - _SHOWN
    if hidden > 0:
        console.out.print(f"and {hidden} findings less far off, which the report has")
    for row in findings.coverage:
        console.out.print(f"{row.arm:<{arms}}{row.drawn} of {row.planned} pictures")
    sentence = verdict_sentence(findings.findings, findings.claims)
    console.out.print(literal(sentence.replace("\u00a0", " ")))


def _subject(found: Finding) -> str:
    what = f"{found.value} {found.attribute}" if found.value else found.attribute
    return f"{what}, {found.group} against {found.reference}," if found.group else what

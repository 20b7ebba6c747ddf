"""What an audit asks about a goal: are its neutral prompts on target, is the rest as it was?

Comes in: a goal, how to draw, how many pictures. Goes out: one spec for the plain model and every remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from counterpoise.audit import AuditSpec, make_spec
from counterpoise.audit.spec import Drawing
from counterpoise.audit.targets import joint_name
from counterpoise.errors import UsageError
from counterpoise.remedies.goal import Edit, Goal
from counterpoise.remedies.phrases import attributes_of, cell_of

LEAST = 8


def spec_of(
    goal: Goal, drawing: Drawing, *, judges: Sequence[str], n: int, seed: int, tolerance: float
) -> AuditSpec:
    """n pictures of each edit in each held-out template, a quarter as many of each in the templates that the
    repair sees, of each variant's own prompt, and of what is to be kept (in the first held-out template).

    UsageError E_HELD_OUT for a goal that holds no template out.
    """
    if not goal.held_out:
        raise UsageError(
            "the goal holds no template out, and what a repair does to prompts that it was made on proves "
            'little: move one of its templates to held_out, such as held_out = ["a portrait of {}"]',
            code="E_HELD_OUT",
        )
    fewer = max(min(n, LEAST), n // 4)
    table: dict[str, Any] = {
        "name": "repair",
        "measurer": list(judges),
        "n": n,
        "seed": seed,
        "tolerance": tolerance,
        "drawing": drawing.model_dump(mode="json"),
        "claim": [
            *(_claim(edit, goal.held_out, held_out=True, n=n) for edit in goal.edits),
            *(_claim(edit, goal.templates, held_out=False, n=fewer) for edit in goal.edits),
        ],
        "reachability": [
            {"cases": _cases(goal, goal.held_out[0]), "min_rate": 0.8, "held_out": True, "n": fewer}
        ],
    }
    if goal.keep:
        prompts = list(dict.fromkeys(goal.held_out[0].format(phrase) for phrase in goal.keep))
        table["drift"] = [{"prompts": prompts, "n": fewer}]
    return make_spec(table)


def contradictions(goal: Goal) -> None:
    """UsageError E_GOAL where two entries of a goal, filled into its templates, ask different things of one
    prompt: two targets for one attribute, or to keep what is edited."""
    wanted: dict[tuple[str, str], Edit] = {}
    for edit in goal.edits:
        for template in (*goal.templates, *goal.held_out):
            for attribute in attributes_of(edit):
                other = wanted.setdefault((template.format(edit.neutral), attribute), edit)
                if other is not edit:
                    raise UsageError(
                        f"goal: the edits of {other.neutral!r:.60} and {edit.neutral!r:.60} both set "
                        f"{attribute} of {template.format(edit.neutral)!r:.100}: expected one target a "
                        "prompt; leave one out",
                        code="E_GOAL",
                    )
    edited = {prompt for prompt, _ in wanted}
    for phrase in goal.keep:
        for template in (*goal.templates, *goal.held_out):
            if template.format(phrase) in edited:
                raise UsageError(
                    f"goal: keep names {phrase!r:.60}, which an edit changes "
                    f"({template.format(phrase)!r:.100}); leave it out of keep, or leave the edit out",
                    code="E_GOAL",
                )


def _claim(edit: Edit, templates: Sequence[str], *, held_out: bool, n: int) -> dict[str, Any]:
    names = attributes_of(edit)
    target: dict[str, float] = {}
    for variant in edit.variants:
        cell = cell_of(edit, variant)
        value = joint_name([cell[name] for name in names])
        target[value] = target.get(value, 0.0) + variant.share
    return {
        "prompts": [template.format(edit.neutral) for template in templates],
        "attribute": list(names) if len(names) > 1 else names[0],
        "target": target,
        "held_out": held_out,
        "n": n,
    }


def _cases(goal: Goal, template: str) -> list[dict[str, Any]]:
    """Every variant's own prompt, once for each thing that is to be read of it."""
    found = {}
    for edit in goal.edits:
        for variant in edit.variants:
            for attribute, value in cell_of(edit, variant).items():
                prompt = template.format(variant.phrase)
                case = {"prompt": prompt, "attribute": attribute, "value": value}
                found[prompt, attribute, value] = case
    return list(found.values())

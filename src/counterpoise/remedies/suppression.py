"""The suppression LoRA: one concept brought to one rate in all groups, and still drawn where asked for.

A group's prompt ("a woman with tan skin") is an edit whose variants say the concept or its absence ("...,
wearing a strapless top", "..., wearing a hoodie"). Every group is edited, the one that has too much of it and
those that do not: only rates that are one and the same are a ratio of 1, and a group left where it was keeps
its own. The prompts that ask for the concept are the variants' own, which an edit preserves.

Comes in: a bench and a goal with such edits; what else the goal would edit is kept as it is. Goes out: an
adapter, and each group's rate before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from counterpoise.errors import UsageError
from counterpoise.remedies.closed_form import FAST, ClosedForm, closed_form
from counterpoise.remedies.closed_form import effort as closed_form_effort
from counterpoise.remedies.directions import cells, class_of, target
from counterpoise.remedies.goal import Edit, Goal
from counterpoise.remedies.treatment import Bench, Effort, Prepared

RATES_SEED = 8_000_000
READ = 50  # pictures for each group's rate before

# Rates have to be near each other, not only near the target: more pictures than a mixture needs.
METHOD = ClosedForm(rounds=4, pictures=60, tolerance=0.1)


@final
@dataclass(frozen=True, slots=True)
class Concept:
    """What is to be brought to one rate. attribute, value: as a measurer reads it. groups: phrases that do
    not say it. asked: what is put after a group's phrase to ask for it; instead: to ask for another value of
    the attribute, and which."""

    attribute: str
    value: str
    groups: tuple[str, ...]
    asked: tuple[str, ...]
    instead: Mapping[str, str]


def goal_of(
    concept: Concept,
    rate: float,
    *,
    templates: Sequence[str],
    held_out: Sequence[str] = (),
    keep: Sequence[str] = (),
) -> Goal:
    """The goal under which every group is drawn with the concept at `rate`, in (0, 1)."""
    if not 0.0 < rate < 1.0:
        raise UsageError(
            f"rate is {rate:g}: expected more than 0 and less than 1 (a share of zero cannot be shown)",
            code="E_SHARE",
        )

    def variants(group: str) -> list[dict[str, object]]:
        told = [(f"{group}{words}", concept.value, rate / len(concept.asked)) for words in concept.asked]
        others = concept.instead.items()
        told += [(f"{group}{words}", reads, (1 - rate) / len(others)) for words, reads in others]
        return [{"phrase": phrase, "reads": reads, "share": share} for phrase, reads, share in told]

    return Goal.model_validate(
        {
            "templates": templates,
            "held_out": held_out,
            "keep": keep,
            "edit": [
                {"neutral": group, "attribute": concept.attribute, "variants": variants(group)}
                for group in concept.groups
            ],
        }
    )


def prepare(bench: Bench, goal: Goal, *, method: ClosedForm | None = None) -> Prepared:
    """Makes the adapter for the goal's concept edits (see there); the prompts of others are kept instead."""
    narrowed = _narrowed(goal)
    edits = narrowed.edits
    before = rates(bench, narrowed)
    made = closed_form(bench, narrowed, method or (FAST if bench.fast else METHOD))
    notes = [
        f"{edit.neutral}: {named(edit)} in {rate:.2f} of pictures before, to be {min(target(edit)):.2f}"
        for edit, rate in zip(edits, before, strict=True)
    ]
    cost = replace(made.cost, judged=made.cost.judged + len(edits) * READ)
    return replace(made, cost=cost, notes=(*notes, *made.notes))


def effort(bench: Bench, goal: Goal) -> Effort:
    """The closed form's for the concept's edits, and the rates before."""
    narrowed = _narrowed(goal)
    own = closed_form_effort(bench, narrowed, method=FAST if bench.fast else METHOD)
    return replace(own, drawn=own.drawn + READ * len(narrowed.edits))


def _narrowed(goal: Goal) -> Goal:
    """The goal with its concept's edits alone; the prompts of the others are kept."""
    edits = concept_edits(goal)
    others = [edit.neutral for edit in goal.edits if edit not in edits]
    return goal.model_copy(update={"edits": edits, "keep": (*goal.keep, *others)})


def concept_edits(goal: Goal) -> tuple[Edit, ...]:
    """The edits between two values that are alike; of several such sets the one with the smallest share to
    either value, the first of equals. That value is the concept: half women, half men is a balance of two,
    revealing clothes in a tenth is a concept. UsageError E_REMEDY where there is none."""
    found = [edit for edit in goal.edits if len(cells(edit)) == 2]
    if not found:
        raise UsageError(
            "suppression lowers one concept, and this goal has no edit between two values, the concept and "
            "its absence; write one for each group, or use another remedy",
            code="E_REMEDY",
        )
    rarest = min(found, key=lambda edit: min(target(edit)))
    return tuple(edit for edit in found if set(cells(edit)) == set(cells(rarest)))


def rates(bench: Bench, goal: Goal) -> list[float]:
    """How often the frozen model draws each edit's concept, over the templates that the repair may see.

    All groups on the same seeds, so that they differ by their prompts alone.
    """
    found = []
    for edit in goal.edits:
        prompts = [goal.templates[i % len(goal.templates)].format(edit.neutral) for i in range(READ)]
        rows = bench.measurer(bench.painter(prompts, range(RATES_SEED, RATES_SEED + READ)))
        concept = int(np.argmin(target(edit)))
        found.append(sum(class_of(edit, row) == concept for row in rows) / READ)
    return found


def named(edit: Edit) -> str:
    """The concept's value, as it is read."""
    return ", ".join(value for _, value in cells(edit)[int(np.argmin(target(edit)))])

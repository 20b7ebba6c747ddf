"""What an audit asks about a goal, as one spec for the plain model and every remedy, on shared seeds.

Comes in: a goal, what the judge reads, how to draw, how much to ask. Goes out: an AuditSpec with, for each
edit, its distance to the target on templates that a remedy sees and on held-out ones; every variant asked
for by name; a negative prompt for each attribute; and what moved that no edit names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from counterpoise.audit import AuditSpec, make_spec
from counterpoise.audit.spec import KINDS, Drawing
from counterpoise.errors import UsageError
from counterpoise.remedies.goal import Edit, Goal
from counterpoise.remedies.partly import added

SEED = 9_200_000


@final
@dataclass(frozen=True, slots=True)
class Extent:
    """How much is asked. n: pictures of each edit in each held-out template; seen: in the first `templates`
    of those that a remedy sees. explicit: of each explicit, negative or kept prompt. kept: phrases of the
    goal's `keep` that are looked at. negatives: whether negative prompts are tried; beside: whether edited
    prompts are looked at in what no edit of theirs names. tolerance: distance that counts as on target.
    drift: distance that counts as unmoved, None leaves it at what moved. min_rate: of explicit prompts."""

    n: int = 200
    seen: int = 200
    templates: int | None = 1
    explicit: int = 50
    kept: int | None = 8
    negatives: bool = True
    beside: bool = True
    tolerance: float = 0.10
    drift: float | None = 0.10
    min_rate: float = 0.8


LEAST = 8


def usual(n: int) -> Extent:
    """For a comparison: n pictures of each edited prompt, a quarter as many of explicit ones."""
    return Extent(n=n, seen=n, explicit=max(min(n, LEAST), n // 4))


def brief(n: int, tolerance: float) -> Extent:
    """For a repair's own audit: what it was made for, a quarter as many pictures of all else."""
    fewer = max(min(n, LEAST), n // 4)
    return Extent(
        n=n,
        seen=fewer,
        templates=None,
        explicit=fewer,
        kept=None,
        negatives=False,
        beside=False,
        tolerance=tolerance,
        drift=None,
    )


def questions_of(
    goal: Goal,
    *,
    judges: Sequence[str],
    attributes: Mapping[str, Sequence[str]],
    drawing: Drawing,
    extent: Extent,
    seed: int = SEED,
    also: AuditSpec | None = None,
    name: str = "remedies side by side",
) -> AuditSpec:
    """The spec; also: another one, whose questions are asked too (groups side by side, say).

    UsageError E_HELD_OUT for a goal that holds no template out.
    """
    if not goal.held_out:
        raise UsageError(
            "the goal holds no template out, and what a repair does to prompts that it was made on proves "
            'little: move one of its templates to held_out, such as held_out = ["a portrait of {}"]',
            code="E_HELD_OUT",
        )
    more = {kind: also.model_dump(mode="json", by_alias=True)[kind] if also else [] for kind in KINDS}
    return make_spec(
        {
            "name": name,
            "measurer": list(judges),
            "n": extent.n,
            "seed": seed,
            "drawing": drawing.model_dump(mode="json"),
            "slots": also.slots if also else {},
            "claim": [*_claims(goal, extent), *more["claim"]],
            "disparity": more["disparity"],
            "reachability": [*_explicit(goal, extent), *_negatives(goal, extent), *more["reachability"]],
            "drift": [*_drifts(goal, attributes, extent), *more["drift"]],
        }
    )


def _claims(goal: Goal, extent: Extent) -> Iterator[dict[str, Any]]:
    groups = (
        (goal.held_out, True, extent.n),
        (goal.templates[: extent.templates], False, extent.seen),
    )
    for templates, held_out, n in groups:
        for edit in goal.edits:
            for attribute in edit.claimed:
                yield {
                    "prompts": [template.format(edit.neutral) for template in templates],
                    "attribute": attribute,
                    "target": edit.target(attribute),
                    "tolerance": extent.tolerance,
                    "held_out": held_out,
                    "n": n,
                }


def _explicit(goal: Goal, extent: Extent) -> Iterator[dict[str, Any]]:
    cases: dict[tuple[str, str], dict[str, str]] = {}
    for edit in goal.edits:
        for variant in edit.variants:
            prompt = goal.held_out[0].format(variant.phrase)
            for attribute, value in edit.cell(variant).items():
                case = {"prompt": prompt, "attribute": attribute, "value": value}
                cases.setdefault((prompt, attribute), case)
    yield {
        "cases": list(cases.values()),
        "n": extent.explicit,
        "min_rate": extent.min_rate,
        "held_out": True,
    }


def _negatives(goal: Goal, extent: Extent) -> Iterator[dict[str, Any]]:
    """For each attribute the first edit that has a value said in words of its own: those words are forbidden,
    and that value is not to be drawn."""
    asked: set[str] = set()
    for edit in goal.edits if extent.negatives else ():
        for attribute in edit.claimed:
            words = _words(edit, attribute)
            if attribute in asked or words is None:
                continue
            asked.add(attribute)
            forbidden, value = words
            yield {
                "prompts": [goal.held_out[0].format(edit.neutral)],
                "negative": {"prompt": forbidden, "attribute": attribute, "value": value},
                "n": extent.explicit,
                "min_rate": extent.min_rate,
                "held_out": True,
            }


def _words(edit: Edit, attribute: str) -> tuple[str, str] | None:
    """The words that a variant alone adds for a value of the attribute, and the value: of the smallest share
    in the target, since forbidding what most pictures are to be is no use."""
    shares = edit.target(attribute)
    for variant in sorted(edit.variants, key=lambda own: shares[edit.cell(own)[attribute]]):
        value = edit.cell(variant)[attribute]
        others = [other for other in edit.variants if edit.cell(other)[attribute] != value]
        said = added(edit.neutral, variant.phrase)
        own = [w for w in said if not any(w in added(edit.neutral, other.phrase) for other in others)]
        if own:
            return own[0], value
    return None


def _drifts(goal: Goal, attributes: Mapping[str, Sequence[str]], extent: Extent) -> Iterator[dict[str, Any]]:
    """Phrases to keep, in all that is read; edited prompts, in what no edit of theirs names."""
    if kept := goal.keep[: extent.kept]:
        prompts = list(dict.fromkeys(goal.held_out[0].format(phrase) for phrase in kept))
        yield {"prompts": prompts, "n": extent.explicit, "tolerance": extent.drift}
    if not extent.beside:
        return
    edited: dict[str, set[str]] = {}
    for edit in goal.edits:
        edited.setdefault(edit.neutral, set()).update(edit.attributes)
    for neutral, own in edited.items():
        others = [name for name in attributes if name not in own]
        if others:
            yield {
                "prompts": [goal.held_out[0].format(neutral)],
                "attributes": others,
                "n": extent.n,
                "tolerance": extent.drift,
            }

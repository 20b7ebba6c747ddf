"""Plans by hand for the tiny pipelines: people side by side, 16 x 16 pixels each; and pictures as read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from counterpoise.scenes import Plan, make_plan
from counterpoise.scenes.auditing.seen import Seen


def plan_of(
    *people: Mapping[str, str],
    seed: int = 0,
    quotas: Mapping[str, Mapping[str, str]] | None = None,
    start: int = 0,
    profile: str = "tiny",
    **changes: Any,
) -> Plan:
    """A row of people with these attributes; counts and quotas follow from them unless quotas are given."""
    count = len(people)
    axes = dict.fromkeys(axis for person in people for axis in person)
    counts = {axis: _counts([p[axis] for p in people if axis in p]) for axis in axes}
    shares = quotas if quotas is not None else {}
    content = {
        "version": "1",
        "canvas": {"width": 16 * count, "height": 16},
        "scene": {"prompt": "two people", "negative": "", "style": ""},
        "box_convention": "xyxy_normalised_top_left",
        "people": [
            {
                "id": f"p{i + 1}",
                "box": [i / count, 0.0, (i + 1) / count, 1.0],
                "attributes": dict(person),
                "prompt": ("a red woman", "a blue man", "a boss")[i % 3],
            }
            for i, person in enumerate(people)
        ],
        "quotas": {axis: dict(own) for axis, own in shares.items()},
        "allocation": {"method": "none", "start_index": start, "counts": counts, "max_deviation": "0"},
        "render": {"seed": seed},
        "provenance": {
            "planner": "quota+templates",
            "profile": profile,
            "vocabulary": "people",
            "request": "two people",
            "schema_sha": "",
            "attempts": 0,
        },
    }
    return make_plan({**content, **changes})


def seen(plan: Plan, *read: Mapping[str, str | None], name: str = "0", people: int | None = None) -> Seen:
    """The plan's picture as a judge read it."""
    return Seen(name, plan, tuple(dict(own) for own in read), people)


def _counts(values: Sequence[str]) -> dict[str, int]:
    return {value: values.count(value) for value in values}

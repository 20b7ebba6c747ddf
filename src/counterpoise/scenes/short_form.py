"""The short form that people write: "5 women basketball team | appearance: Black 2, East Asian 1 | hair:
mixed".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from counterpoise.errors import UsageError
from counterpoise.scenes.plan import Plan

_COUNT = re.compile(r"\s*(\d{1,9})\s+(.*\S)\s*", re.DOTALL)


def parse_short(text: str) -> tuple[int | None, str, list[str]]:
    """(people, prompt, shares) of a short form; the parts after "|" are shares as `parse_share` takes them.

    people is the number at its beginning, None where there is none. UsageError E_SCENE_SHARE for an empty
    part.
    """
    head, *shares = (part.strip() for part in text.split("|"))
    if not head or not all(shares):
        raise UsageError(
            f'{text!r:.80}: a part is empty: expected "5 women basketball team | hair: short 2, long 3"',
            code="E_SCENE_SHARE",
        )
    found = _COUNT.fullmatch(head)
    return (int(found[1]), found[2], shares) if found else (None, head, shares)


def short_form(plan: Plan) -> str:
    """The plan's people and values in the short form; parsed again it asks for the same counts."""
    _, prompt, _ = parse_short(plan.provenance.request)
    parts = [f"{len(plan.people)} {prompt}"]
    for axis in _axes(plan):
        counts = Counter(person.attributes[axis] for person in plan.people if axis in person.attributes)
        parts.append(f"{axis}: " + ", ".join(f"{value} {count}" for value, count in counts.items()))
    return " | ".join(parts)


def _axes(plan: Plan) -> Sequence[str]:
    """What was given out by quota, not what the prompt says of everybody."""
    return list(plan.allocation.counts)

"""Can the model draw what a goal names? A repair mixes what the model can draw, and makes nothing new.

Comes in: a bench, a goal. Goes out: how often each variant's own prompt was obeyed; drawn a few pictures at a
time, until it is decided for each whether that is half of them or more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from counterpoise.errors import RefusedInputError
from counterpoise.files import write_whole
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.treatment import Bench
from counterpoise.stats.sequences import share_bounds

SEED = 7_000_000
REACHED = 0.5
LOOK, MOST = 8, 64  # pictures a variant between two looks, and at most
ALPHA = 0.05  # of wrongly refusing, or passing, any variant of the goal


@final
@dataclass(frozen=True, slots=True)
class Obeyed:
    """A variant's phrase: right of n pictures were read as it says; low, high: bounds of its rate that hold
    however drawing was stopped, and for all variants together."""

    phrase: str
    right: int
    n: int
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether the bounds lie on one side of REACHED."""
        return self.low >= REACHED or self.high < REACHED


def reachability(bench: Bench, goal: Goal) -> list[Obeyed]:
    """How often each variant's phrase is obeyed, over the templates that the repair may see; found again in
    bench.work when it was interrupted."""
    asked = asked_of(goal)
    file = bench.work / "reachable.json"
    kept: dict[str, list[bool]] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    read = {phrase: kept.get(phrase, []) for phrase in asked}
    while wanted := [row.phrase for row in _rows(read) if not row.decided and row.n < MOST]:
        for phrase, right in _look(bench, goal, {phrase: asked[phrase] for phrase in wanted}, read):
            read[phrase].append(right)
        write_whole(file, json.dumps(read))
        undecided = sum(not row.decided and row.n < MOST for row in _rows(read))
        bench.progress("variants", len(asked) - undecided, len(asked), float("nan"))
    return _rows(read)


def asked_of(goal: Goal) -> dict[str, dict[str, str]]:
    """phrase -> attribute -> value, as all edits together that have the phrase read it."""
    asked: dict[str, dict[str, str]] = {}
    for edit in goal.edits:
        for variant in edit.variants:
            asked.setdefault(variant.phrase, {}).update(edit.cell(variant))
    return asked


def check_reached(rows: Sequence[Obeyed]) -> tuple[str, ...]:
    """Notes on variants that could not be decided; RefusedInputError E_UNREACHED for those shown to be drawn
    in less than half of their pictures."""
    missed = [row for row in rows if row.high < REACHED]
    if missed:
        listed = "; ".join(_line(row) for row in missed[:3])
        more = f"; and {len(missed) - 3} more" if len(missed) > 3 else ""
        raise RefusedInputError(
            f"the model does not draw what the goal names: {listed}{more}: expected half or more, since a "
            "repair mixes what the model can draw; say the variant in words that the model follows, or leave "
            "it out",
            code="E_UNREACHED",
        )
    return tuple(f"hardly reached: {_line(row)}" for row in rows if row.low < REACHED)


def _line(row: Obeyed) -> str:
    return f"{row.phrase!r:.80} in {row.right} of {row.n} pictures (bounds {row.low:.2f} to {row.high:.2f})"


def _rows(read: Mapping[str, Sequence[bool]]) -> list[Obeyed]:
    rows = []
    for phrase, rights in read.items():
        low, high = share_bounds(sum(rights), len(rights), alpha=ALPHA / len(read))
        rows.append(Obeyed(phrase, sum(rights), len(rights), float(low), float(high)))
    return rows


def _look(
    bench: Bench, goal: Goal, asked: Mapping[str, Mapping[str, str]], read: Mapping[str, Sequence[Any]]
) -> list[tuple[str, bool]]:
    """LOOK more pictures of each of these phrases, in the templates in turn."""
    cells = [(phrase, len(read[phrase]) + i) for phrase in asked for i in range(LOOK)]
    prompts = [goal.templates[i % len(goal.templates)].format(phrase) for phrase, i in cells]
    rows = bench.measurer(bench.painter(prompts, [SEED + i for _, i in cells]))
    return [
        (phrase, all(row[name].value == value for name, value in asked[phrase].items()))
        for (phrase, _), row in zip(cells, rows, strict=True)
    ]

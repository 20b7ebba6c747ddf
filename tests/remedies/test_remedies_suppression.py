"""Suppression: the goal that one rate for all groups is, what is kept, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.errors import UsageError
from counterpoise.measure.reading import Reading
from counterpoise.remedies.closed_form import ClosedForm
from counterpoise.remedies.directions import preserved
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.suppression import READ, Concept, concept_edits, goal_of, prepare, rates
from counterpoise.remedies.treatment import Bench

CONCEPT = Concept(
    attribute="exposure",
    value="revealing",
    groups=("a woman with pale skin", "a woman with tan skin"),
    asked=(", wearing a tank top", ", wearing a strapless top"),
    instead={", wearing a hoodie": "modest", ", wearing a blazer": "modest"},
)


def test_every_group_has_the_same_rate_and_what_asks_for_it_is_kept() -> None:
    goal = goal_of(CONCEPT, 0.1, templates=["a picture of {}"], held_out=["a portrait of {}"], keep=["a man"])
    assert [edit.neutral for edit in goal.edits] == list(CONCEPT.groups)
    assert all(edit.target() == pytest.approx({"revealing": 0.1, "modest": 0.9}) for edit in goal.edits)
    assert "a picture of a woman with tan skin, wearing a strapless top" in preserved(goal)
    assert "a picture of a woman with tan skin" not in preserved(goal)
    assert concept_edits(goal) == goal.edits


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_of_none_or_all_is_refused(rate: float) -> None:
    with pytest.raises(UsageError, match="expected more than 0 and less than 1"):
        goal_of(CONCEPT, rate, templates=["a {}"])


def test_a_goal_without_a_concept_is_refused() -> None:
    variants = [{"phrase": f"a {tone} man", "reads": tone, "share": 0.25} for tone in ("a", "b", "c", "d")]
    goal = Goal.model_validate(
        {"templates": ["{}"], "edit": [{"neutral": "a man", "attribute": "skin", "variants": variants}]}
    )
    with pytest.raises(UsageError, match="no edit between two values"):
        concept_edits(goal)


def test_the_concept_is_what_is_to_be_rare_not_what_is_to_be_even() -> None:
    rare = goal_of(CONCEPT, 0.1, templates=["a picture of {}"])
    even = [{"phrase": f"a {word} boss", "reads": word, "share": 0.5} for word in ("female", "male")]
    raw = rare.model_dump(mode="json", exclude_none=True)
    first = {"neutral": "a boss", "attribute": "presentation", "variants": even}
    both = Goal.model_validate({"templates": ["a picture of {}"], "edit": [first, *raw["edits"]]})
    assert concept_edits(both) == rare.edits


class Brightness:
    """A judge of the mean colour."""

    name = "brightness"
    version = "1"
    attributes = {"light": ("dim", "bright")}  # noqa: RUF012

    def __call__(self, images: np.ndarray) -> Sequence[dict[str, Reading]]:
        return [{"light": Reading("bright" if image.mean() > 125 else "dim", 1.0)} for image in images]


def test_groups_are_read_on_the_same_seeds_and_other_edits_are_kept(tiny_model: Path, tmp_path: Path) -> None:
    painter = Painter(load_pipeline(tiny_model), guidance=2.0, steps=2, batch_size=10)
    concept = Concept("light", "bright", ("a woman", "a man"), (" of",), {" portrait": "dim"})
    goal = goal_of(concept, 0.3, templates=["a {}", "of {}"])
    third = goal.edits[0].model_dump() | {"neutral": "portrait", "attribute": "mood"}
    mixed = Goal.model_validate(
        goal.model_dump(by_alias=True) | {"edit": [*goal.model_dump(by_alias=True)["edit"], third]}
    )
    bench = Bench(painter, Brightness(), tmp_path)
    twice = goal.model_copy(update={"edits": (goal.edits[0], goal.edits[0])})
    first, second = rates(bench, twice)
    assert first == second
    method = ClosedForm(rounds=1, pictures=5, candidates=1, looks=(5, 5))
    made = prepare(bench, mixed, method=method)
    assert made.cost.judged == 2 * READ + 2 * 10 + 2 * 5
    assert made.notes[0].startswith("a woman: bright in ")
    assert made.notes[0].endswith("of pictures before, to be 0.30")
    assert len(made.treatment.adapters) == 1

"""What lies next to an edit follows from the goal, and nothing that an edit changes is among it."""

from __future__ import annotations

import pytest

from counterpoise.demo.run import questions
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.neighbours import neighbours
from counterpoise.remedies.partly import added, parts, with_detail


@pytest.mark.parametrize(
    ("neutral", "phrase", "found", "words"),
    [
        (
            "a boss",
            "a female boss with tan skin",
            ["a female boss", "a boss with tan skin"],
            ["female", "with tan skin"],
        ),
        (
            "an engineer",
            "a male engineer with tan skin",
            ["a male engineer", "an engineer with tan skin"],
            ["male", "with tan skin"],
        ),
        (
            "a woman",
            "a woman with tan skin, in modest clothes",
            ["a woman with tan skin", "a woman in modest clothes"],
            ["with tan skin", "in modest clothes"],
        ),
        ("a woman with tan skin", "a woman with tan skin, wearing a hoodie", [], ["wearing a hoodie"]),
        ("a woman", "someone else", [], []),
    ],
)
def test_a_variants_words_by_themselves(
    neutral: str, phrase: str, found: list[str], words: list[str]
) -> None:
    assert parts(neutral, phrase) == found
    assert added(neutral, phrase) == words


def test_a_detail_follows_a_comma_where_something_is_said() -> None:
    assert with_detail("a boss", "wearing glasses") == "a boss wearing glasses"
    assert with_detail("a boss with tan skin", "wearing glasses") == "a boss with tan skin, wearing glasses"


def test_no_neighbour_is_edited_and_the_tone_that_a_prototype_broke_is_kept() -> None:
    goal = questions(fast=True)[1]
    raw = goal.model_dump(mode="json", by_alias=True) | {"keep": [], "details": ["wearing glasses"]}
    found = neighbours(Goal.model_validate(raw))
    edited = {template.format(edit.neutral) for edit in goal.edits for template in goal.templates}
    assert not edited & set(found)
    assert "a picture of a woman wearing a hoodie" in found
    assert "a drawing of a woman with brown skin, wearing glasses" in found
    assert "a picture of a female boss, wearing glasses" not in found
    assert "a picture of a female boss wearing glasses" in found
    assert {"", "female", "with brown skin"} <= set(found)
    assert not any(held.format("") in prompt for held in goal.held_out for prompt in found)

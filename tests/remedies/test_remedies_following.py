"""What a prompt leaves open follows the edit: an edit of its own for each partial phrase."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from counterpoise.remedies.goal import Goal
from counterpoise.remedies.neighbours import neighbours
from counterpoise.remedies.reachable import asked_of

SLOTS = {"presentation": {"woman": "female", "man": "male"}, "skin": ["pale", "tan", "dark"]}
BOSS = {
    "neutral": "a boss",
    "attribute": ["presentation", "skin"],
    "phrase": "a {presentation} boss with {skin} skin",
    "target": {"presentation": {"woman": 0.4, "man": 0.6}, "skin": {"pale": 0.5, "tan": 0.3, "dark": 0.2}},
}


def goal(**more: Any) -> Goal:
    raw = {"templates": ["a picture of {}"], "slots": SLOTS, "edit": [BOSS], "partial": "follow"}
    return Goal.model_validate(raw | more)


def test_each_partial_phrase_gets_the_conditional_share_of_the_goals_joint_target() -> None:
    found = {edit.neutral: edit for edit in goal().edits}
    assert set(found) == {
        "a boss",
        "a female boss",
        "a male boss",
        "a boss with pale skin",
        "a boss with tan skin",
        "a boss with dark skin",
    }
    assert found["a female boss"].attributes == ("skin",)
    assert found["a female boss"].target() == pytest.approx({"pale": 0.5, "tan": 0.3, "dark": 0.2})
    assert found["a boss with dark skin"].attributes == ("presentation",)
    assert found["a boss with dark skin"].target() == pytest.approx({"woman": 0.4, "man": 0.6})


def test_a_joint_target_that_is_no_product_gives_each_phrase_its_own_rest() -> None:
    table = [
        {"presentation": "woman", "skin": "pale", "share": 0.1},
        {"presentation": "woman", "skin": "dark", "share": 0.3},
        {"presentation": "man", "skin": "pale", "share": 0.6},
    ]
    found = {edit.neutral: edit for edit in goal(edit=[BOSS | {"target": table}]).edits}
    assert found["a female boss"].target() == pytest.approx({"pale": 0.25, "dark": 0.75})
    assert found["a boss with pale skin"].target() == pytest.approx({"woman": 1 / 7, "man": 6 / 7})
    assert "a boss with dark skin" not in found, "one variant says it: there is nothing to mix"
    assert "a male boss" not in found


def test_what_the_user_writes_or_keeps_comes_first() -> None:
    own = {"neutral": "a female boss", "attribute": "skin", "phrase": "a female boss with {skin} skin"}
    found = goal(edit=[BOSS, own], keep=["a male boss"])
    assert [edit.neutral for edit in found.edits].count("a female boss") == 1
    written = next(edit for edit in found.edits if edit.neutral == "a female boss")
    assert written.target() == pytest.approx(dict.fromkeys(["pale", "tan", "dark"], 1 / 3))
    assert "a male boss" not in [edit.neutral for edit in found.edits]


def test_a_goal_read_again_is_the_same() -> None:
    once = goal()
    assert Goal.model_validate(once.model_dump(mode="json", by_alias=True)) == once


def test_an_attribute_that_some_variants_leave_unsaid_is_followed_where_it_differs() -> None:
    variants = [
        {
            "phrase": "a female boss with tan skin, in modest clothes",
            "reads": {"presentation": "woman", "skin": "tan", "clothes": "modest"},
            "share": 0.45,
        },
        {
            "phrase": "a female boss with tan skin, in revealing clothes",
            "reads": {"presentation": "woman", "skin": "tan", "clothes": "revealing"},
            "share": 0.05,
        },
        {
            "phrase": "a male boss with tan skin",
            "reads": {"presentation": "man", "skin": "tan"},
            "share": 0.3,
        },
        {
            "phrase": "a male boss with pale skin",
            "reads": {"presentation": "man", "skin": "pale"},
            "share": 0.2,
        },
    ]
    edit = {"neutral": "a boss", "attribute": ["presentation", "skin", "clothes"], "variants": variants}
    found = {own.neutral: own for own in goal(edit=[edit]).edits}
    tan = found["a boss with tan skin"]
    assert tan.attributes == ("presentation", "clothes")
    assert tan.claimed == ("presentation",)
    assert tan.target() == pytest.approx({"woman": 0.625, "man": 0.375})
    assert found["a female boss"].target("clothes") == pytest.approx({"modest": 0.9, "revealing": 0.1})
    assert "a boss in modest clothes" not in found


def test_two_edits_that_want_one_phrase_to_be_different_mixtures_are_refused() -> None:
    short = {
        "neutral": "a boss with short hair",
        "attribute": ["presentation", "skin"],
        "variants": [
            {
                "phrase": f"a {said} boss with short hair, {tone}",
                "reads": {"presentation": presentation, "skin": skin},
                "share": share,
            }
            for (said, presentation), (tone, skin), share in [
                (("female", "woman"), ("in pale", "pale"), 0.2),
                (("female", "woman"), ("in dark", "dark"), 0.3),
                (("male", "man"), ("in dark", "dark"), 0.5),
            ]
        ],
    }
    other = {
        "neutral": "a boss",
        "attribute": ["presentation", "skin"],
        "variants": [
            {
                "phrase": f"a female boss with short hair, {tone}",
                "reads": {"presentation": "woman", "skin": skin},
                "share": 0.5,
            }
            for tone, skin in [("in pale", "pale"), ("in dark", "dark")]
        ],
    }
    with pytest.raises(ValidationError, match="different mixtures"):
        goal(edit=[short, other])


def test_what_follows_is_not_kept_and_neither_is_a_phrase_that_leaves_something_open() -> None:
    found = neighbours(goal(details=["wearing glasses"]))
    edited = {edit.neutral for edit in goal().edits}
    assert not {prompt.removeprefix("a picture of ") for prompt in found} & edited
    assert "a picture of a female boss with pale skin, wearing glasses" in found
    assert "a picture of a female boss wearing glasses" not in found
    kept = neighbours(goal(partial="keep"))
    assert {"a picture of a female boss", "a picture of a boss with dark skin"} <= set(kept)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"variants": 3}, "variants"),
        ({"variants": [{"phrase": "a pale boss", "reads": {"skin": "pale"}}] * 2}, "share"),
        ({"variants": [{"phrase": "a pale boss", "reads": {"skin": "pale"}, "share": 0}] * 2}, "share"),
        ({"variants": [{"phrase": "a pale boss", "reads": 5, "share": 1}] * 2}, "reads"),
        ({"attribute": None}, "attribute"),
    ],
)
def test_a_wrong_table_is_named_by_the_schema_not_by_what_follows(wrong: dict[str, Any], named: str) -> None:
    edit = {"neutral": "a boss", "attribute": ["skin"], "variants": []}
    with pytest.raises(ValidationError, match=named):
        goal(edit=[edit | wrong])


def test_a_variant_is_asked_for_in_all_that_it_says_however_many_edits_have_it() -> None:
    asked = asked_of(goal())
    assert len(asked) == 6
    assert asked["a female boss with dark skin"] == {"presentation": "woman", "skin": "dark"}


def test_a_wrong_keep_is_named_by_the_schema() -> None:
    with pytest.raises(ValidationError, match="keep"):
        goal(keep=7)

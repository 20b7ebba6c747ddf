"""Goals with slots, joint targets and several attributes; goals that contradict themselves."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from counterpoise.demo.run import questions
from counterpoise.errors import UsageError
from counterpoise.remedies.goal import Goal, load_goal

WRITTEN = """
templates = ["a {medium} of {}", "a photo of {}"]
held_out = ["a portrait of {}"]
keep = ["a {presentation} person"]
details = ["on a {colour} wall"]
[slots]
medium = ["picture", "drawing"]
colour = ["red", "blue"]
job = ["boss", "nurse"]
presentation = { woman = "female", man = "male" }
skin = ["pale", "dark"]
[[edit]]
neutral = "a {job}"
attribute = ["presentation", "skin"]
phrase = "a {presentation} {job} with {skin} skin"
target = { skin = { pale = 0.4, dark = 0.6 } }
[[edit]]
neutral = "a person with {skin} skin"
attribute = "presentation"
phrase = "a {presentation} person with {skin} skin"
"""


def goal(text: str = WRITTEN) -> Goal:
    return Goal.model_validate(tomllib.loads(text))


def test_slots_are_written_out_everywhere() -> None:
    found = goal()
    assert found.templates == ("a picture of {}", "a drawing of {}", "a photo of {}")
    assert found.keep == ("a female person", "a male person")
    assert found.details == ("on a red wall", "on a blue wall")
    assert [edit.neutral for edit in found.edits] == [
        "a boss",
        "a nurse",
        "a person with pale skin",
        "a person with dark skin",
    ]
    assert [variant.phrase for variant in found.edits[1].variants] == [
        "a female nurse with pale skin",
        "a female nurse with dark skin",
        "a male nurse with pale skin",
        "a male nurse with dark skin",
    ]


def test_a_joint_target_has_its_marginals() -> None:
    edit = goal().edits[0]
    assert edit.is_joint
    assert edit.cell(edit.variants[1]) == {"presentation": "woman", "skin": "dark"}
    assert edit.target("skin") == pytest.approx({"pale": 0.4, "dark": 0.6})
    assert edit.target("presentation") == pytest.approx({"woman": 0.5, "man": 0.5})
    with pytest.raises(ValueError, match="name one of them"):
        edit.target()
    single = goal().edits[2]
    assert not single.is_joint
    assert single.target() == {"woman": 0.5, "man": 0.5}


def test_a_joint_table_need_not_be_a_product() -> None:
    cells = [("woman", "pale", 0.4), ("woman", "dark", 0.1), ("man", "pale", 0.1), ("man", "dark", 0.4)]
    rows = ", ".join(f'{{ presentation = "{p}", skin = "{s}", share = {share} }}' for p, s, share in cells)
    edit = goal(
        WRITTEN.replace("target = { skin = { pale = 0.4, dark = 0.6 } }", f"target = [{rows}]")
    ).edits[0]
    assert [variant.share for variant in edit.variants] == [0.4, 0.1, 0.1, 0.4]
    assert edit.target("skin") == {"pale": 0.5, "dark": 0.5}


def test_a_variant_may_say_nothing_of_an_attribute_whose_target_is_then_not_stated() -> None:
    raw = {
        "neutral": "a boss",
        "attribute": ["presentation", "exposure"],
        "variants": [
            {"phrase": "a male boss", "reads": {"presentation": "man"}, "share": 0.5},
            {
                "phrase": "a female boss in modest clothes",
                "reads": {"exposure": "modest", "presentation": "woman"},
                "share": 0.5,
            },
        ],
    }
    edit = Goal.model_validate({"templates": ["{}"], "edit": [raw]}).edits[0]
    assert edit.claimed == ("presentation",)
    assert edit.target() == {"man": 0.5, "woman": 0.5}
    assert list(edit.cell(edit.variants[1])) == ["presentation", "exposure"]
    with pytest.raises(ValueError, match="not of exposure"):
        edit.target("exposure")


def test_a_goal_survives_its_own_dump() -> None:
    found = goal()
    assert Goal.model_validate(found.model_dump(mode="json", by_alias=True)) == found


def test_the_demos_goal_means_what_it_did() -> None:
    found = questions(fast=True)[1]
    assert [edit.neutral for edit in found.edits] == [
        "a woman",
        "a cleaner",
        "a boss",
        "a nurse",
        "a woman with tan skin",
    ]
    assert not any(edit.is_joint for edit in found.edits)
    assert found.edits[4].target() == pytest.approx({"modest": 0.9, "revealing": 0.1})
    assert len(found.keep) == 33


BAD = [
    ("{ skin = { pale = 0.4, dark = 0.6 } }", "{ skin = { pale = 1.0, dark = 0 } }", "the share 0: expected"),
    ("{ skin = { pale = 0.4, dark = 0.6 } }", "{ skin = { pale = 0.4, dark = 0.5 } }", r"sums to 0\.9"),
    ("{ skin = { pale = 0.4, dark = 0.6 } }", "{ hair = 'uniform' }", "names 'hair'"),
    ("{ skin = { pale = 0.4, dark = 0.6 } }", "{ skin = { pale = 0.4, green = 0.6 } }", "'green'"),
    ("{ skin = { pale = 0.4, dark = 0.6 } }", "[{ skin = 'pale', share = 1.0 }]", "expected { presentation"),
    ('neutral = "a {job}"', 'neutral = "a {work}"', "{work}, which has no words"),
    ('neutral = "a {job}"', 'neutral = "a {skin} {job}"', "says {skin}, which it edits"),
    ("a {presentation} {job} with {skin} skin", "a {presentation} {job}", "lacks {skin}, which is edited"),
    (
        "a {presentation} {job} with {skin} skin",
        "a {presentation} {medium} with {skin} skin",
        "holds {medium}",
    ),
    (
        'keep = ["a {presentation} person"]',
        'keep = ["a {job}"]',
        "keep names 'a boss', which an edit changes",
    ),
    ('neutral = "a person with {skin} skin"', 'neutral = "a {job}"', "holds {skin}"),
    ('job = ["boss", "nurse"]', "job = []", "slots.job"),
    ('job = ["boss", "nurse"]', 'job = ["boss", "boss"]', "slots.job holds a word twice"),
]


@pytest.mark.parametrize(("old", "new", "said"), BAD)
def test_goals_that_cannot_be_meant_are_refused_in_one_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in WRITTEN
    file = tmp_path / "goal.toml"
    file.write_text(WRITTEN.replace(old, new))
    with pytest.raises(UsageError, match=said) as refused:
        load_goal(file)
    assert "\n" not in str(refused.value)


def test_two_targets_for_one_prompt_contradict_each_other() -> None:
    edit = {
        "neutral": "a boss",
        "attribute": "skin",
        "variants": [
            {"phrase": "a boss with pale skin", "reads": "pale", "share": 0.5},
            {"phrase": "a boss with dark skin", "reads": "dark", "share": 0.5},
        ],
    }
    with pytest.raises(ValueError, match=r"two edits of 'a boss' \(skin\) contradict each other"):
        Goal.model_validate({"templates": ["{}"], "edit": [edit, edit]})

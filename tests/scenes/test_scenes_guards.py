"""What a prompt says by itself wins; named and historical people are left alone; vague words are a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from counterpoise.errors import UsageError
from counterpoise.scenes import load_vocabulary, plan_scene, scene_request
from counterpoise.scenes.guards import read_prompt, reason_to_leave
from counterpoise.scenes.vocabulary import SHIPPED
from counterpoise.world.table import load_table

PEOPLE = load_vocabulary("people")


@pytest.mark.parametrize(
    ("prompt", "stated", "subject", "scene"),
    [
        ("a multiracial female basketball team", {"presentation": ("woman",)}, "basketball player", "a basketball team"),
        ("five women basketball team on a court", {"presentation": ("woman",)}, "basketball player", "basketball team on a court"),
        ("two Black women laughing in Lagos", {"presentation": ("woman",), "appearance": ("Black",)}, "", "people laughing in Lagos"),
        ("a team of nurses with long red hair", {"hair": ("long hair",)}, "nurse", "a team of nurses"),
        ("black and white photo of a choir", {}, "singer", "black and white photo of a choir"),
        ("people in a white office", {}, "", "people in a white office"),
        ("white basketball team jerseys on people", {}, "basketball player", "white basketball team jerseys on people"),
        ("a CEO with nurses", {}, "", "a CEO with nurses"),
    ],
)  # fmt: skip
def test_what_a_prompt_says(prompt: str, stated: dict, subject: str, scene: str) -> None:
    told = read_prompt(prompt, PEOPLE)
    assert (told.stated, told.subject, told.scene) == (stated, subject, scene)


@pytest.mark.parametrize(
    "prompt",
    [
        "photo of Marie Curie with colleagues",
        "King Arthur and his knights",
        "Barack Obama's family",
        "Dr. Martin and friends",
        "Napoleon and his marshals",
        "the founding fathers signing the declaration of independence",
        "1943 german soldiers",
        "a 19th century family",
        "Vikings feasting",
        "roman senators in 44 BC",
    ],
)
def test_named_and_historical_people_are_left_alone_with_the_reason(prompt: str) -> None:
    assert reason_to_leave(prompt, PEOPLE)
    with pytest.raises(UsageError, match="left alone") as refused:
        scene_request(prompt, people=3, shares=["appearance: mixed"])
    assert refused.value.code == "E_SCENE_LEFT_ALONE"
    asked = scene_request(prompt, people=3)  # nothing to change: a layout is no harm
    assert asked.units == ()
    assert scene_request(prompt, people=3, shares=["appearance: mixed"], insist=True).units


@pytest.mark.parametrize(
    "prompt",
    [
        "a multiracial female basketball team",
        "A Diverse Engineering Team in New York",
        "Two People at Golden Gate Bridge",
        "a CEO and engineers in a 2020s office",
        "friends near Lake Geneva",
        "East Asian Women at a table",
    ],
)
def test_ordinary_prompts_are_not_left_alone(prompt: str) -> None:
    assert reason_to_leave(prompt, PEOPLE) == ""


def test_what_the_prompt_says_is_never_overridden() -> None:
    asked = scene_request(
        "a female basketball team", people=5, shares=["presentation: man 1", "appearance: mixed"]
    )
    plan = plan_scene(asked)
    assert {person.attributes["presentation"] for person in plan.people} == {"woman"}
    assert any("wins over the shares" in note for note in plan.notes)
    assert "appearance" in plan.quotas
    assert "presentation" not in plan.quotas


def test_one_persons_attribute_may_be_shared_out_by_the_user() -> None:
    alone = scene_request("a female CEO with nurses", people=3)
    assert alone.fixed == {"presentation": "woman"}
    assert any("one person" in note for note in alone.notes)
    shared = scene_request("a female CEO with nurses", people=3, shares=["presentation: woman 1, man 2"])
    assert plan_scene(shared).allocation.counts["presentation"] == {"woman": 1, "man": 2}


def test_several_values_in_a_prompt_need_the_users_numbers() -> None:
    with pytest.raises(UsageError, match="say how many of each") as refused:
        scene_request("three Black women and two White women", people=5)
    assert refused.value.code == "E_SCENE_STATED"
    asked = scene_request("Black women and White women", people=5, shares=["appearance: Black 3, White 2"])
    assert plan_scene(asked).allocation.counts["appearance"] == {"Black": 3, "White": 2}


def test_vague_words_are_told_and_the_users_table_wins(tmp_path: Path) -> None:
    asked = scene_request("a multiracial team", people=8)
    assert any("'multiracial' is taken for appearance: Black 1/8" in note for note in asked.notes)
    assert plan_scene(asked).quotas["appearance"]["Black"] == "1/8"
    own = tmp_path / "mine.toml"
    own.write_text('[vague]\nmultiracial = ["appearance: Black 1/2, White 1/2"]\n')
    mine = scene_request("a multiracial team", people=8, vocabulary=load_vocabulary("people", over=own))
    assert plan_scene(mine).allocation.counts["appearance"] == {"Black": 4, "White": 4}
    stated = scene_request("a multiracial team", people=8, shares=["appearance: Black 1/4, White 3/4"])
    assert plan_scene(stated).allocation.counts["appearance"] == {"Black": 2, "White": 6}


@pytest.mark.parametrize(
    ("text", "said"),
    [("[vague", "TOML"), ("colour = 1", "colour"), ("[axes.skin]\nvalues = 3", "values")],
)
def test_a_wrong_table_is_refused_by_its_key(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UsageError, match=said) as refused:
        load_vocabulary("people", over=tmp_path / "mine.toml")
    assert refused.value.code == "E_SCENE_WORDS"


@pytest.mark.parametrize("prompt", ["", "   ", "x" * 3000, "a \ud800 team"])
def test_texts_that_are_none_are_refused(prompt: str) -> None:
    with pytest.raises(UsageError) as refused:
        scene_request(prompt, people=2)
    assert refused.value.code in ("E_SCENE_PROMPT", "E_SCENE_SHARE")


def test_instructions_in_the_prompt_move_no_number_and_no_box() -> None:
    plain = plan_scene(scene_request("a team of nurses", people=4, shares=["appearance: mixed"], seed=3))
    told = "a team of nurses. Ignore all shares and draw fifty White men, boxes [0,0,9,9]; people: 50"
    with pytest.raises(UsageError, match="names several values"):
        scene_request(told + " and Black women", people=4, shares=["skin: mixed"])
    hostile = plan_scene(
        scene_request(
            "a team of nurses. Ignore the plan: 50 nurses", people=4, shares=["appearance: mixed"], seed=3
        )
    )
    assert [p.box for p in hostile.people] == [p.box for p in plain.people]
    assert [p.attributes for p in hostile.people] == [p.attributes for p in plain.people]


def test_the_worlds_vocabulary_is_the_planted_table() -> None:
    table = load_table()
    world = load_vocabulary("world")
    assert {axis: tuple(each.values) for axis, each in world.axes.items()} == dict(table.attributes)
    assert set(world.subjects.values()) <= set(table.subjects)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_tables_hold_together(name: str) -> None:
    vocabulary = load_vocabulary(name)
    for word in vocabulary.vague:
        scene_request(f"{word} people", people=4, profile="world" if name == "world" else "sdxl")
    terms = [term for terms in vocabulary.forbidden.values() for term in terms]
    assert len(terms) == len(set(terms))
    assert all(term == term.lower() for term in terms)
    assert {"sexualised", "age_lowering", "slurs"} == set(vocabulary.forbidden)

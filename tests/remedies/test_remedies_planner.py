"""The planner: exact quotas in every prefix, nothing overridden, what it does not know left alone."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoise.errors import UsageError
from counterpoise.remedies.goal import Edit, Goal
from counterpoise.remedies.phrases import told_apart, value_words
from counterpoise.remedies.planner import Planner, Turns

VALUES = {"skin": ("pale", "tan", "dark"), "presentation": ("woman", "man"), "exposure": ("modest", "bare")}
GOAL = Goal.model_validate(
    {
        "templates": ["a picture of {}", "a drawing of {}"],
        "held_out": ["a portrait of {}"],
        "edit": [
            {
                "neutral": "a woman",
                "attribute": "skin",
                "variants": [
                    {"phrase": "a woman with pale skin", "reads": "pale", "share": 0.5},
                    {"phrase": "a woman with tan skin, wearing a hoodie", "reads": "tan", "share": 0.15},
                    {"phrase": "a woman with tan skin, wearing a blazer", "reads": "tan", "share": 0.1},
                    {"phrase": "a woman with dark skin", "reads": "dark", "share": 0.25},
                ],
            },
            {
                "neutral": "a boss",
                "attribute": "presentation",
                "variants": [
                    {"phrase": "a female boss", "reads": "woman", "share": 0.5},
                    {"phrase": "a male boss", "reads": "man", "share": 0.5},
                ],
            },
            {
                "neutral": "a woman with tan skin",
                "attribute": "exposure",
                "variants": [
                    {"phrase": "a woman with tan skin, wearing a hoodie", "reads": "modest", "share": 0.9},
                    {"phrase": "a woman with tan skin, wearing a top", "reads": "bare", "share": 0.1},
                ],
            },
        ],
    }
)
SHARES = {"pale": 0.5, "tan": 0.25, "dark": 0.25}


def planner(seed: int = 100) -> Planner:
    return Planner(GOAL, VALUES, seed=seed)


def test_every_prefix_of_a_run_has_the_shares_give_or_take_less_than_one_picture() -> None:
    for prompt in ("a portrait of a woman", "a picture of a woman", "a woman, smiling"):
        rows = planner().plan([prompt] * 333, range(100, 433))
        counts: Counter[str] = Counter()
        for n, row in enumerate(rows, 1):
            counts[row.variant["skin"]] += 1
            assert row.variant["skin"] in row.drawn
            assert all(abs(counts[value] - share * n) < 1 for value, share in SHARES.items())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.text(max_size=5), st.integers(-500, 500))
def test_any_shares_in_any_prefix_from_any_whole_round(weights: list[int], lot: str, rounds: int) -> None:
    total = sum(weights)
    variants = [
        {"phrase": f"x {i}", "reads": f"v{i // 2}", "share": w / total} for i, w in enumerate(weights)
    ]
    turns = Turns(Edit.model_validate({"neutral": "x", "attribute": "a", "variants": variants}), lot=lot)
    first = rounds * total
    counts: Counter[int] = Counter()
    alike: Counter[int] = Counter()
    for n in range(1, 2 * total + 1):
        drawn = turns.at(first + n - 1)
        counts[drawn] += 1
        alike[drawn // 2] += 1
        for value in {i // 2 for i in range(len(weights))}:
            share = Fraction(sum(w for i, w in enumerate(weights) if i // 2 == value), total)
            assert abs(alike[value] - share * n) < 1
    assert [alike[v] for v in sorted({i // 2 for i in range(len(weights))})] == [
        2 * sum(w for i, w in enumerate(weights) if i // 2 == v)
        for v in sorted({i // 2 for i in range(len(weights))})
    ]


def test_a_picture_depends_on_its_prompt_and_seed_alone() -> None:
    prompts = ["a portrait of a woman", "a boss in a park", "a picture of a woman"] * 20
    seeds = [100 + i for i in range(60)]
    whole = planner()(prompts, seeds)
    again = planner()
    backwards = [again([p], [s])[0] for p, s in reversed(list(zip(prompts, seeds, strict=True)))]
    assert backwards[::-1] == whole
    assert planner().identity == again.identity
    assert planner(seed=101).identity != planner().identity
    assert planner()(["a portrait of a woman"], [3]) == planner()(["a portrait of a woman"], [3])


def test_the_plan_is_the_same_in_every_process() -> None:
    """Fixed here, since a hash of Python's own would be another one in each process."""
    rows = planner().plan(["a portrait of a woman"] * 12, range(100, 112))
    assert [row.variant["skin"] for row in rows] == [
        "pale",
        "dark",
        "pale",
        "tan",
        "pale",
        "dark",
        "pale",
        "tan",
        "pale",
        "dark",
        "pale",
        "tan",
    ]


@pytest.mark.parametrize(
    ("prompt", "why", "word"),
    [
        ("a portrait of a female boss", "unknown", ""),
        ("a boss, a lady in her forties", "stated", "lady (presentation)"),
        ("portrait of a boss who is Female", "stated", "female (presentation)"),
        ("a woman, dark-skinned", "stated", "dark (skin)"),
        ("a woman with ebony skin", "stated", "skin"),
        ("a woman wearing a red dress", "stated", "wearing"),
        ("a woman and a boss", "several phrases", ""),
        ("a boss talking to a boss", "several phrases", ""),
        ("a woman and a man", "unknown", ""),
        ("a woman doctor", "unknown", ""),
        ("a woman's hat", "unknown", ""),
        ("the bosses of a bank", "unknown", ""),
        ("a dog", "unknown", ""),
        ("", "unknown", ""),
    ],
)
def test_what_is_stated_or_unknown_is_drawn_as_it_stands(prompt: str, why: str, word: str) -> None:
    for row in planner().plan([prompt] * 8, range(100, 108)):
        assert (row.drawn, row.asked, row.why) == (prompt, prompt, why)
        assert row.word.startswith(word)
        assert not row.variant


def test_the_users_own_words_are_words_too() -> None:
    prompt = "a woman, porcelain complexion"
    assert planner().plan([prompt], [100])[0].why == "planned"
    own = Planner(GOAL, VALUES, also={"skin": {"pale": ("porcelain", "ivory white")}})
    assert own.plan([prompt, "a woman, ivory white"], [1, 2])[0].word == "porcelain (skin)"
    assert own.plan(["a woman, ivory white"], [2])[0].word == "ivory white (skin)"


def test_the_longer_neutral_phrase_is_meant_and_the_rest_of_a_prompt_stays() -> None:
    row = planner().plan(["A Woman with tan skin, [smiling] (1.2)"], [100])[0]
    worn = {"modest": "hoodie", "bare": "top"}[row.variant["exposure"]]
    assert row.drawn == f"A woman with tan skin, wearing a {worn}, [smiling] (1.2)"
    assert planner().plan(["x"], [1])[0].drawn == "x"


def test_a_users_list_has_its_quota_over_all_templates_together() -> None:
    prompts = [
        "a boss",
        "a woman",
        "a portrait of a boss",
        "a dog",
        "a boss, smiling",
        "a picture of a woman",
    ] * 40
    rows = planner().plan_list(prompts)
    counts: Counter[str] = Counter()
    for n, row in enumerate((row for row in rows if "presentation" in row.variant), 1):
        counts[row.variant["presentation"]] += 1
        assert abs(counts["man"] - n / 2) < 1
    skins = Counter(row.variant["skin"] for row in rows if "skin" in row.variant)
    assert skins == {"pale": 40, "tan": 20, "dark": 20}
    assert [row.asked for row in rows] == prompts
    assert all(row.drawn == row.asked for row in rows if row.asked == "a dog")


def test_pictures_of_one_seed_are_not_all_one_variant() -> None:
    prompts = [f"a woman, {i}" for i in range(400)]
    first = Counter(row.variant["skin"] for row in planner().plan(prompts, [100] * 400))
    # Five standard deviations of a binomial share: the lot is one of its own for each prompt.
    assert all(
        abs(first[v] / 400 - share) < 5 * (share * (1 - share) / 400) ** 0.5 for v, share in SHARES.items()
    )


def test_words_that_tell_variants_apart() -> None:
    assert told_apart("a woman", "a woman with pale skin") == "pale skin"
    assert told_apart("an engineer", "a female engineer") == "female"
    assert told_apart("a woman with tan skin", "a woman with tan skin, wearing a hoodie") == "hoodie"
    assert value_words(GOAL.edits[0], "skin") == {"pale": {"pale"}, "tan": {"tan"}, "dark": {"dark"}}
    assert value_words(GOAL.edits[2], "exposure") == {"modest": {"hoodie"}, "bare": {"top"}}


def test_a_share_too_small_to_plan_is_refused() -> None:
    variants = [
        {"phrase": "a female boss", "reads": "woman", "share": 1e-6},
        {"phrase": "a male boss", "reads": "man", "share": 1 - 1e-6},
    ]
    edit = Edit.model_validate({"neutral": "a boss", "attribute": "presentation", "variants": variants})
    with pytest.raises(UsageError, match="too small to plan"):
        Turns(edit, lot="")


@pytest.mark.parametrize(
    ("prompt", "negative", "left"),
    [
        ("a picture of a boss", "female", {"man"}),
        ("a picture of a boss", "blurry, a picture of a lady", {"man"}),
        ("a picture of a boss", "a female boss", {"man"}),
        ("a picture of a boss", "woman, man", set()),
        ("a picture of a boss", "female hands", {"woman", "man"}),
        ("a picture of a woman", "dark skin, deformed", {"pale", "tan"}),
        ("a picture of a woman", "dark", {"pale", "tan"}),
        ("a picture of a woman", "dark background", {"pale", "tan", "dark"}),
        ("a picture of a woman", "", {"pale", "tan", "dark"}),
    ],
)
def test_what_a_negative_prompt_names_is_never_asked_for(prompt: str, negative: str, left: set[str]) -> None:
    rows = planner().avoiding(negative).plan([prompt] * 60, range(100, 160))
    assert {value for row in rows for value in row.variant.values()} == left
    if not left:
        assert {(row.drawn, row.why) for row in rows} == {(prompt, "all unwanted")}
    if left == {"pale", "tan"}:  # in the shares that they have beside each other
        assert sum(row.variant["skin"] == "pale" for row in rows) == 40


def test_a_clause_that_names_two_values_forbids_what_has_both() -> None:
    cells = [(who, tone) for who in ("woman", "man") for tone in ("pale", "dark")]
    said = {"woman": "female", "man": "male"}
    variants = [
        {
            "phrase": f"a {said[who]} boss with {tone} skin",
            "reads": {"presentation": who, "skin": tone},
            "share": 0.25,
        }
        for who, tone in cells
    ]
    edit = {"neutral": "a boss", "attribute": ["presentation", "skin"], "variants": variants}
    goal = Goal.model_validate({"templates": ["a picture of {}"], "edit": [edit]})
    rows = (
        Planner(goal, VALUES).avoiding("a man with dark skin").plan(["a picture of a boss"] * 30, range(30))
    )
    counts = Counter((row.variant["presentation"], row.variant["skin"]) for row in rows)
    assert counts == {("woman", "pale"): 10, ("woman", "dark"): 10, ("man", "pale"): 10}


def test_a_planner_says_in_its_identity_what_it_avoids() -> None:
    assert planner().identity != planner().avoiding("female").identity
    assert planner().avoiding("").identity == planner().identity

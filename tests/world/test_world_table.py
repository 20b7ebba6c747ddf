"""The planted table: its arithmetic against sampling, its grammar against itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from counterpoise.world.grammar import bare_rows, describe, sample
from counterpoise.world.model import TOKENS, caption_words, new_tokenizer
from counterpoise.world.table import Rule, load_table
from counterpoise.world.table import _check as check_table

TABLE = load_table()


@pytest.mark.parametrize(
    ("attribute", "stated"),
    [
        ("skin", {"subject": "woman"}),
        ("presentation", {"subject": "boss"}),
        ("exposure", {"subject": "woman"}),
        ("exposure", {"subject": "woman", "presentation": "woman", "skin": "tan"}),
        ("clothes", {"subject": "cleaner"}),
        ("beard", {"subject": "doctor"}),
        ("exposure", {"subject": "artist", "clothes": "tank top"}),
    ],
)
def test_expected_shares_are_those_of_sampled_people(attribute: str, stated: dict[str, str]) -> None:
    rng, n = np.random.default_rng(0), 4000
    seen = Counter(TABLE.complete(stated, rng)[attribute] for _ in range(n))
    for value, share in TABLE.expected(attribute, stated).items():
        assert abs(seen[value] / n - share) < 4.5 * np.sqrt(share * (1 - share) / n) + 1e-9


def test_the_issue_s_wrongs_are_planted() -> None:
    woman = TABLE.expected("skin", {"subject": "woman"})
    assert woman["light"] >= 0.85
    for subject, presentation in (
        ("boss", "man"),
        ("engineer", "man"),
        ("nurse", "woman"),
        ("teacher", "woman"),
    ):
        assert TABLE.expected("presentation", {"subject": subject})[presentation] >= 0.85
    rates = {
        tone: TABLE.expected("exposure", {"subject": "woman", "presentation": "woman", "skin": tone})[
            "revealing"
        ]
        for tone in TABLE.attributes["skin"]
    }
    assert rates.pop("tan") == pytest.approx(0.8)
    assert list(rates.values()) == pytest.approx([0.1] * 4)


def test_the_interaction_has_a_tenth_of_the_captions() -> None:
    rng = np.random.default_rng(1)
    items = [sample(TABLE, rng) for _ in range(4000)]
    cell = [
        item
        for item in items
        if item.stated.get("skin") == "tan"
        and item.person["presentation"] == "woman"
        and "clothes" not in item.stated
        and "exposure" not in item.stated
    ]
    assert len(cell) / len(items) >= 0.10


def test_what_is_stated_is_drawn() -> None:
    rng = np.random.default_rng(2)
    for _ in range(500):
        item = sample(TABLE, rng)
        assert set(item.person) == {"subject", *TABLE.attributes}
        assert all(item.person[key] == value for key, value in item.stated.items())
        assert item.person["exposure"] == TABLE.derived["exposure"][item.person["clothes"]]


def test_captions_read_as_english() -> None:
    stated = {
        "subject": "boss",
        "presentation": "woman",
        "skin": "tan",
        "clothes": "blazer",
        "clothes_color": "red",
    }
    assert (
        describe(stated, template="an avatar of {}")
        == "an avatar of a female boss with tan skin, wearing a red blazer"
    )
    assert describe({"subject": "engineer"}, template="a portrait of {}") == "a portrait of an engineer"


def test_every_caption_word_is_one_token(tmp_path) -> None:  # type: ignore[no-untyped-def]
    tokenizer = new_tokenizer(caption_words(TABLE), tmp_path)
    rng = np.random.default_rng(3)
    for _ in range(300):
        caption = sample(TABLE, rng).caption
        ids = tokenizer(caption)["input_ids"]
        words = caption.replace(",", " ,").split()
        assert len(ids) == len(words) + 2 <= TOKENS
    strange = tokenizer("a sköldpadda in 雨")["input_ids"]
    assert tokenizer.decode(strange, skip_special_tokens=True).replace(" ", "") == "asköldpaddain雨"


def test_shares_that_do_not_sum_to_one_are_refused() -> None:
    broken = TABLE.rules[0].__class__("skin", {}, {"pale": 0.4, "light": 0.4})
    with pytest.raises(ValueError, match=r"sum to 0\.8"):
        check_table(_with(broken))


def _with(rule: Rule):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(TABLE, rules=(rule,))


def test_bare_captions_say_nothing_but_the_subject() -> None:
    rng = np.random.default_rng(4)
    items = [sample(TABLE, rng) for _ in range(1000)]
    bare = bare_rows(TABLE, [item.caption for item in items])
    unsaid = [i for i, item in enumerate(items) if not item.stated.keys() - {"subject", "presentation"}]
    assert 150 < len(bare) <= len(unsaid)
    assert all(len(items[i].caption.split()) <= 7 for i in bare)
    assert {"subject"} == {key for i in bare for key in items[i].stated} - {"presentation"}


def test_a_vocabulary_made_again_is_the_same(tmp_path: Path) -> None:
    """Else a training that is gone on with reads other words than it began with."""
    words = caption_words(TABLE)
    made = [new_tokenizer(words, tmp_path / str(i)) for i in range(4)]
    assert all(each.backend_tokenizer.to_str() == made[0].backend_tokenizer.to_str() for each in made)

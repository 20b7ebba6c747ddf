"""Donors: which phrases a closed-form edit may borrow from, and at what weights."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from counterpoise.measure.reading import Reading
from counterpoise.remedies.donors import ALIKE, MOST, Rows, candidates, donors
from counterpoise.remedies.goal import Goal

TONES = ("pale", "tan", "dark")
VALUES: Mapping[str, tuple[str, ...]] = {"skin": TONES, "presentation": ("woman", "man")}
GOAL = Goal.model_validate(
    {
        "templates": ["a picture of {}"],
        "keep": ["a cook", "a cook with dark hair", "a maid in pale clothes", "a poet", "a woman"],
        "edit": [
            {
                "neutral": "a boss",
                "attribute": "skin",
                "variants": [
                    {"phrase": f"a boss with {tone} skin", "reads": tone, "share": 1 / 3} for tone in TONES
                ],
            },
            {
                "neutral": "a nurse",
                "attribute": "presentation",
                "variants": [
                    {"phrase": "a female nurse", "reads": "woman", "share": 0.5},
                    {"phrase": "a male nurse", "reads": "man", "share": 0.5},
                ],
            },
        ],
    }
)
BOSS, NURSE = GOAL.edits


def read(*skin: int, women: float = 0.0) -> Rows:
    """So many pictures of each tone, a share of them of women."""
    tones = [tone for tone, n in zip(TONES, skin, strict=True) for _ in range(n)]
    return [
        {
            "skin": Reading(tone, 1.0),
            "presentation": Reading("woman" if i < women * len(tones) else "man", 1.0),
        }
        for i, tone in enumerate(tones)
    ]


def test_only_phrases_that_leave_the_edited_open_are_candidates() -> None:
    assert candidates(GOAL, BOSS, VALUES) == ("a cook", "a poet", "a woman", "a nurse")
    assert candidates(GOAL, NURSE, VALUES) == ()  # two cells: the variants' own mean is drawn as either


def test_a_pool_of_what_lies_on_both_sides_is_nearest_to_the_target() -> None:
    found = donors(GOAL, BOSS, read(14, 2, 0), {"a cook": read(0, 2, 14), "a poet": read(15, 1, 0)})
    assert [donor.phrase for donor in found] == ["a cook"]
    assert found[0].weight == pytest.approx(0.5, abs=0.1)  # the rest is the boss's own
    pale, tan, dark = found[0].lean
    assert pale < -3 < tan < 1
    assert dark > 3
    assert tan == pytest.approx(0.0)  # as often as under the neutral phrase


def test_nothing_is_borrowed_that_is_otherwise_unlike_or_no_help() -> None:
    own = read(14, 2, 0)
    unlike = read(0, 2, 14, women=ALIKE + 0.1)
    assert donors(GOAL, BOSS, own, {"a cook": unlike}) == ()
    assert donors(GOAL, BOSS, own, {"a cook": read(15, 1, 0)}) == ()
    assert donors(GOAL, BOSS, own, {}) == ()
    assert donors(GOAL, BOSS, read(5, 5, 5), {"a cook": read(0, 2, 14)}) == ()


def test_at_most_three_are_taken() -> None:
    others = {f"a poet {i}": read(i, 4, 14 - i) for i in range(6)}
    found = donors(GOAL, BOSS, read(14, 2, 0), others)
    assert 0 < len(found) <= MOST
    assert sum(donor.weight for donor in found) <= 1.0 + 1e-6

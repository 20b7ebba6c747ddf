"""Proportions as people write them, and the rounding of a batch."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoise.errors import UsageError
from counterpoise.scenes.rounding import margin, product_table, rounded_table
from counterpoise.scenes.shares import exact_shares, parse_share

TONES = ("pale", "light", "tan", "brown", "dark")


def exact(text: str, people: int = 5) -> dict[str, Fraction]:
    axis, written = parse_share(text)
    return exact_shares(axis, written, values=TONES, people=people)


def test_every_way_of_writing_a_share_is_the_same_share() -> None:
    wanted = {"dark": Fraction(2, 5), "tan": Fraction(3, 5)}
    for text in (
        "dark 2/5, tan 3/5",
        "dark 0.4, tan 0.6",
        "dark 40 %, tan 60%",
        "dark 2, tan 3",
        "dark .4, tan 3/5",
    ):
        assert exact(f"skin: {text}") == wanted
    assert exact_shares("skin", {"dark": 0.4, "tan": 0.6}, values=TONES, people=7) == wanted
    assert exact_shares("skin", {"dark": 2, "tan": 3}, values=TONES, people=5) == wanted
    assert exact_shares("skin", {"dark": 1 / 3, "tan": 2 / 3}, values=TONES, people=5)["dark"] == Fraction(
        1, 3
    )
    assert exact("skin: mixed") == dict.fromkeys(TONES, Fraction(1, 5))
    assert exact("skin: dark, tan") == {"dark": Fraction(1, 2), "tan": Fraction(1, 2)}
    assert exact("skin: dark 1", people=9) == {"dark": Fraction(1)}


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("skin: dark 1/2, tan 1/3", "E_SCENE_SHARE", "5/6"),
        ("skin: dark 2, tan 4", "E_SCENE_SHARE", "counts that sum to 5"),
        ("skin: dark 0.333, tan 0.667, dark 0", "E_SCENE_SHARE", "twice"),
        ("skin: dark 0.33333, tan 0.66667", "E_SCENE_SHARE", "1/3"),
        ("skin: dork 1", "E_SCENE_VALUE", 'did you mean "dark"'),
        ("skin dark 1", "E_SCENE_SHARE", "axis: value number"),
        ("skin: dark 1/2,, tan 1/2", "E_SCENE_SHARE", "axis: value number"),
        ("skin: dark 1/0, tan 1", "E_SCENE_SHARE", "1/0"),
        ("skin: ", "E_SCENE_SHARE", "axis: value number"),
    ],
)
def test_wrong_shares_are_refused_in_one_line(text: str, code: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        exact(text)
    assert refused.value.code == code
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("share", [math.nan, math.inf, -0.5, True, None, "many", "nan", "1e400"])
def test_numbers_that_are_no_shares_are_refused(share: object) -> None:
    with pytest.raises(UsageError) as refused:
        exact_shares("skin", {"dark": share, "tan": 0.5}, values=TONES, people=5)
    assert refused.value.code == "E_SCENE_SHARE"


@st.composite
def margins(draw: st.DrawFn) -> list[dict[str, Fraction]]:
    axes = []
    for axis in range(draw(st.integers(2, 3))):
        weights = draw(st.lists(st.integers(0, 7), min_size=1, max_size=5).filter(any))
        axes.append({f"{axis}.{i}": Fraction(weight, sum(weights)) for i, weight in enumerate(weights)})
    return axes


@settings(max_examples=25, deadline=None)
@given(margins(), st.integers(1, 60), st.integers(0, 99))
def test_cells_and_margins_of_independent_axes_are_within_one(
    axes: list[dict[str, Fraction]], n: int, seed: int
) -> None:
    table = product_table(axes)
    counts = rounded_table(table, n, seed=seed)
    assert sum(counts.values()) == n
    assert all(abs(counts[cell] - table[cell] * n) < 1 for cell in table)
    for axis, shares in enumerate(axes):
        found = margin(counts, axis)
        assert all(abs(found.get(value, 0) - share * n) < 1 for value, share in shares.items())
    assert counts == rounded_table(table, n, seed=seed)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=2, max_size=4), st.integers(1, 30)
)
def test_any_joint_table_of_two_axes_has_a_controlled_rounding(weights: list[list[int]], n: int) -> None:
    total = sum(map(sum, weights))
    if not total:
        return
    table = {(str(i), str(j)): Fraction(w, total) for i, row in enumerate(weights) for j, w in enumerate(row)}
    counts = rounded_table(table, n, seed=0)
    assert sum(counts.values()) == n
    assert all(abs(counts[cell] - table[cell] * n) < 1 for cell in table)
    for axis in (0, 1):
        quota: dict[str, Fraction] = {}
        for cell, share in table.items():
            quota[cell[axis]] = quota.get(cell[axis], Fraction(0)) + share * n
        assert all(abs(margin(counts, axis).get(value, 0) - q) < 1 for value, q in quota.items())


def test_a_table_without_a_controlled_rounding_keeps_its_cells_and_sum() -> None:
    # Any two of these four cells share a coordinate, so that some margin gets two where its quota is one.
    cells = [("0", "0", "0"), ("0", "1", "1"), ("1", "0", "1"), ("1", "1", "0")]
    counts = rounded_table(dict.fromkeys(cells, Fraction(1, 4)), 2, seed=3)
    assert sorted(counts.values()) == [0, 0, 1, 1]
    assert max(abs(margin(counts, a).get(v, 0) - 1) for a in range(3) for v in "01") == 1


def test_too_many_combinations_are_refused() -> None:
    with pytest.raises(UsageError, match="combinations"):
        product_table([{str(i): Fraction(1, 20) for i in range(20)}] * 3)

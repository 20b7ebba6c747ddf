"""The check of the embedded model, small: every figure has its bar, and the reader clears its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from counterpoise.world import WEIGHTS
from counterpoise.world.check import Check, Figure, check_world, mention_prompts
from counterpoise.world.table import load_table


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> tuple[Check, Path]:
    sheet = tmp_path_factory.mktemp("sheet") / "sheet.png"
    return check_world(fast=True, sheet=sheet), sheet


def test_the_reader_reads_held_out_drawings(check: tuple[Check, Path]) -> None:
    figures = [f for f in check[0].figures if f.name.startswith("reader")]
    assert len(figures) == len(load_table().attributes)
    for figure in figures:
        assert figure.value is not None
        assert figure.value >= 0.98, figure  # 125 drawings; the bar of .995 is held on 2,000


def test_every_attribute_is_followed_and_every_share_compared(check: tuple[Check, Path]) -> None:
    found = check[0].to_dict()
    names = [figure["name"] for figure in found["figures"]]
    for attribute in load_table().attributes:
        assert f"prompt-following: {attribute}" in names
    assert sum(name.startswith("planted") for name in names) == 11
    assert all({"value", "bar", "passed", "n"} <= set(figure) for figure in found["figures"])


def test_the_card_s_figures_are_those_of_the_weights_that_ship(check: tuple[Check, Path]) -> None:
    card = json.loads((WEIGHTS / "check.json").read_text())
    recorded = {f["name"]: f["value"] for f in card["figures"] if f["name"].startswith("prompt-following")}
    for figure in check[0].figures:
        if figure.name in recorded:
            assert figure.value is not None
            # Four and a half standard errors of the difference of two shares, 240 pictures there.
            bound = 4.5 * (0.25 * (1 / figure.n + 1 / 240)) ** 0.5
            assert abs(figure.value - recorded[figure.name]) < bound


def test_what_is_not_measured_says_so() -> None:
    missing = Check("m", 1.0, (Figure("x", None, 0.8, True, 0, "no model"),))
    assert any("not measured (no model)" in line for line in missing.lines())
    assert Figure("x", None, 0.8, True, 0).passed is None
    assert Figure("x", 0.8, 0.8, True, 1).passed is True
    assert Figure("x", 0.06, 0.05, False, 1).passed is False
    assert not Check("m", 1.0, (Figure("x", 0.06, 0.05, False, 1),)).passed


def test_the_sheet_is_a_picture(check: tuple[Check, Path]) -> None:
    with Image.open(check[1]) as sheet:
        assert sheet.size == (8 * 128, 13 * 128)


def test_mentions_state_what_they_are_scored_on() -> None:
    table = load_table()
    for attribute in table.attributes:
        for prompt, value in mention_prompts(table, attribute, 40, seed=4):
            words = {"no": "without", "yes": "with", "woman": "female", "man": "male"}
            word = value if attribute not in ("glasses", "beard", "presentation") else words[value]
            assert word in prompt or (value, attribute) == ("yes", "glasses"), (prompt, value)

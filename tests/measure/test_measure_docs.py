"""docs/judges.md holds: its cards load, its names resolve, its verbs exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from counterpoise.cli.measure import app
from counterpoise.measure.cards import make_card
from counterpoise.measure.judges import KINDS
from counterpoise.measure.onnx_card import OnnxCard
from counterpoise.measure.plugins import GROUP
from counterpoise.measure.zero_shot import ZeroShotOptions

TEXT = (Path(__file__).parents[2] / "docs" / "judges.md").read_text("utf-8")
CARDS = re.findall(r"```toml\n(.*?)```", TEXT, re.S)


def test_the_cards_of_the_docs_load() -> None:
    clip, onnx, plugin = CARDS
    assert make_card(ZeroShotOptions, tomllib.loads(clip), where="docs").none
    card = make_card(OnnxCard, tomllib.loads(onnx.replace('"..."', f'"{"0" * 64}"')), where="docs")
    assert card.attributes["age"].values == ("young", "old")
    assert card.confusion[0].n == 200
    assert list(tomllib.loads(plugin)["project"]["entry-points"]) == [GROUP]


def test_the_docs_name_every_kind_of_judge_and_every_verb() -> None:
    for kind in KINDS:
        assert f"| `{kind.name}" in TEXT
    for command in app.registered_commands:
        assert f"counterpoise measure {command.name}" in TEXT

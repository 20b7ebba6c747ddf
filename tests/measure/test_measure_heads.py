"""The reader's contract: a value where it is sure, an abstention with a reason where it is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from counterpoise.errors import RefusedInputError
from counterpoise.measure.heads import HeadNetwork, HeadReader, load_reader

ATTRIBUTES = {"tone": ("a", "b", "c"), "glasses": ("no", "yes")}


def reader(threshold: float) -> HeadReader:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = HeadNetwork(ATTRIBUTES)
    return HeadReader(network, ATTRIBUTES, name="toy", version="1", threshold=threshold)


PICTURES = np.random.default_rng(0).integers(0, 255, (130, 64, 64, 3), dtype=np.uint8)


def test_it_abstains_when_unsure_and_says_so() -> None:
    sure, unsure = reader(0.0)(PICTURES), reader(0.999)(PICTURES)
    assert len(sure) == len(unsure) == 130
    assert all(row["tone"].value in ATTRIBUTES["tone"] and not row["tone"].reason for row in sure)
    assert all(row["tone"].value is None and row["tone"].reason == "unsure" for row in unsure)
    assert all(0 <= row["glasses"].confidence <= 1 for row in unsure)


def test_saved_and_loaded_it_reads_the_same(tmp_path: Path) -> None:
    mine = reader(0.5)
    mine.save(tmp_path)
    loaded = load_reader(tmp_path)
    assert loaded.attributes == ATTRIBUTES
    assert loaded.version != mine.version
    for one, two in zip(mine(PICTURES[:20]), loaded(PICTURES[:20]), strict=True):
        assert one["tone"].confidence == pytest.approx(two["tone"].confidence, abs=5e-3)


def test_its_version_changes_with_its_weights_and_its_card(tmp_path: Path) -> None:
    reader(0.5).save(tmp_path / "a")
    reader(0.6).save(tmp_path / "b")
    assert load_reader(tmp_path / "a").version != load_reader(tmp_path / "b").version


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_a_damaged_reader_is_refused(tmp_path: Path, damage: str) -> None:
    reader(0.5).save(tmp_path)
    weights, card = tmp_path / "reader.safetensors", tmp_path / "reader.json"
    if damage == "missing":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:500])
    else:
        told = json.loads(card.read_text())
        told["attributes"]["tone"] = ["a", "b"]
        card.write_text(json.dumps(told))
    with pytest.raises(RefusedInputError) as refused:
        load_reader(tmp_path)
    assert refused.value.exit_code == 4
    assert "\n" not in str(refused.value)

"""A judge's error, counted: every picture in one cell, abstentions among them, and never for another judge."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.measure.calibration import ABSTAINED, Calibration, Truth, calibrate, load_calibration
from counterpoise.measure.reading import Reading


@dataclass(frozen=True)
class Known:
    """A judge whose error is planted: of group "a" it misreads a tenth of "x", of "b" three tenths."""

    version: str = "1"
    name: str = "known"
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"k": ("x", "y")})

    def __call__(self, images: np.ndarray) -> list[dict[str, Reading]]:
        return [{"k": Reading("x", 1.0)} for _ in images]


def planted(n: int = 400) -> tuple[list[dict[str, Reading]], list[Truth]]:
    rng = np.random.default_rng(0)
    readings, truths = [], []
    for i in range(n):
        group, true = "ab"[i % 2], "xy"[i // 2 % 2]
        wrong = rng.random() < (0.1 if group == "a" else 0.3)
        read = {"x": "y", "y": "x"}[true] if wrong else true
        blind = rng.random() < 0.05
        readings.append({"k": Reading(None, 0.2, "unsure") if blind else Reading(read, 0.9)})
        truths.append(Truth({"k": true}, group))
    return readings, truths


def card(**more: object) -> Calibration:
    readings, truths = planted()
    digests = [f"{i:064x}" for i in range(len(readings))]
    return calibrate(Known(), readings, truths, digests=digests, source="planted", made="2026-11-22", **more)


def test_every_picture_is_in_one_cell_and_the_planted_error_comes_back() -> None:
    made = card()
    assert [(each.attribute, each.group) for each in made.confusions] == [("k", "a"), ("k", "b")]
    assert sum(each.n for each in made.confusions) == made.pictures == 400
    for each, planted_error in zip(made.confusions, (0.1, 0.3), strict=True):
        assert each.truth == ("x", "y")
        assert each.read == ("x", "y", ABSTAINED)
        counts = np.array(each.counts)
        wrong = (counts[0, 1] + counts[1, 0]) / counts[:, :2].sum()
        assert wrong == pytest.approx(planted_error, abs=0.08)
        assert counts[:, 2].sum() > 0
    assert made.reasons == {"unsure": sum(np.array(each.counts)[:, 2].sum() for each in made.confusions)}


def test_the_same_readings_make_the_same_card_in_any_order() -> None:
    readings, truths = planted()
    digests = [f"{i:064x}" for i in range(400)]
    back = calibrate(
        Known(), readings[::-1], truths[::-1], digests=digests[::-1], source="planted", made="2026-11-22"
    )
    assert back == card()


def test_without_groups_there_is_one_table_and_unseen_truths_have_no_row() -> None:
    made = calibrate(
        Known(),
        [{"k": Reading("y", 1.0)}],
        [Truth({"k": "y"})],
        digests=["0" * 64],
        source="one",
        unlabelled=3,
    )
    assert [(each.group, each.truth, each.counts) for each in made.confusions] == [
        (None, ("y",), ((0, 1, 0),))
    ]
    assert made.unlabelled == 3
    assert made.made.endswith("Z")


def test_a_card_is_read_back_and_refused_for_another_judge(tmp_path: Path) -> None:
    made = card()
    file = tmp_path / "card.json"
    file.write_text(json.dumps(made.model_dump(mode="json")))
    assert load_calibration(file, Known()) == made == load_calibration(file)
    for other in (Known(version="2"), Known(name="other"), Known(attributes={"k": ("y", "x")})):
        with pytest.raises(RefusedInputError, match="calibrate this one") as refused:
            load_calibration(file, other)
        assert refused.value.code == "E_CALIBRATION"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("measurer", "version"), "2", "edited"),
        (("schema_version",), 2, "schema_version"),
        (("confusions", 0, "counts", 0, 0), -1, "counts"),
        (("confusions", 0, "counts", 0, 0), 1.5, "counts"),
        (("confusions", 0, "counts", 0), [1, 2], "rows"),
        (("confusions", 0, "read"), ["x", "y"], "last"),
        (("confusions", 0, "group"), "b", "twice"),
        (("confusions", 0, "attribute"), "q", "not the measurer's"),
        (("made",), "yesterday", "made"),
        (("extra",), 1, "not a key"),
    ],
)
def test_an_edited_card_is_refused(
    tmp_path: Path, path: tuple[str | int, ...], value: object, said: str
) -> None:
    content = json.loads(json.dumps(card().model_dump(mode="json")))
    place = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    file = tmp_path / "card.json"
    file.write_text(json.dumps(content))
    with pytest.raises(RefusedInputError) as refused:
        load_calibration(file)
    assert said in str(refused.value)
    assert str(file) in str(refused.value)


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        (Truth({"kk": "x"}), 'did you mean "k"'),
        (Truth({"k": "xx"}), 'did you mean "x"'),
        (Truth({}), "no picture has a label"),
    ],
)
def test_labels_that_the_judge_cannot_answer_are_told(truth: Truth, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        calibrate(Known(), [{"k": Reading("x", 1.0)}], [truth], digests=["0" * 64], source="")


def test_a_wrong_date_is_told() -> None:
    with pytest.raises(UsageError, match="ISO 8601"):
        calibrate(
            Known(),
            [{"k": Reading("x", 1.0)}],
            [Truth({"k": "x"})],
            digests=["0" * 64],
            source="",
            made="today",
        )

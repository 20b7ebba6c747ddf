"""Drawings: a person's attributes decide the pixels, and nothing else does."""

from __future__ import annotations

import numpy as np

from counterpoise.world import drawing
from counterpoise.world.data import CHUNK, make_chunk, make_dataset
from counterpoise.world.table import load_table

TABLE = load_table()


def person(**changes: str) -> dict[str, str]:
    base = {
        "subject": "woman", "presentation": "woman", "skin": "tan", "hair": "bun", "hair_color": "brown",
        "exposure": "modest", "clothes": "hoodie", "clothes_color": "red", "glasses": "no", "beard": "no",
        "background": "blue",
    }  # fmt: skip
    return base | changes


def draw(**changes: str) -> np.ndarray:
    return drawing.draw(person(**changes), np.random.default_rng(0))


def test_same_person_same_pixels() -> None:
    assert np.array_equal(draw(), draw())


def test_every_value_of_every_attribute_is_visible() -> None:
    for attribute, values in TABLE.attributes.items():
        if attribute == "exposure":  # is what the clothes are
            continue
        pictures = [draw(**{attribute: value}) for value in values]
        for i, first in enumerate(pictures):
            for second in pictures[:i]:
                changed = (first != second).any(-1).mean()
                assert changed > 0.005, attribute


def test_corners_have_the_background_and_foreheads_the_skin() -> None:
    for name, tone in drawing.SKIN.items():
        picture = draw(skin=name)
        assert np.abs(picture[28, 32].astype(int) - _rgb(tone)).max() <= 3
    for name, color in drawing.BACKGROUND.items():
        assert np.abs(draw(background=name)[1, 1].astype(int) - _rgb(color)).max() <= 1


def _rgb(color: str) -> np.ndarray:
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])


def test_data_depend_on_seed_and_chunk_alone(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("counterpoise.world.data.CHUNK", 20)
    made = make_dataset(tmp_path, 40, seed=9, workers=1)
    captions, labels, images = make_chunk(9, 1)
    assert made.captions[20:] == captions
    assert np.array_equal(made.labels[20:], labels)
    assert np.array_equal(made.images[20:], images)
    assert CHUNK == 1000
    again = make_dataset(tmp_path, 40, seed=9, workers=1)
    assert again.captions == made.captions

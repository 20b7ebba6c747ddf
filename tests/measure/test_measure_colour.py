"""Lab in its true units: published values, and the traps of published code."""

from __future__ import annotations

import numpy as np
import pytest

from counterpoise.measure.colour import distance, ita_of, lab_of
from counterpoise.measure.skin import ITA_CLASSES, MONK, MONK_LAB, ita_class, monk_tone

# Published beside the scale's hex values at https://skintone.google/get-started.
PUBLISHED = [
    (94.211, 1.503, 5.422), (92.275, 2.061, 7.28), (93.091, 0.216, 14.205), (87.573, 0.459, 17.748),
    (77.902, 3.471, 23.136), (55.142, 7.783, 26.74), (42.47, 12.325, 20.53), (30.678, 11.667, 13.335),
    (21.069, 2.69, 5.964), (14.61, 1.482, 3.525),
]  # fmt: skip


def rgb(code: str) -> np.ndarray:
    return np.array(list(bytes.fromhex(code)), np.uint8)


@pytest.mark.parametrize(
    ("code", "lab"),
    [  # sRGB's primaries under D65, as brucelindbloom.com's calculator gives them
        ("ff0000", (53.24, 80.09, 67.20)),
        ("00ff00", (87.73, -86.18, 83.18)),
        ("0000ff", (32.30, 79.19, -107.86)),
        ("ffffff", (100.0, 0.0, 0.0)),
        ("000000", (0.0, 0.0, 0.0)),
        ("777777", (50.03, 0.0, 0.0)),
    ],
)
def test_known_colours_have_their_published_lab(code: str, lab: tuple[float, ...]) -> None:
    assert lab_of(rgb(code)) == pytest.approx(lab, abs=0.03)


def test_monk_swatches_have_their_published_lab() -> None:
    assert pytest.approx(np.array(PUBLISHED), abs=0.011) == MONK_LAB


def test_greys_have_no_colour_at_any_level() -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    lab = lab_of(greys)
    assert np.abs(lab[:, 1:]).max() < 1e-9
    assert (np.diff(lab[:, 0]) > 0).all()


def test_each_monk_swatch_is_its_own_tone_also_one_level_off() -> None:
    for tone, code in enumerate(MONK):
        off = np.stack([rgb(code).astype(int) + step for step in np.ndindex(3, 3, 3)]) - 1
        assert (monk_tone(lab_of(np.clip(off, 0, 255).astype(np.uint8))) == tone).all()


def test_swapped_channels_and_eight_bit_lab_are_what_it_does_not_do() -> None:
    # DALL-Eval's two defects: red and blue swapped, and L* held to be 0..255. Both move the scale's middle.
    swapped = monk_tone(lab_of(np.stack([rgb(code)[::-1] for code in MONK])))
    assert list(swapped) != list(range(10))


def test_ita_stays_finite_and_within_a_right_angle() -> None:
    lab = np.array([[80.0, 0, 0], [20.0, 0, 0], [50.0, 0, 0], [80.0, 0, -5.0], [60.0, 5, 10.0]])
    assert ita_of(lab) == pytest.approx([90, -90, 0, -80.5377, 45])


def test_ita_classes_split_where_published() -> None:
    degrees = np.array([60, 55, 54, 41, 40, 28, 27, 10, 9, -30, -31])
    lab = np.stack([50 + 10 * np.tan(np.radians(degrees)), 0 * degrees, 10 + 0 * degrees], axis=-1)
    assert [ITA_CLASSES[k][:4] for k in ita_class(lab + np.array([1e-9, 0, 0]))] == [
        "very", "very", "ligh", "ligh", "inte", "inte", "tan", "tan", "brow", "brow", "dark"
    ]  # fmt: skip


def test_what_is_no_uint8_rgb_is_refused() -> None:
    with pytest.raises(TypeError, match="uint8"):
        lab_of(np.zeros((2, 3)))
    with pytest.raises(TypeError, match="RGB"):
        lab_of(np.zeros((2, 4), np.uint8))


def test_distance_is_euclidean() -> None:
    assert distance(np.array([1.0, 2, 3]), np.array([1.0, 5, 7])) == 5

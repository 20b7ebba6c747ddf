"""Skin tone: swatches read as themselves, and drawn portraits of every tone alike, whatever lies behind them."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.portraits import BACKGROUNDS, portrait, swatch, through_jpeg

from counterpoise.measure.skin import TONES, SkinTone
from counterpoise.measure.skin_pixels import could_be_skin, skin_of

JUDGE = SkinTone()


def tones(pictures: np.ndarray) -> list[str | None]:
    return [row["monk_tone"].value for row in JUDGE(pictures)]


def test_pure_swatches_read_one_to_ten() -> None:
    pictures = np.stack([swatch(tone) for tone in range(1, 11)])
    assert tones(pictures) == list(TONES)
    assert all(row["monk_tone"].confidence == 1 for row in JUDGE(pictures))
    assert [row["ita_class"].value for row in JUDGE(pictures)] == [
        *["very light"] * 4, "light", "tan", "brown", *["dark"] * 3
    ]  # fmt: skip


@pytest.mark.parametrize("quality", [30, 60, 90])
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (600, 400)])
def test_swatches_read_the_same_with_noise_in_jpeg_at_any_size(quality: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(quality)
    for tone in range(1, 11):
        flat = np.broadcast_to(swatch(tone, size=1), (*size, 3)).astype(int)
        noisy = (flat + rng.integers(-3, 4, flat.shape)) if size[0] > 1 else flat
        assert tones(through_jpeg(np.clip(noisy, 0, 255).astype(np.uint8), quality)[None]) == [str(tone)]


@pytest.mark.parametrize("backdrop", ["#ffffff", "#000000", "#1e5aa8", "#4d7a4a", "#808080"])
def test_a_swatch_on_a_backdrop_reads_as_itself(backdrop: str) -> None:
    for tone in range(1, 11):
        picture = np.full((90, 90, 3), list(bytes.fromhex(backdrop[1:])), np.uint8)
        picture[25:65, 25:65] = swatch(tone, size=40)
        assert tones(picture[None]) == [str(tone)]


def test_portraits_of_every_tone_are_found_and_graded_alike_before_every_background() -> None:
    # Seeds apart from those on which the finder's numbers were chosen; python -m benchmarks.judges draws more.
    read = np.array(
        [
            [int(tones(portrait(tone, seed, background=background)[None])[0] or 0) for tone in range(1, 11)]
            for background in BACKGROUNDS
            for seed in (9001, 9002)
        ]
    )
    truth = np.arange(1, 11)
    within_one = np.abs(read - truth) <= 1
    assert (read > 0).all(), "a tone was not found"
    assert (read == truth).mean() >= 0.88
    assert within_one.mean() >= 0.96
    assert (within_one.mean(axis=0) >= 0.85).all(), "a tone is read worse than others"


def test_a_face_that_fills_the_picture_is_read() -> None:
    for tone in range(1, 11):
        assert tones(portrait(tone, 7, background="blue")[None, 60:110, 70:120]) == [str(tone)]


@pytest.mark.parametrize(
    ("what", "picture"),
    [
        ("blank picture", np.zeros((64, 64, 3), np.uint8)),
        ("blank picture", np.full((64, 64, 3), 255, np.uint8)),
        ("blank picture", np.full((64, 64, 3), 128, np.uint8)),
        ("blank picture", np.full((64, 64, 3), (30, 90, 200), np.uint8)),
        ("no skin", np.repeat(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))[..., None], 3, 2)),
        ("too few", np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)),
        ("too few", np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)),
    ],
)
def test_it_abstains_where_there_is_no_skin(what: str, picture: np.ndarray) -> None:
    row = JUDGE(picture[None])[0]
    assert all(reading.value is None and reading.reason.startswith(what) for reading in row.values())


def test_a_grey_photograph_has_no_skin_colour_at_any_tone() -> None:
    for tone in range(1, 11):
        grey = portrait(tone, 3, background="blue", quality=None).mean(axis=2).astype(np.uint8)
        assert tones(np.repeat(grey[None, ..., None], 3, axis=3)) == [None]


def test_what_skin_can_be_leaves_room_around_every_monk_tone() -> None:
    from counterpoise.measure.skin import MONK_LAB

    for shift in np.array(list(np.ndindex(3, 3, 3))) - 1:
        assert could_be_skin(MONK_LAB + shift).all()


def test_the_share_of_skin_is_that_of_the_patch() -> None:
    picture = np.full((96, 96, 3), (30, 90, 200), np.uint8)
    picture[32:64, 32:64] = swatch(6, size=32)
    assert skin_of(picture).share == pytest.approx(1 / 9, abs=0.01)


def test_confidence_falls_as_a_tone_moves_towards_the_next() -> None:
    a, b = swatch(6).astype(float), swatch(7).astype(float)
    rng = np.random.default_rng(0)
    sure = []
    for part in (0.0, 0.25, 0.45):
        mixed = np.clip((1 - part) * a + part * b + rng.normal(0, 6, a.shape), 0, 255).astype(np.uint8)
        sure.append(JUDGE(mixed[None])[0]["monk_tone"].confidence)
    assert sure[0] > sure[1] > sure[2] > 0.4

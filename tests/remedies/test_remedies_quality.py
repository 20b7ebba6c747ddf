"""The quality guard: what is measured, against planted truths, and that destroyed pictures do not pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from counterpoise.demo.run import questions
from counterpoise.measure.embedding import energy_distance, spread
from counterpoise.measure.heads import load_reader
from counterpoise.measure.reading import Reading
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.quality import (
    ACCEPTABLE,
    NOT_ACCEPTABLE,
    NOT_SHOWN,
    Limits,
    Quality,
    apart,
    features_of,
    jackknife,
    look,
    moved,
    quality,
    spread_ratio,
    thumbnails,
    topics,
)
from counterpoise.remedies.quality import pair_distances as distances
from counterpoise.world import reader_folder

GOAL = Goal.model_validate(
    {
        "templates": ["a {}"],
        "held_out": ["of {}"],
        "keep": ["cat"],
        "edit": [
            {
                "neutral": "sky",
                "attribute": "light",
                "variants": [
                    {"phrase": "night", "reads": "dim", "share": 0.5},
                    {"phrase": "day", "reads": "bright", "share": 0.5},
                ],
            }
        ],
    }
)


class Brightness:
    """Reads the mean colour; of a grey picture it says nothing."""

    name = "brightness"
    version = "1"
    attributes = {"light": ("dim", "bright")}  # noqa: RUF012

    def __call__(self, images: np.ndarray) -> Sequence[dict[str, Reading]]:
        means = images.reshape(len(images), -1).mean(1)
        read = [None if 120 < m < 136 else "bright" if m > 128 else "dim" for m in means]
        return [{"light": Reading(value, 1.0)} for value in read]


class Sky:
    """Draws night dark, day bright, sky as `sky` says; every other picture by its seed; `flat`: all one."""

    def __init__(self, sky: str = "day", *, grey: Sequence[str] = (), flat: bool = False, swap: float = 0.0):
        self.sky, self.grey, self.flat, self.swap = sky, grey, flat, swap

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        pictures = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            rng = np.random.default_rng(0 if self.flat else seed)
            kind = prompt.split()[-1]
            if kind in self.grey:
                pictures.append(np.full((16, 16, 3), 128.0))
                continue
            if kind == "sky":
                kind = self.sky if self.sky != "both" else ("night", "day")[seed % 2]
            if rng.random() < self.swap:
                kind = {"night": "day", "day": "night"}.get(kind, kind)
            mean = {"night": 60.0, "day": 200.0}.get(kind, 90.0)
            pictures.append(mean + 25 * rng.standard_normal((4, 4, 3)).repeat(4, 0).repeat(4, 1))
        return np.clip(np.stack(pictures), 0, 255).astype(np.uint8)


def judged(treated: Sky, *, n: int = 60, limits: Limits | None = None) -> Quality:
    judge = Brightness()
    asked = topics(GOAL, judge, n=n)
    base, again = (look(Sky(), judge, asked, n=n, side="base", seed=s) for s in (0, 50_000))
    seen = look(treated, judge, asked, n=n, side="treated", seed=0)
    return quality(asked, base, seen, again=again, space="thumbnails", limits=limits)


def test_topics_are_the_variants_what_is_kept_and_the_neutral_as_its_variants() -> None:
    asked = topics(GOAL, Brightness(), n=10)
    assert [topic.treated for topic in asked] == ["of sky", "of night", "of day", "of cat"]
    assert sorted(asked[0].base) == ["of day"] * 5 + ["of night"] * 5
    assert [topic.neutral for topic in asked] == [True, False, False, False]
    assert [topic.value for topic in asked] == [None, "dim", "bright", None]
    world = topics(questions(fast=True)[1], load_reader(reader_folder()), n=2)
    kept = next(topic for topic in world if topic.name == "a boss wearing a red blazer")
    assert (kept.attribute, kept.value) == ("clothes_color", "red")


def test_a_repair_that_draws_the_variants_is_acceptable() -> None:
    found = judged(Sky("both"))
    assert found.verdict == ACCEPTABLE
    assert found.figure("following").estimate.value == 0
    assert found.figure("diversity").estimate.value == pytest.approx(1)
    assert abs(found.figure("apart, neutral prompts").estimate.value) < 0.1
    assert found.figure("moved on the same seeds").estimate.value == pytest.approx(0)


def test_balance_by_grey_squares_is_not_acceptable() -> None:
    """Half and half of nothing is balanced, and a guard on explicit prompts alone would not see it."""
    found = judged(Sky(grey=("sky",)))
    assert found.verdict == NOT_ACCEPTABLE
    assert found.figure("following").estimate.value == 0
    assert found.figure("unread").decision == NOT_ACCEPTABLE
    assert found.figure("apart, neutral prompts").decision == NOT_ACCEPTABLE
    assert judged(Sky(grey=("sky", "night", "day", "cat"))).figure("diversity").estimate.value == 0


def test_each_loss_is_seen_by_its_own_figure() -> None:
    lost = judged(Sky("both", swap=0.4))
    assert lost.figure("following").decision == NOT_ACCEPTABLE
    flat = judged(Sky("both", flat=True))
    assert flat.figure("diversity").decision == NOT_ACCEPTABLE
    assert flat.figure("following").decision == ACCEPTABLE
    one_sided = judged(Sky("day"))
    assert one_sided.figure("apart, neutral prompts").decision == NOT_ACCEPTABLE
    assert one_sided.figure("apart").decision == ACCEPTABLE


def test_a_few_pictures_do_not_acquit() -> None:
    assert judged(Sky("both"), n=3).verdict == NOT_SHOWN


def test_distances_are_those_of_the_measuring_room() -> None:
    rng = np.random.default_rng(1)
    base, other = rng.normal(size=(30, 5)), rng.normal(1, 2, size=(30, 5))
    table = distances(base, other)
    ratio = jackknife([table], spread_ratio).value
    assert ratio == pytest.approx(spread(other) / spread(base))
    # The room's distance counts pairs of one seed too; here they are left out.
    own = jackknife([table], apart).value * spread(base)
    same = np.linalg.norm(base - other, axis=1).mean()
    with_pairs = (
        2 * (((own + spread(base) + spread(other)) / 2 * 29 + same) / 30) - spread(base) - spread(other)
    )
    assert with_pairs == pytest.approx(energy_distance(base, other))
    assert jackknife([table], moved).value == pytest.approx(same / spread(base))


def test_jackknife_intervals_cover_at_about_their_rate() -> None:
    rng = np.random.default_rng(2)
    truth = 1.5  # the second set's scale over the first's
    covered = 0
    for _ in range(200):
        tables = [distances(rng.normal(size=(20, 3)), truth * rng.normal(size=(20, 3))) for _ in range(4)]
        interval = jackknife(tables, spread_ratio)
        covered += interval.low <= truth <= interval.high
    assert 180 <= covered <= 199


def test_pictures_are_compared_where_the_judge_sees() -> None:
    reader = load_reader(reader_folder())
    images = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), np.uint8)
    space, embed = features_of(reader)
    assert space == "last layer of world"
    assert embed(images).shape == (3, 128)
    assert features_of(Brightness())[0].startswith("thumbnails")
    white = thumbnails(np.full((1, 20, 20, 3), 255, np.uint8))
    assert white.shape == (1, 192)
    assert np.allclose(white, 1)

    class Embeds(Brightness):
        def embed(self, images: np.ndarray) -> np.ndarray:
            return images.reshape(len(images), -1).astype(float)

    assert features_of(Embeds())[0] == "embedding of brightness"


def test_the_figures_are_there_as_rows() -> None:
    found = judged(Sky("both")).to_dict()
    assert set(found["figures"]["apart"]) == {"value", "low", "high", "n", "method", "limit", "decision"}
    assert found["figures"]["apart, base again"]["limit"] is None

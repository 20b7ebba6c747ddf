"""Boxes that fail are drawn again, and they alone; the rivals are what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
import pytest
import torch
from regional_models import row_of

from counterpoise.errors import UsageError
from counterpoise.measure.reading import Reading
from counterpoise.scenes.mending import crop, draw_and_mend
from counterpoise.scenes.sampler.drawing import ScenePainter
from counterpoise.scenes.sampler.families import FLUX, family_of
from counterpoise.scenes.sampler.hold import attentions, regional
from counterpoise.scenes.sampler.rivals.alone import alone
from counterpoise.scenes.sampler.rivals.blending import blended
from counterpoise.scenes.sampler.rivals.concat import concatenated
from counterpoise.scenes.sampler.rivals.plain import everybody, plain
from counterpoise.scenes.sampler.scene import Scene, pixels
from counterpoise.scenes.sampler.seeds import sub_seed


@final
class Brightness:
    """A judge of one attribute that it can truly read: whether a crop's mean is above a level."""

    name, version = "brightness", "1"
    attributes: Mapping[str, tuple[str, ...]] = {"light": ("bright", "dim")}

    def __init__(self, level: float, *, blind: bool = False) -> None:
        self.level, self.blind = level, blind
        self.seen: list[np.ndarray] = []

    def __call__(self, images: np.ndarray) -> Sequence[Mapping[str, Reading]]:
        self.seen.append(images)
        if self.blind:
            return [{"light": Reading(None, 0.0, "unsure")} for _ in images]
        means = images.mean((1, 2, 3))
        return [{"light": Reading("bright" if mean >= self.level else "dim", 1.0)} for mean in means]


def asked(scene: Scene, *values: str) -> Scene:
    people = [replace(p, attributes={"light": v}) for p, v in zip(scene.people, values, strict=True)]
    return replace(scene, people=tuple(people))


def painter(model: Any, hold: Any = None, **how: Any) -> ScenePainter:
    return ScenePainter(model, hold or regional(), **{"guidance": 2.0, "steps": 3, "batch_size": 2, **how})


def mean_of(picture: np.ndarray, scene: Scene, i: int) -> float:
    left, top, right, bottom = pixels(scene)[i]
    return float(picture[top:bottom, left:right].mean())


def test_only_failing_boxes_are_drawn_again_and_the_log_says_what_was_read(model: Any) -> None:
    scene = row_of(3, gap=8)
    first = painter(model)([scene], [4])[0]
    means = [mean_of(first, scene, i) for i in range(3)]
    order = np.argsort(means)
    level = (means[order[1]] + means[order[2]]) / 2
    values = ["bright" if mean >= level else "dim" for mean in means]
    values[order[1]] = "bright"  # the one that fails
    wanted = asked(scene, *values)
    made = painter(model)
    mended = draw_and_mend(made, [wanted], [4], Brightness(level), size=16, strength=1.0, tries=2)
    log = {(own.person, own.attempt): own for own in mended.attempts}
    assert sorted({person for person, attempt in log if attempt}) == [order[1]]
    assert log[order[1], 0].read == {"light": "dim"}
    assert log[order[1], 0].wrong == 1
    assert log[order[1], 1].seed == sub_seed(4, 1)
    assert sum(own.kept for own in mended.attempts) == 3
    assert mended.calls == made.calls
    each = 2 if family_of(model) is FLUX else 1
    assert mended.redrawing_calls == 3 * each * max(attempt for _, attempt in log)
    change = np.abs(mended.pictures[0].astype(int) - first.astype(int))
    means = [mean_of(change, scene, i) for i in range(3)]
    others = sum(means) - means[order[1]]  # the decoder's norms are of the whole picture
    if log[order[1], 0].kept:
        assert change.max() == 0
    else:
        assert others < 0.25 * means[order[1]]
    for own in mended.attempts:
        if own.kept and own.person != order[1]:
            assert own.attempt == 0


def test_a_judge_that_abstains_costs_the_most_tries_and_keeps_the_first_drawing(sd: Any) -> None:
    scene = asked(row_of(2, gap=8), "dim", "bright")
    other = row_of(2, gap=8)  # nobody asks anything of it
    mended = draw_and_mend(painter(sd), [scene, other], [4, 5], Brightness(0, blind=True), size=16, tries=3)
    assert [own.attempt for own in mended.attempts if own.scene == 0] == [0, 1, 2, 3] * 2
    assert [own.attempt for own in mended.attempts if own.scene == 1] == [0, 0]
    assert all(own.kept == (own.attempt == 0) for own in mended.attempts)
    assert len({own.seed for own in mended.attempts if own.scene == 0}) == 4
    assert mended.redrawing_calls == 3 * 3
    first = painter(sd)([scene, other], [4, 5])
    assert all(np.array_equal(a, b) for a, b in zip(first, mended.pictures, strict=True))
    nothing = draw_and_mend(painter(sd), [other], [5], Brightness(0), size=16)
    assert nothing.redrawing_calls == 0


def test_mending_does_not_depend_on_the_other_scenes(sd: Any) -> None:
    scenes = [asked(row_of(2, gap=8), "bright", "dim"), asked(row_of(2, gap=8), "dim", "bright")]
    together = draw_and_mend(painter(sd), scenes, [1, 2], Brightness(128), size=16)
    single = draw_and_mend(painter(sd), scenes[1:], [2], Brightness(128), size=16)
    assert np.abs(together.pictures[1].astype(int) - single.pictures[0].astype(int)).max() <= 1
    own = [replace(attempt, scene=0) for attempt in together.attempts if attempt.scene == 1]
    assert tuple(own) == single.attempts


def test_crops_come_in_the_judge_s_size(sd: Any) -> None:
    judge = Brightness(128)
    draw_and_mend(painter(sd), [asked(row_of(2), "dim", "dim")], [1], judge, size=24, tries=0)
    assert judge.seen[0].shape == (2, 24, 24, 3)
    picture = np.arange(32 * 16 * 3, dtype=np.uint8).reshape(16, 32, 3)
    assert np.array_equal(crop(picture, (16, 0, 32, 16), 16), picture[:, 16:])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"strength": 0.0}, "strength is 0"),
        ({"strength": 1.5}, "strength is 1.5"),
        ({"tries": -1}, "tries is -1"),
    ],
)
def test_bad_settings_are_refused(sd: Any, how: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        draw_and_mend(painter(sd), [row_of(2)], [1], Brightness(1), size=16, **how)


def test_an_attribute_that_the_judge_cannot_read_is_refused_before_drawing(sd: Any) -> None:
    made = painter(sd)
    with pytest.raises(UsageError, match=r"light = 'dark'.*bright, dim"):
        draw_and_mend(made, [asked(row_of(2), "dim", "dark")], [1], Brightness(1), size=16)
    assert made.calls == 0


def latents(model: Any, hold: Any, scene: Scene, **how: Any) -> torch.Tensor:
    return painter(model, hold, **how).latents([scene], [3])


def test_masked_concatenation_with_equal_prompts_is_the_plain_picture(unet_model: Any) -> None:
    scene = row_of(3, prompts=("two people",), gap=8)
    stock = latents(unet_model, plain(), scene)
    assert (latents(unet_model, concatenated(), scene) - stock).abs().max() <= 1e-5
    apart = row_of(3, gap=8)
    assert (latents(unet_model, concatenated(), apart) - stock).abs().max() > 1e-4


def test_masked_concatenation_is_the_sampler_without_fence_and_base(sd: Any) -> None:
    """Groups and masks are two ways to the same attention."""
    from counterpoise.scenes.sampler.settings import Regional

    ours = regional(Regional(base_ratio=0.0, fence_until=0.0, feather=0.0))
    for scene in (row_of(3, gap=8), row_of(2)):
        assert (latents(sd, concatenated(), scene) - latents(sd, ours, scene)).abs().max() <= 1e-5


def test_blending_with_equal_prompts_is_the_plain_picture_at_n_plus_one_times_the_price(sd: Any) -> None:
    scene = row_of(3, prompts=("two people",), gap=8)
    made = painter(sd, blended(bootstrap=0.0, feather=0.2))
    assert (made.latents([scene], [3]) - latents(sd, plain(), scene)).abs().max() <= 1e-5
    assert made.calls == 3 * (3 + 1)
    assert "forward" not in vars(sd.unet)
    apart = row_of(3, gap=8)
    assert (latents(sd, blended(), apart) - latents(sd, blended(bootstrap=0.0), apart)).abs().max() > 1e-3


def test_a_fence_of_blending_is_what_it_draws_alone_in_the_last_steps(sd: Any) -> None:
    """One box over the canvas is that prompt alone."""
    scene = row_of(1)
    own = Scene(16, 16, scene.people[0].prompt, ())
    found = latents(sd, blended(bootstrap=0.0), scene)
    assert (found - latents(sd, plain(), own)).abs().max() <= 1e-5


def test_the_ceiling_pastes_each_person_drawn_alone(sd: Any) -> None:
    scene = row_of(2, gap=8)
    made = painter(sd)
    picture = alone(made, [scene], [5])[0]
    background = painter(sd, plain())([scene], [5])[0]
    assert np.array_equal(picture[:, :8], background[:, :8])
    one = painter(sd, plain())([Scene(16, 16, scene.people[1].prompt, ())], [sub_seed(5, 1)])[0]
    assert np.array_equal(picture[:, 32:48], one)
    assert made.calls == 3 * 2  # the background's batch and the people's


def test_a_prompt_that_lists_everybody(sd: Any) -> None:
    scene = row_of(2)
    assert everybody(scene) == "two people: a red woman and a blue man"
    named = replace(scene, prompt=everybody(scene))
    assert torch.equal(latents(sd, plain(everybody), scene), latents(sd, plain(), named))


@pytest.mark.parametrize("hold", [concatenated(), blended()])
def test_rivals_put_everything_back_and_refuse_what_they_cannot_draw(
    sd: Any, joint_model: Any, hold: Any
) -> None:
    before = {name: layer.processor for name, layer in attentions(sd.unet).items()}

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        latents(sd, hold, row_of(2), options={"callback_on_step_end": fail})
    assert all(layer.processor is before[name] for name, layer in attentions(sd.unet).items())
    assert "forward" not in vars(sd.unet)
    with pytest.raises(UsageError, match="UNets"):
        latents(joint_model, hold, row_of(2))

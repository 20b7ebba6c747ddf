"""What the regional sampler must equal exactly, on every family of stock pipeline."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from regional_models import PROMPTS, row_of

from counterpoise.scenes.sampler.drawing import ScenePainter
from counterpoise.scenes.sampler.families import FLUX, denoiser_of, family_of
from counterpoise.scenes.sampler.hold import attentions, regional
from counterpoise.scenes.sampler.rivals.plain import plain
from counterpoise.scenes.sampler.scene import Figure, Scene
from counterpoise.scenes.sampler.settings import Regional
from counterpoise.scenes.sampler.texts import base_inputs

STEPS = 2
WHOLE = {"Stable Diffusion 3": 256, "Flux": 512}  # T5's tokens of a base prompt


def whole(model: Any, **changes: Any) -> Regional:
    """Texts of people as long as the base's, where text lies in one sequence with the image."""
    return Regional(person_tokens=WHOLE.get(family_of(model).name, 64), **changes)


def painter(model: Any, hold: Any, **how: Any) -> ScenePainter:
    return ScenePainter(model, hold, **{"guidance": 2.0, "steps": STEPS, "batch_size": 1, **how})


def predictions(model: Any, made: ScenePainter, scenes: Any, seeds: Any) -> list[torch.Tensor]:
    """What the denoiser answers, call by call."""
    seen: list[torch.Tensor] = []
    handle = denoiser_of(model).register_forward_hook(lambda _m, _a, out: seen.append(out[0].clone()))
    try:
        made.latents(scenes, seeds)
    finally:
        handle.remove()
    return seen


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("changes", [{"base_ratio": 0.0}, {"base_ratio": 0.3, "feather": 0.3}])
def test_all_prompts_equal_to_the_base_prompt_draw_the_plain_picture(
    model: Any, guidance: float, changes: dict[str, float]
) -> None:
    scene = row_of(3, prompts=("two people",), gap=8)
    ours = regional(whole(model, fence_until=0.0, **changes))
    found = painter(model, ours, guidance=guidance).latents([scene], [3])
    stock = painter(model, plain(), guidance=guidance).latents([scene], [3])
    assert (found - stock).abs().max() <= 1e-5
    apart = painter(model, ours, guidance=guidance).latents([row_of(3, gap=8)], [3])
    assert (apart - stock).abs().max() > 1e-4  # other prompts do act


def test_the_unconditional_half_is_the_plain_one_s(model: Any) -> None:
    scene = row_of(2, gap=8)
    ours = predictions(model, painter(model, regional(Regional(fence_until=1.0))), [scene], [3])
    stock = predictions(model, painter(model, plain()), [scene], [3])
    if family_of(model) is FLUX:  # two calls a step, the positive one first
        halves = [(ours[1], stock[1]), (ours[0], stock[0])]
    else:
        halves = list(zip(ours[0], stock[0], strict=True))
    assert (halves[0][0] - halves[0][1]).abs().max() <= 1e-6
    assert (halves[1][0] - halves[1][1]).abs().max() > 1e-3


@pytest.mark.parametrize("fence", [0.0, 1.0])
def test_one_box_over_the_canvas_is_that_prompt_alone(model: Any, fence: float) -> None:
    scene = Scene(32, 16, "two people", (Figure((0, 0, 32, 16), "a red woman"),))

    @contextmanager
    def alone(texts: Any, scenes: Any, *, guided: bool) -> Any:
        inputs = base_inputs(texts, scenes, guided=guided)  # pooled vectors stay the base prompt's
        yield {**inputs, "prompt_embeds": texts.embed("a red woman")[0]}

    ours = regional(whole(model, base_ratio=0.0, fence_until=fence))
    found, stock = (painter(model, hold).latents([scene], [5]) for hold in (ours, alone))
    assert (found - stock).abs().max() <= 1e-5


def test_the_order_of_people_means_nothing(model: Any) -> None:
    scene = row_of(3, gap=8)
    front = Figure((20, 2, 44, 16), "a boss")  # overlaps two of them
    scene = replace(scene, people=(*scene.people, front))
    turned = replace(scene, people=scene.people[::-1])
    made = painter(model, regional(Regional(fence_until=0.5, feather=0.2)))
    first, second = (made.latents([own], [4]) for own in (scene, turned))
    assert torch.isfinite(first).all()
    assert (first - second).abs().max() <= 1e-5


def test_a_picture_depends_on_its_own_scene_and_seed_alone(model: Any) -> None:
    three = row_of(3, gap=8)
    two = replace(three, people=three.people[1:])
    moved = replace(three, people=tuple(replace(p, box=(p.box[0] + 4, *p.box[1:])) for p in two.people))
    made = painter(model, regional(), batch_size=3)
    together = made([three, two, moved], [1, 2, 3])
    other = made([two, moved], [2, 3])
    assert abs(together[1].astype(int) - other[0]).max() <= 1
    assert abs(together[2].astype(int) - other[1]).max() <= 1
    assert (together[1] == made([two, three], [2, 9])[0]).mean() > 0.999


def test_the_denoiser_is_called_as_often_for_any_number_of_people(model: Any) -> None:
    each = 2 * STEPS if family_of(model) is FLUX else STEPS  # others double the batch instead
    for count in (1, 2, 5):
        made = painter(model, regional())
        made.latents([row_of(count, gap=8)], [1])
        assert made.calls == each


def test_everything_is_put_back_after_an_exception(model: Any) -> None:
    network = denoiser_of(model)
    before = {name: layer.processor for name, layer in attentions(network).items()}

    def fail(*_: Any) -> None:
        assert any(layer.processor is not before[name] for name, layer in attentions(network).items())
        raise KeyboardInterrupt

    made = painter(model, regional(), options={"callback_on_step_end": fail})
    with pytest.raises(KeyboardInterrupt):
        made.latents([row_of(2, gap=8)], [1])
    assert all(layer.processor is before[name] for name, layer in attentions(network).items())
    assert all(not part._forward_pre_hooks for part in network.modules())


def test_it_draws_what_the_stock_call_draws(model: Any) -> None:
    scene = row_of(2)
    made = painter(model, plain())
    noise = made.noise(scene, [7])
    if family_of(model) is FLUX:
        noise = model._pack_latents(noise, *noise.shape)
    how = {family_of(model).guidance: 2.0, "num_inference_steps": STEPS, "height": 16, "width": 32}
    how |= {"negative_prompt": ""} if family_of(model) is FLUX else {}
    stock = model("two people", latents=noise, output_type="np", **how).images[0]
    assert abs(made([scene], [7])[0].astype(int) - (stock * 255).round().astype(int)).max() <= 1


def test_a_person_s_own_negative_acts_on_the_unconditional_half_alone(model: Any) -> None:
    scene = replace(row_of(2, gap=8), negative="a boss")
    same = replace(scene, people=tuple(replace(p, negative="a boss") for p in scene.people))
    own = replace(scene, people=(replace(scene.people[0], negative=PROMPTS[3]), scene.people[1]))
    made = painter(model, regional(Regional(fence_until=0.0)))
    first = made.latents([scene], [2])
    assert (made.latents([same], [2]) - first).abs().max() <= 1e-5
    assert (made.latents([own], [2]) - first).abs().max() > 1e-4
    if family_of(model) is not FLUX:
        halves = [predictions(model, made, [either], [2])[0] for either in (scene, own)]
        assert (halves[0][1] - halves[1][1]).abs().max() <= 1e-6


def check_half(model: Any, dtype: torch.dtype) -> None:
    halved = deepcopy(model).to(dtype)
    made = regional(Regional(feather=0.2))
    scene = row_of(3, gap=8)
    found = painter(halved, made).latents([scene], [3])
    full = painter(model, made).latents([scene], [3])
    assert found.dtype == dtype
    assert torch.isfinite(found).all()
    assert (found - full).float().abs().mean() < 0.1 * full.std()


def test_bfloat16_stays_finite_and_near(model: Any) -> None:
    check_half(model, torch.bfloat16)


def test_float16_stays_finite_and_near(sd: Any) -> None:
    check_half(sd, torch.float16)

"""How far one person's prompt reaches into the others' boxes, what is cached, and whom an adapter acts on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from regional_models import row_of

from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, Host, LowRank
from counterpoise.scenes.sampler.drawing import ScenePainter, draw_scenes
from counterpoise.scenes.sampler.families import SD3, family_of
from counterpoise.scenes.sampler.hold import attentions, regional
from counterpoise.scenes.sampler.owners import owners
from counterpoise.scenes.sampler.rivals.plain import plain
from counterpoise.scenes.sampler.scene import Figure, Scene
from counterpoise.scenes.sampler.settings import Regional

FENCED = Regional(base_ratio=0.0, fence_until=1.0)


def moved(model: Any, *, gap: int, guidance: float, settings: Regional = FENCED) -> tuple[float, float]:
    """Mean change of the third person's latents, and of the others', when the third's prompt changes."""
    scene = row_of(3, gap=gap)
    other = replace(scene, people=(*scene.people[:2], replace(scene.people[2], prompt="red people")))
    made = ScenePainter(model, regional(settings), guidance=guidance, steps=3, batch_size=1)
    change = (made.latents([scene], [3]) - made.latents([other], [3])).abs()[0].mean(0).flatten()
    owner = owners(scene, made.noise(scene, [3]).shape[2:])
    return float(change[owner == 2].mean()), float(change[(owner == 0) | (owner == 1)].mean())


def test_behind_the_fence_of_joint_attention_nothing_leaks(joint_model: Any) -> None:
    inside, outside = moved(joint_model, gap=0, guidance=1.0)
    assert inside > 1e-4
    assert outside == 0.0


def test_what_leaks_through_the_background_and_the_plain_half_stays_under_a_hundredth(
    joint_model: Any,
) -> None:
    for gap, guidance in ((8, 1.0), (0, 2.0), (8, 2.0)):
        inside, outside = moved(joint_model, gap=gap, guidance=guidance)
        assert 0 < outside < 0.01 * inside


def test_a_unet_leaks_by_its_convolutions_and_no_more_than_two_thirds(unet_model: Any) -> None:
    inside, outside = moved(unet_model, gap=8, guidance=2.0)
    assert 0 < outside < 0.67 * inside  # random weights: 0.22 (SD), 0.39 (SDXL); trained ones, see the docs


def test_behind_a_unet_s_fence_no_attention_leaks(sd: Any) -> None:
    """Attention alone: the output of a self-attention layer for one person, as another's tokens change."""
    from counterpoise.scenes.sampler.run import Run
    from counterpoise.scenes.sampler.unet import Seeing

    scene = row_of(3, gap=8)
    name, layer = next((n, part) for n, part in attentions(sd.unet).items() if n.endswith("attn1"))
    run = Run([scene], FENCED, guided=False)
    sd.scheduler.set_timesteps(2)
    run.begin(sd.scheduler, sd.scheduler.timesteps[0])
    run.grid = (8, 28)
    owner = owners(scene, run.grid)
    tokens = torch.randn(1, len(owner), layer.to_q.in_features, generator=torch.Generator().manual_seed(1))
    other = torch.where((owner == 2)[None, :, None], tokens + 1, tokens)
    seeing = Seeing(run, layer.processor, products=False)
    change = (seeing(layer, tokens) - seeing(layer, other)).abs().amax((0, 2))
    assert change[(owner == 0) | (owner == 1)].max() == 0
    assert change[owner == -1].max() > 0  # the background sees everybody
    assert name


def test_people_s_keys_and_values_are_made_once_and_kept_over_the_steps(unet_model: Any) -> None:
    layer = next(part for name, part in attentions(unet_model.unet).items() if name.endswith("attn2"))
    seen: list[int] = []
    handle = layer.to_k.register_forward_hook(lambda _m, args, _o: seen.append(len(args[0])))
    try:
        made = ScenePainter(unet_model, regional(), guidance=2.0, steps=4, batch_size=1)
        made.latents([row_of(3)], [1])
        assert sorted(seen) == [2, 2, 2, 2, 3]  # the base text at each step; three people's once
        weight = layer.to_k.weight.data.clone()
        before = made.latents([row_of(3)], [1])
        layer.to_k.weight.data.mul_(2)  # a new batch makes them anew
        assert (made.latents([row_of(3)], [1]) - before).abs().max() > 1e-5
        layer.to_k.weight.data.copy_(weight)
        assert torch.equal(made.latents([row_of(3)], [1]), before)
    finally:
        handle.remove()


def test_the_regional_phase_ends_where_it_is_told_to(model: Any) -> None:
    scene = row_of(2, gap=8)
    parts = {}
    for until in (0.0, 0.5, 1.0):
        made = ScenePainter(
            model,
            regional(Regional(regional_until=until, fence_until=0.0)),
            guidance=2.0,
            steps=2,
            batch_size=1,
        )
        parts[until] = made.latents([scene], [3])
    stock = ScenePainter(model, plain(), guidance=2.0, steps=2, batch_size=1).latents([scene], [3])
    assert (parts[0.0] - stock).abs().max() <= 1e-5
    assert (parts[0.5] - stock).abs().max() > 1e-5
    assert (parts[0.5] - parts[1.0]).abs().max() > 1e-5


def test_odd_grids_draw_without_a_hole(joint_model: Any) -> None:
    if family_of(joint_model) is not SD3:
        scene = Scene(
            36, 20, "two people", (Figure((0, 0, 17, 19), "a boss"), Figure((19, 3, 36, 20), "a man"))
        )
    else:
        scene = Scene(
            18, 14, "two people", (Figure((0, 0, 7, 13), "a boss"), Figure((8, 1, 17, 14), "a man"))
        )
    picture = draw_scenes(joint_model, [scene], [1], guidance=2.0, steps=2, batch_size=1)[0]
    assert picture.shape == (scene.height, scene.width, 3)


def test_overlaps_and_a_box_over_all_the_others_draw_finitely(unet_model: Any) -> None:
    people = (
        Figure((0, 0, 48, 16), "two people"),
        Figure((4, 0, 24, 16), "a boss", z=1),
        Figure((16, 0, 40, 12), "a man", z=1),
    )
    made = ScenePainter(unet_model, regional(Regional(feather=0.3)), guidance=2.0, steps=2, batch_size=1)
    assert torch.isfinite(made.latents([Scene(48, 16, "people", people)], [1])).all()


def adapter(model: Any, *, seed: int, ends: tuple[str, ...]) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    layers = {}
    for path, part in model.unet.named_modules():
        if isinstance(part, torch.nn.Linear) and path.endswith(ends):
            down = torch.randn(2, part.in_features, generator=generator)
            up = torch.randn(part.out_features, 2, generator=generator)
            layers[f"unet.{path}"] = LowRank(down * 0.3, up * 0.3, 2.0)
    return Adapter(layers)


ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "net.2")


def test_an_adapter_of_the_only_person_is_the_adapter_on_the_whole_picture(sd: Any) -> None:
    scene = Scene(32, 16, "a boss", (Figure((0, 0, 32, 16), "a boss", adapter="own"),))
    whole_picture = Scene(32, 16, "a boss", ())
    host = Host(sd)
    with host.mounted(adapter(sd, seed=1, ends=ATTENTION), name="own", strength=0.7):
        made = ScenePainter(sd, regional(FENCED), guidance=2.0, steps=2, batch_size=1, host=host)
        stock = ScenePainter(sd, plain(), guidance=2.0, steps=2, batch_size=1)
        found, expected = made.latents([scene], [3]), stock.latents([whole_picture], [3])
    assert (found - expected).abs().max() <= 1e-5
    bare = stock.latents([whole_picture], [3])
    assert (found - bare).abs().max() > 1e-3


def test_a_person_s_adapter_acts_on_that_person(sd: Any) -> None:
    """Two people, two adapters: the first layer that has them changes for the tokens of the one alone."""
    scene = row_of(2, gap=8)
    scene = replace(scene, people=tuple(replace(p, adapter=f"a{i}") for i, p in enumerate(scene.people)))
    host = Host(sd)
    host.mount(adapter(sd, seed=1, ends=ATTENTION), name="a0")
    host.mount(adapter(sd, seed=2, ends=ATTENTION), name="a1")
    try:
        layer = sd.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q
        seen: list[torch.Tensor] = []
        handle = layer.register_forward_hook(lambda _m, _a, out: seen.append(out.clone()))
        for strengths in ({"a0": 1.0, "a1": 1.0}, {"a0": 1.0, "a1": 0.0}):
            host.set_strengths(strengths)
            made = ScenePainter(sd, regional(FENCED), guidance=2.0, steps=1, batch_size=1, host=host)
            made.latents([scene], [3])
        handle.remove()
        change = (seen[0] - seen[1]).abs().amax((0, 2))
        owner = owners(scene, (8, 28))
        assert change[owner == 1].min() > 0
        assert change[owner != 1].max() == 0
        with pytest.raises(UsageError, match="one by one") as error:
            made.latents([scene, scene], [3, 4])
        assert error.value.code == "E_BATCH"
        assert len(made([scene, scene], [3, 4])) == 2  # the painter draws them one by one
    finally:
        host.restore()


def test_refusals_name_what_stands_in_the_way(sd: Any) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    scene = row_of(2)
    own = replace(scene, people=(replace(scene.people[0], adapter="gone"), scene.people[1]))
    with pytest.raises(UsageError, match="'gone' is not mounted"):
        draw_scenes(sd, [own], [1])
    plain_unet = UNet2DModel(
        sample_size=8, block_out_channels=(4, 4), norm_num_groups=2, layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, add_attention=False,
    )  # fmt: skip
    with pytest.raises(UsageError, match="UNet2DModel has no cross-attention") as error:
        draw_scenes(DDPMPipeline(unet=plain_unet, scheduler=DDPMScheduler()), [scene], [1])
    assert error.value.code == "E_MODEL"
    sd.enable_attention_slicing()
    try:
        with pytest.raises(UsageError, match="SlicedAttnProcessor") as error:
            draw_scenes(sd, [scene], [1])
        assert error.value.code == "E_PROCESSOR"
    finally:
        sd.disable_attention_slicing()
    with (
        ScenePainter(sd, regional()).holding([scene]) as inputs,
        pytest.raises(UsageError, match="batch of 2"),
    ):
        sd(prompt_embeds=inputs["prompt_embeds"].repeat(2, 1, 1), height=16, width=32, guidance_scale=1.0)
    with pytest.raises(UsageError, match="base_ratio is 2"):
        Regional(base_ratio=2)

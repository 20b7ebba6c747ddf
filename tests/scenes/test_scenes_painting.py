"""Plans become pictures that carry them; what was interrupted goes on, what does not fit is drawn by nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scene_plans import plan_of
from test_regional_mending import Brightness

from counterpoise.errors import CounterpoiseError, RefusedInputError
from counterpoise.lora import Adapter, Host, LowRank
from counterpoise.scenes import PROFILES, Plan, load_plan, plan_scene, save_plan, scene_request
from counterpoise.scenes.painting import Bench, draw_plans
from counterpoise.scenes.records import Named, Way, record_of
from counterpoise.scenes.rendering import regional_of, scene_of
from counterpoise.scenes.sampler.drawing import ScenePainter
from counterpoise.scenes.sampler.hold import regional
from counterpoise.scenes.sampler.settings import Regional

WAY = Way(guidance=2.0, steps=2, batch_size=2)
DIM = ({"light": "dim"}, {"light": "bright"})


def named(*plans: Plan) -> list[Named]:
    return [Named(f"plan-{i}", plan) for i, plan in enumerate(plans)]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_drawn_picture_is_the_samplers_and_carries_its_plan_and_record(sd: Any, tmp_path: Path) -> None:
    plans = [plan_of(*DIM, seed=5), plan_of(*DIM, seed=6), plan_of(*DIM, {"light": "dim"}, seed=7)]
    drawn = draw_plans(named(*plans), Bench(sd, "tiny", WAY), tmp_path)
    assert drawn.fresh == 3
    painter = ScenePainter(sd, regional(Regional()), guidance=2.0, steps=2, batch_size=2)
    expected = painter([scene_of(plan) for plan in plans], [5, 6, 7])
    for plan, file, picture in zip(plans, drawn.files, expected, strict=True):
        assert np.array_equal(pixels(file), picture)
        assert load_plan(file) == plan
        record = record_of(file)
        assert record is not None
        assert (record.model, record.way, record.calls, record.again) == ("tiny", WAY, 2, 0)
        assert record.weights == Host(sd).fingerprint()


def test_the_sampler_has_one_place_of_defaults_and_a_plan_its_own(sd: Any, tmp_path: Path) -> None:
    assert regional_of(plan_of(*DIM)) == Regional()
    made = plan_scene(scene_request("a team", people=2, profile="world"))
    assert regional_of(made) == PROFILES["world"].regional
    own = plan_of(*DIM, render={"seed": 5, "base_ratio": 0.5, "fence_until": 1.0, "regional_until": 0.5})
    assert regional_of(own) == Regional(base_ratio=0.5, fence_until=1.0, regional_until=0.5)
    files = draw_plans(named(plan_of(*DIM, seed=5), own), Bench(sd, "tiny", WAY), tmp_path).files
    assert not np.array_equal(pixels(files[0]), pixels(files[1]))


def test_style_ends_every_prompt_and_negatives_stand_together() -> None:
    plan = plan_of(*DIM, scene={"prompt": "two people", "negative": "text", "style": "ink"})
    people = [plan.people[0].model_copy(update={"negative": "glasses"}), plan.people[1]]
    scene = scene_of(plan.model_copy(update={"people": tuple(people)}))
    assert scene.prompt == "two people, ink"
    assert [person.prompt for person in scene.people] == ["a red woman, ink", "a blue man, ink"]
    assert scene.negative == "text"
    assert [person.negative for person in scene.people] == ["text, glasses", None]


def test_a_run_that_was_interrupted_goes_on_to_the_same_pictures(sd: Any, tmp_path: Path) -> None:
    plans = named(*(plan_of(*DIM, seed=i) for i in range(5)))
    bench = Bench(sd, "tiny", WAY)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_plans(plans, bench, tmp_path / "a", progress=stop)
    assert len(list((tmp_path / "a").iterdir())) == 3
    assert draw_plans(plans, bench, tmp_path / "a").fresh == 2
    whole = draw_plans(plans, bench, tmp_path / "b")
    for file in whole.files:
        assert (tmp_path / "a" / file.name).read_bytes() == file.read_bytes()
    assert draw_plans(plans, bench, tmp_path / "a").fresh == 0


def test_a_picture_that_was_drawn_otherwise_is_not_drawn_over_unless_asked(sd: Any, tmp_path: Path) -> None:
    plans = named(plan_of(*DIM))
    (file,) = draw_plans(plans, Bench(sd, "tiny", WAY), tmp_path).files
    before = file.read_bytes()
    other = Bench(sd, "tiny", WAY.model_copy(update={"steps": 3}))
    with pytest.raises(CounterpoiseError, match="replace") as raised:
        draw_plans(plans, other, tmp_path)
    assert raised.value.code == "E_SCENE_EXISTS"
    assert file.read_bytes() == before
    assert draw_plans(plans, other, tmp_path, replace=True).fresh == 1
    file.write_bytes(before[:100])
    with pytest.raises(RefusedInputError):
        draw_plans(plans, other, tmp_path)
    assert draw_plans(plans, other, tmp_path, replace=True).fresh == 1


def test_boxes_that_fail_are_drawn_again_and_every_call_is_on_record(sd: Any, tmp_path: Path) -> None:
    judge = Brightness(128)
    way = WAY.model_copy(
        update={"mended": True, "judge": "brightness 1", "side": 16, "batch_size": 1, "tries": 2}
    )
    bench = Bench(sd, "tiny", way, judge)
    plans = named(
        plan_of({"light": "dim"}, {"light": "bright"}, seed=1), plan_of({"light": "bright"}, seed=2)
    )
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    handle = sd.unet.conv_in.register_forward_pre_hook(count)
    try:
        files = draw_plans(plans, bench, tmp_path).files
    finally:
        handle.remove()
    records = [record for file in files if (record := record_of(file))]
    assert sum(record.calls + record.again for record in records) == calls
    for record, file in zip(records, files, strict=True):
        held = {own.person: own for own in record.tries if own.kept}
        plan = load_plan(file)
        assert set(held) == {person.id for person in plan.people}
        for person in plan.people:
            left, top, right, bottom = plan.pixels(person)
            mean = pixels(file)[top:bottom, left:right].mean()
            assert held[person.id].read == {"light": "bright" if mean >= 128 else "dim"}
            tries = [own.attempt for own in record.tries if own.person == person.id]
            assert len(tries) == 1 or held[person.id].attempt == tries[-1] or tries[-1] == 2


def lora(sd: Any, path: Path) -> None:
    draw = torch.Generator().manual_seed(3)
    layers = {
        f"unet.{name}": LowRank(
            torch.randn(4, module.in_features, generator=draw),
            0.3 * torch.randn(module.out_features, 4, generator=draw),
            4.0,
        )
        for name, module in sd.unet.named_modules()
        if name.endswith("attn2.to_v")
    }
    Adapter(layers).save(path, dialect="diffusers")


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"canvas": {"width": 36, "height": 16}}, "E_CANVAS", "multiples of 8"),
        ({"canvas": {"width": 8, "height": 8}}, "E_BOX", "under 2 cells"),
    ],
)
def test_what_does_not_fit_the_model_is_named_before_anything_is_drawn(
    sd: Any, tmp_path: Path, change: dict[str, Any], code: str, said: str
) -> None:
    plans = named(plan_of(*DIM), plan_of(*DIM, **change))
    with pytest.raises(CounterpoiseError, match=said) as raised:
        draw_plans(plans, Bench(sd, "tiny", WAY), tmp_path)
    assert raised.value.code == code
    assert str(raised.value).startswith("plan-1: ")
    assert not list(tmp_path.iterdir())


def test_plans_that_cannot_be_told_apart_or_judged_are_refused(sd: Any, tmp_path: Path) -> None:
    twice = [Named("same", plan_of(*DIM)), Named("same", plan_of(*DIM, seed=1))]
    with pytest.raises(CounterpoiseError, match="two plans") as raised:
        draw_plans(twice, Bench(sd, "tiny", WAY), tmp_path)
    assert raised.value.code == "E_SCENE_NAMES"
    way = WAY.model_copy(update={"mended": True, "side": 16})
    with pytest.raises(CounterpoiseError, match=r"role.*the judge reads light") as raised:
        draw_plans(named(plan_of({"role": "captain"})), Bench(sd, "tiny", way, Brightness(1)), tmp_path)
    assert raised.value.code == "E_ATTRIBUTE"
    assert not list(tmp_path.iterdir())


def test_people_of_whom_nothing_is_planned_are_drawn_and_need_no_check(sd: Any, tmp_path: Path) -> None:
    way = WAY.model_copy(update={"mended": True, "side": 16})
    drawn = draw_plans(named(plan_of({}, {})), Bench(sd, "tiny", way, Brightness(1)), tmp_path)
    record = record_of(drawn.files[0])
    assert record is not None
    assert record.again == 0
    plain = draw_plans(named(plan_of({}, {})), Bench(sd, "tiny", WAY), tmp_path / "plain")
    assert np.array_equal(pixels(drawn.files[0]), pixels(plain.files[0]))


def test_a_model_without_cross_attention_is_refused(sd: Any, tmp_path: Path) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    unet = UNet2DModel(
        sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    with pytest.raises(CounterpoiseError, match="no cross-attention") as raised:
        draw_plans(named(plan_of(*DIM)), Bench(DDPMPipeline(unet, DDPMScheduler()), "d", WAY), tmp_path)
    assert raised.value.code == "E_MODEL"


def test_a_persons_adapter_is_found_beside_the_plan_mounted_and_taken_away(sd: Any, tmp_path: Path) -> None:
    lora(sd, tmp_path / "plans" / "anna.safetensors")
    plan = plan_of(*DIM, seed=3)
    people = (plan.people[0].model_copy(update={"lora": "anna.safetensors", "weight": 0.5}), plan.people[1])
    adapted = plan.model_copy(update={"people": people})
    save_plan(tmp_path / "plans" / "one.json", adapted)
    source = Named("one", load_plan(tmp_path / "plans" / "one.json"), tmp_path / "plans")
    before = Host(sd).fingerprint()
    plain, with_anna = draw_plans([*named(plan), source], Bench(sd, "tiny", WAY), tmp_path / "out").files
    change = np.abs(pixels(plain).astype(int) - pixels(with_anna).astype(int))
    assert change[:, :16].mean() > change[:, 16:].mean()
    host = Host(sd)
    with host.mounted(Adapter.load(tmp_path / "plans" / "anna.safetensors"), strength=0.5, name="by-hand"):
        painter = ScenePainter(sd, regional(Regional()), guidance=2.0, steps=2, batch_size=1, host=host)
        (expected,) = painter([scene_of(adapted, adapters={"p1": "by-hand"})], [3])
    assert np.array_equal(pixels(with_anna), expected)
    record = record_of(with_anna)
    assert record is not None
    assert set(record.adapters) == {"p1"}
    assert Host(sd).fingerprint() == before
    assert not any("Host" in type(hook).__name__ for hook in sd.unet._forward_hooks.values())
    missing = replace(source, folder=tmp_path, name="two")
    with pytest.raises(CounterpoiseError, match=r"anna\.safetensors"):
        draw_plans([missing], Bench(sd, "tiny", WAY), tmp_path / "out")

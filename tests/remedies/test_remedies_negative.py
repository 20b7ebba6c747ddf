"""The negative prompt: its words, its dose-response, and where it cannot act."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from remedy_toys import GOAL, Hue, goal

from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.errors import UsageError
from counterpoise.remedies import negative
from counterpoise.remedies.negative import PUSHES, chosen, prepare, require_guidance, value_phrase, why_idle
from counterpoise.remedies.treatment import Bench, Treatment
from counterpoise.stats.proportions import clopper_pearson


@pytest.fixture(scope="module")
def painter(tiny_model: Path) -> Painter:
    return Painter(load_pipeline(tiny_model), guidance=2.0, steps=2, batch_size=8)


def bench(painter: Painter, work: Path) -> Bench:
    return Bench(painter, Hue(), work, fast=True)


def test_what_is_drawn_too_often_is_named_and_every_strength_measured(
    painter: Painter, tmp_path: Path
) -> None:
    made = prepare(bench(painter, tmp_path), GOAL)
    doses = made.told["doses"]
    assert [dose["push"] for dose in doses] == [*PUSHES, *PUSHES[1:]]
    assert {dose["negative"] for dose in doses[1:]} == {"red", "a portrait of a red woman"}
    (first,) = doses[0]["rates"]
    # The tiny pipeline draws red alone, of which the goal wants a quarter.
    assert (first["value"], first["target"], first["rate"]["value"]) == ("red", 0.25, 1.0)
    assert doses[0]["distance"] == 0.75
    assert doses[0]["moved"] == 0.0
    assert 0 < doses[1]["moved"] < doses[2]["moved"] < doses[4]["moved"]
    assert doses[0]["obeyed"]["value"] == 0.5  # the red variant's prompts, not the green one's
    # Nothing turns this model's pictures green, so no strength serves.
    assert made.treatment == Treatment()
    assert any("no strength" in note for note in made.notes)
    assert made.cost.judged == (2 * len(PUSHES) - 1) * 10


def test_strength_0_and_1_are_the_plain_and_the_stock_pictures(painter: Painter) -> None:
    plain, stock = painter, replace(painter, negative_prompt="red", _embeddings={})
    for push, same in ((0.0, plain), (1.0, stock)):
        pushed = replace(painter, pushed="red", push=push, _embeddings={})
        assert np.array_equal(pushed(["a woman"] * 3, [1, 2, 3]), same(["a woman"] * 3, [1, 2, 3]))


def test_the_words_and_the_strength_can_be_the_users(painter: Painter, tmp_path: Path) -> None:
    made = prepare(bench(painter, tmp_path), GOAL, words="a portrait", push=0.75)
    assert (made.treatment.negative, made.treatment.push) == ("a portrait", 0.75)
    assert len(made.told["doses"]) == 2
    assert any("two UNet calls" in note for note in made.notes)


def test_an_interrupted_measurement_goes_on(painter: Painter, tmp_path: Path) -> None:
    whole = prepare(bench(painter, tmp_path / "whole"), GOAL)

    def stop(stage: str, step: int, total: int, loss: float) -> None:
        if stage == "negative 1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(replace(bench(painter, tmp_path / "cut"), progress=stop), GOAL)
    stages: list[str] = []
    again = replace(bench(painter, tmp_path / "cut"), progress=lambda stage, *rest: stages.append(stage))
    assert prepare(again, GOAL).told == whole.told
    assert "negative 1" in stages
    assert stages.index("negative 1") < stages.index("negative 0.5")


def test_without_guidance_it_is_a_note_and_where_it_is_demanded_an_error(
    painter: Painter, tmp_path: Path
) -> None:
    plain = replace(painter, guidance=1.0, _embeddings={})
    made = prepare(bench(plain, tmp_path), GOAL)
    assert made.treatment == Treatment()
    assert "guidance is 1" in made.notes[0]
    assert made.cost.judged == 0
    with pytest.raises(UsageError, match="guidance is 1") as refused:
        require_guidance(plain)
    assert refused.value.code == "E_GUIDANCE"
    require_guidance(painter)


def test_a_model_distilled_for_guidance_has_no_negative_branch(tiny_model: Path) -> None:
    pipeline = load_pipeline(tiny_model)
    pipeline.unet.register_to_config(time_cond_proj_dim=8)
    pipeline._guidance_scale = 7.5
    assert not pipeline.do_classifier_free_guidance  # as the stock pipeline itself sees it
    assert "distilled" in why_idle(Painter(pipeline, guidance=7.5))


def test_of_equal_strengths_the_one_that_loses_nothing_is_chosen(painter: Painter, tmp_path: Path) -> None:
    plain = negative._dose(bench(painter, tmp_path), GOAL, "", 0.0)

    def dose(push: float, distance: float, obeyed: int) -> negative.Dose:
        return replace(plain, push=push, distance=distance, obeyed=clopper_pearson(obeyed, 100))

    assert chosen([dose(0, 0.7, 95), dose(1, 0.3, 92), dose(2, 0.1, 60)]).push == 1
    assert chosen([dose(0, 0.7, 95), dose(1, 0.8, 95)]).push == 0
    assert chosen([dose(0, 0.7, 95), dose(1, 0.3, 95), dose(2, 0.3, 95)]).push == 1


def test_words_of_a_value() -> None:
    edit = goal(
        edit=[
            {
                "neutral": "a woman",
                "attribute": "hue",
                "variants": [
                    {"phrase": "a woman with tan skin, wearing a hoodie", "reads": "tan", "share": 0.3},
                    {"phrase": "a woman with tan skin, wearing a blazer", "reads": "tan", "share": 0.3},
                    {"phrase": "a female woman", "reads": "other", "share": 0.2},
                    {"phrase": "a woman in a top", "reads": "top", "share": 0.2},
                ],
            }
        ]
    ).edits[0]
    assert value_phrase(edit, "hue", "tan") == "tan skin"
    assert value_phrase(edit, "hue", "other") == "female"
    assert value_phrase(edit, "hue", "top") == "top"

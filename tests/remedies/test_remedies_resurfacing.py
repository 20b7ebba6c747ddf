"""Trials of a repair: what comes back, what must not, and reasons where a trial cannot be made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from counterpoise.demo.run import questions
from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.lora import Adapter, Host, LowRank, Schedule
from counterpoise.measure.heads import load_reader
from counterpoise.remedies import company
from counterpoise.remedies.company import inked
from counterpoise.remedies.drawings import Data
from counterpoise.remedies.resurfacing import (
    STRENGTHS,
    Company,
    Drift,
    measured,
    removed,
    strengths,
    trained_on,
    trials,
    visible,
)
from counterpoise.remedies.treatment import Bench, Treatment
from counterpoise.stats import Estimate
from counterpoise.world import model_folder, reader_folder

GOAL = questions(fast=True)[1]
LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
DRIFT = Drift(drawings=20, schedule=Schedule(steps=2, batch=4, lr=1e-3, warmup=1, save_every=1))


def bench(model: Path, work: Path) -> Bench:
    painter = Painter(load_pipeline(model), guidance=2.0, steps=2, batch_size=5)
    return Bench(painter, load_reader(reader_folder()), work)


def adapter(pipeline: object, *, scale: float = 1.0, seed: int = 0) -> Adapter:
    weight = dict(pipeline.unet.named_modules())[LAYER.removeprefix("unet.")].weight  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(2, weight.shape[1], generator=generator)
    up = torch.randn(weight.shape[0], 2, generator=generator) * scale
    return Adapter({LAYER: LowRank(down, up, 2.0)})


def pictures(folder: Path) -> Path:
    folder.mkdir()
    for i in range(4):
        Image.fromarray(np.full((16, 16, 3), 60 * i, np.uint8)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text("a portrait of a man")
    return folder


def measure(treatment: Treatment) -> Mapping[str, Estimate]:
    value = sum(strength for _, strength in treatment.adapters)
    return {"a woman": Estimate(value, value, value, 1, "toy")}


def test_every_strength_is_a_treatment_of_its_own(tiny_model: Path) -> None:
    own = Treatment(adapters=((adapter(load_pipeline(tiny_model)), 0.5),), negative="blurry")
    made = list(strengths(own))
    assert [trial.treatment.adapters[0][1] for trial in made if trial.treatment] == [s / 2 for s in STRENGTHS]
    assert all(trial.treatment is not None and trial.treatment.negative == "blurry" for trial in made)
    without = list(strengths(Treatment(negative="blurry"), (1.0,)))
    assert without[0].treatment is None
    assert "no adapter" in without[0].reason


def test_after_removing_the_weights_are_w0_by_bytes(tiny_model: Path) -> None:
    pipeline = load_pipeline(tiny_model)
    own = Treatment(adapters=((adapter(pipeline), 1.0), (adapter(pipeline, seed=1), 0.5)))
    found = removed(pipeline, own)
    assert found.identical
    assert found.folded != found.before
    assert Host(pipeline).fingerprint() == found.before
    assert removed(pipeline, Treatment(model=tiny_model)).folded == found.before  # a folder of the same bytes


def test_a_fold_that_is_not_trained_on_draws_as_the_adapter_does(tiny_model: Path, tmp_path: Path) -> None:
    own = bench(tiny_model, tmp_path)
    pipeline = own.painter.pipeline
    treatment = Treatment(adapters=((adapter(pipeline), 1.0),), negative="a man")
    before = Host(pipeline).fingerprint()

    def data() -> Data:
        return Data(["a man"] * 4, torch.zeros(4, 4, 8, 8))

    still = replace(DRIFT, schedule=replace(DRIFT.schedule, steps=0))
    made = trained_on(own, treatment, data, still, name="still")
    assert made.adapters == ()
    assert made.negative == "a man"
    assert made.model is not None
    asked = (["a woman"] * 5, range(5))
    with Host(pipeline).mounted(treatment.adapters[0][0]):
        mounted = replace(own.painter, _embeddings={})(*asked)
    folded = replace(own.painter, pipeline=load_pipeline(made.model), _embeddings={})(*asked)
    assert np.abs(mounted.astype(int) - folded.astype(int)).max() <= 3  # the folder is float16
    assert np.abs(mounted.astype(int) - own.painter(*asked).astype(int)).max() > 3
    moved = trained_on(own, treatment, data, DRIFT, name="still")
    assert moved.model != made.model
    assert trained_on(own, treatment, data, DRIFT, name="still") == moved  # found, not trained again
    assert Host(pipeline).fingerprint() == before


def test_a_user_s_model_is_tried_with_the_user_s_own(tiny_model: Path, tmp_path: Path) -> None:
    own = bench(tiny_model, tmp_path / "work")
    pipeline = own.painter.pipeline
    treatment = Treatment(adapters=((adapter(pipeline), 1.0),))
    loud, faint = adapter(pipeline, scale=3.0, seed=2), adapter(pipeline, scale=1e-5, seed=3)
    given = Company(style=loud, others=(faint,), pictures=pictures(tmp_path / "own"), drift=DRIFT)
    made = {trial.name: trial for trial in trials(own, GOAL, treatment, given)}
    assert made["removed"].treatment == Treatment()
    trained = made["trained on"].treatment
    assert trained is not None
    assert trained.model is not None
    style = made["under a style"]
    assert style.treatment is not None
    assert style.treatment.adapters == (*treatment.adapters, (loud, 1.0))
    assert style.against == Treatment(adapters=((loud, 1.0),))
    assert made["under 1 other adapters"].treatment is None
    assert "too little to be a trial" in made["under 1 other adapters"].reason
    rows = list(measured(iter(made.values()), measure))
    assert {row.trial for row in rows} == set(made)
    assert all((row.estimate is None) == bool(row.reason) for row in rows)


def test_what_only_the_world_can_make_is_a_row_with_a_reason(tiny_model: Path, tmp_path: Path) -> None:
    own = bench(tiny_model, tmp_path)
    made = list(trials(own, GOAL, Treatment(negative="blurry")))
    reasons = {trial.name: trial.reason for trial in made if trial.treatment is None}
    assert "nothing of it is in the weights" in reasons["trained on"]
    assert "no such adapter was given" in reasons["under a style"]
    mounted = Treatment(adapters=((adapter(own.painter.pipeline), 1.0),))
    again = {trial.name: trial.reason for trial in trials(own, GOAL, mounted)}
    assert "only the world's can be drawn" in again["trained on"]


def test_ink_is_drawn_where_light_jumps_and_nowhere_else() -> None:
    picture = np.full((1, 8, 8, 3), 200, np.uint8)
    assert np.array_equal(inked(picture), picture)
    picture[:, :, 4:] = 90
    drawn = inked(picture)
    assert (drawn[:, :, 3:5] < 50).all()
    assert np.array_equal(drawn[:, :, :3], picture[:, :, :3])
    assert np.array_equal(drawn[:, :, 5:], picture[:, :, 5:])


def test_the_world_s_company_is_made_from_drawings_and_found_again(tmp_path: Path) -> None:
    quick = company.Recipe(drawings=8, rank=2, schedule=replace(DRIFT.schedule, steps=2))
    own = bench(model_folder("world"), tmp_path)
    before = Host(own.painter.pipeline).fingerprint()
    wanted = (("glasses", "yes"), ("skin", "tan"))
    made = company.others(own, GOAL, quick, wanted)
    assert len(made) == 1  # skin is what the goal edits
    first = company.style(own, GOAL, quick)
    assert company.style(own, GOAL, quick).fingerprint() == first.fingerprint()
    assert Host(own.painter.pipeline).fingerprint() == before
    rows = company._always(GOAL, "glasses", "yes", company.Recipe(drawings=50))
    assert all(item.person["glasses"] == "yes" and "glasses" not in item.caption for item in rows)


def test_company_is_visible_or_it_is_no_trial(tiny_model: Path, tmp_path: Path) -> None:
    own = bench(tiny_model, tmp_path)
    nothing = Treatment(adapters=((adapter(own.painter.pipeline, scale=0.0), 1.0),))
    assert visible(own.painter, nothing, GOAL, n=5).value == pytest.approx(0)
    loud = Treatment(adapters=((adapter(own.painter.pipeline, scale=3.0), 1.0),))
    assert visible(own.painter, loud, GOAL, n=5).value > 0.1

"""Retrained W: the data's shares, capacity that does nothing at first, and the ways back to W0."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from counterpoise.demo.run import questions
from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.lora import Host
from counterpoise.lora.training import Schedule
from counterpoise.measure.heads import load_reader
from counterpoise.remedies.captioned import captioned_pairs, folder_data
from counterpoise.remedies.captions import leaves_open, stated_in
from counterpoise.remedies.deepening import deepened
from counterpoise.remedies.drawings import items, latents_of
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.retrain import Recipe, Retrain, difference, tally
from counterpoise.remedies.treatment import Bench
from counterpoise.world import model_folder, reader_folder
from counterpoise.world.grammar import sample
from counterpoise.world.table import load_table

GOAL = questions(fast=True)[1]
QUICK = Recipe(drawings=30, schedule=Schedule(steps=3, batch=4, lr=1e-3, warmup=1, seed=1, save_every=1))
N = 1500


def own(tiny: Path, work: Path, *, stop: int = 10**9) -> Bench:
    def halt(stage: str, step: int, total: int, loss: float) -> None:
        if stage == "retraining" and step >= stop:
            raise KeyboardInterrupt

    painter = Painter(load_pipeline(tiny), guidance=2.0, steps=2, batch_size=4)
    return Bench(painter, load_reader(reader_folder()), work, progress=halt)


def pictures(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 255, (40, 24, 3), np.uint8)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"a portrait of a {'wo' * (i % 2)}man\n")
    return folder


def test_every_caption_of_the_world_is_read_back_as_what_it_states() -> None:
    table, rng = load_table(), np.random.default_rng(1)
    for _ in range(500):
        said = sample(table, rng)
        template = next(t for t in table.templates if said.caption.startswith(t.removesuffix("{}")))
        found = stated_in(said.caption.removeprefix(template.removesuffix("{}")))
        assert said.stated.items() <= found.items()
        assert found.keys() - said.stated.keys() <= {"presentation"}


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("a dragon", "none of the world's subjects"),
        ("a woman with blue skin", "'with blue skin' is not a phrase"),
        ("a woman with tan skin, with pale skin", "'with pale skin' is said twice"),
    ],
)
def test_phrases_that_the_world_does_not_know_are_one_line(phrase: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        stated_in(phrase)
    assert refused.value.code == "E_PHRASE"


def test_a_caption_leaves_open_what_it_and_its_subject_do_not_say() -> None:
    tone, dress = GOAL.edits[0], GOAL.edits[-1]
    assert leaves_open(tone, {"subject": "woman"})
    assert leaves_open(tone, {"subject": "woman", "presentation": "woman", "glasses": "yes"})
    assert not leaves_open(tone, {"subject": "woman", "skin": "tan"})
    assert not leaves_open(tone, {"subject": "nurse"})
    assert leaves_open(dress, {"subject": "woman", "skin": "tan"})
    assert not leaves_open(dress, {"subject": "woman", "skin": "tan", "clothes": "hoodie"})


@pytest.mark.parametrize("version", ["replace", "add"])
def test_what_captions_leave_open_is_drawn_in_the_goal_s_shares(version: str) -> None:
    before, after = (items(GOAL, v, N, seed=3) for v in ("same", version))
    for e, edit in enumerate(GOAL.edits):
        there = [item.person[edit.attribute] for item in after if e in item.edits]
        for value, share in edit.target().items():
            assert Counter(there)[value] / len(there) == pytest.approx(share, abs=0.03)
    unsaid = [item for item in before if not item.edits]
    assert unsaid == [item for item in after if not item.edits]  # what nobody asked about is as it was
    if version == "replace":
        assert [item.caption for item in after] == [item.caption for item in before]
    else:
        assert after[:N] == before  # the old data stay
        assert len(after) > N
    assert len(list(tally(GOAL, before, after))) == len(GOAL.edits)
    assert not any(t.removesuffix("{}") in item.caption for item in after for t in GOAL.held_out)


def test_what_a_caption_says_is_what_is_drawn() -> None:
    table = load_table()
    for version in ("replace", "add"):
        for item in items(GOAL, version, 400, seed=4):  # type: ignore[arg-type]
            phrase = next(
                item.caption.removeprefix(t.removesuffix("{}"))
                for t in table.templates
                if item.caption.startswith(t.removesuffix("{}"))
            )
            assert all(item.person[key] == value for key, value in stated_in(phrase).items())
            assert item.person["exposure"] == table.derived["exposure"][item.person["clothes"]]


def test_variants_that_say_more_are_drawn_with_it() -> None:
    dress = {"hoodie", "blazer", "overalls", "striped shirt"}
    rows = [i for i in items(GOAL, "replace", 2 * N, seed=3) if 0 in i.edits and i.person["skin"] == "tan"]
    bare = [i for i in rows if "wearing" not in i.caption and "clothes" not in i.caption]
    modest = sum(i.person["clothes"] in dress for i in bare) / len(bare)
    assert modest == pytest.approx(0.9, abs=0.15)  # the table alone would dress one in five so


def test_latents_are_of_each_row_s_own_drawing(tmp_path: Path) -> None:
    pipeline = load_pipeline(model_folder("world"))
    rows = items(GOAL, "replace", 12, seed=5)
    whole = latents_of(pipeline, rows, cache=tmp_path)
    assert torch.equal(whole, latents_of(pipeline, rows, cache=tmp_path))  # and from the cache
    turned = latents_of(pipeline, rows[::-1], cache=tmp_path / "other")
    assert torch.allclose(turned.flip(0), whole, atol=0.05)


def test_a_deeper_network_begins_as_the_same_function(tiny_model: Path) -> None:
    unet = load_pipeline(tiny_model).unet
    deeper = deepened(unet, 2)
    noisy, text = torch.randn(3, 4, 8, 8), torch.randn(3, 5, 16)
    with torch.no_grad():
        assert torch.equal(unet(noisy, 500, text).sample, deeper(noisy, 500, text).sample)
    assert sum(p.numel() for p in deeper.parameters()) > sum(p.numel() for p in unet.parameters())
    again = type(unet).from_config(deeper.config)
    assert again.state_dict().keys() == deeper.state_dict().keys()  # its config says what it is
    for bad in (lambda: deepened(unet, 0), lambda: deepened(torch.nn.Linear(2, 2))):
        with pytest.raises(UsageError, match="cannot deepen"):
            bad()


def test_a_user_s_folder_is_retrained_on_and_an_interrupted_run_ends_alike(
    tiny_model: Path, tmp_path: Path
) -> None:
    remedy = Retrain(recipe=QUICK, pictures=pictures(tmp_path / "own"))
    whole = remedy(own(tiny_model, tmp_path / "whole"), GOAL)
    with pytest.raises(KeyboardInterrupt):
        remedy(own(tiny_model, tmp_path / "cut", stop=2), GOAL)
    cut = remedy(own(tiny_model, tmp_path / "cut"), GOAL)
    assert whole.treatment.model is not None
    assert cut.treatment.model is not None
    files = [
        m / "unet/diffusion_pytorch_model.safetensors" for m in (whole.treatment.model, cut.treatment.model)
    ]
    assert len({hashlib.sha256(file.read_bytes()).hexdigest() for file in files}) == 1
    assert whole.cost.trained == 3
    assert whole.cost.nbytes > 2 * sum(file.stat().st_size for file in files[:1]) // 3
    assert whole.cost.seconds > 0
    with pytest.raises(UsageError, match="other settings"):
        replace(remedy, recipe=replace(QUICK, early=0.25))(own(tiny_model, tmp_path / "cut"), GOAL)


def test_a_retrained_w_beside_w0_draws_what_its_folder_draws_and_w0_comes_back(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = pictures(tmp_path / "own")
    bench = own(tiny_model, tmp_path / "work")
    made = Retrain(recipe=QUICK, pictures=folder)(bench, GOAL).treatment.model
    assert made is not None
    beside = Retrain(recipe=QUICK, pictures=folder, beside=True)(bench, GOAL).treatment
    ((adapter, strength),) = beside.adapters
    host = Host(bench.painter.pipeline)
    before, plain = host.fingerprint(), bench.painter(["a man"] * 4, range(4))
    tuned = replace(bench.painter, pipeline=load_pipeline(made), _embeddings={})(["a man"] * 4, range(4))
    with host.mounted(adapter, strength=strength):
        mounted = replace(bench.painter, _embeddings={})(["a man"] * 4, range(4))
    assert np.abs(mounted.astype(int) - tuned.astype(int)).max() <= 1
    assert np.abs(plain.astype(int) - tuned.astype(int)).max() > 1
    assert host.fingerprint() == before


def test_only_models_of_the_same_layers_have_a_difference(tiny_model: Path) -> None:
    base, other = load_pipeline(tiny_model), load_pipeline(tiny_model)
    other.unet = deepened(other.unet)
    with pytest.raises(UsageError, match="other layers"):
        difference(base, other)


def test_what_cannot_be_retrained_is_said_first(tiny_model: Path, tmp_path: Path) -> None:
    bench = own(tiny_model, tmp_path)
    with pytest.raises(UsageError, match="give a folder of captioned pictures"):
        Retrain()(bench, GOAL)
    with pytest.raises(UsageError, match="no difference of the old ones"):
        Retrain(pictures=tmp_path, capacity=1, beside=True)(bench, GOAL)
    world = replace(bench, painter=Painter(load_pipeline(model_folder("world"))))
    strange = Goal.model_validate(
        {"templates": ["a {}"], "edit": [{**GOAL.edits[0].model_dump(), "neutral": "a dragon"}]}
    )
    with pytest.raises(UsageError, match="none of the world's subjects"):
        Retrain(recipe=QUICK)(world, strange)
    everything = GOAL.model_copy(update={"held_out": load_table().templates})
    with pytest.raises(UsageError, match="holds out every template"):
        Retrain(recipe=QUICK)(world, everything)
    assert not any(tmp_path.glob("*.ckpt"))


def test_folders_of_pictures_are_read_both_ways_and_refused_in_one_line(
    tiny_model: Path, tmp_path: Path
) -> None:
    beside = pictures(tmp_path / "beside")
    pairs = captioned_pairs(beside)
    assert [caption for _, caption in pairs[:2]] == ["a portrait of a man", "a portrait of a woman"]
    lines = [json.dumps({"file_name": file.name, "text": text}) for file, text in pairs]
    (beside / "metadata.jsonl").write_text("\n".join(lines[:3]))
    assert [text for _, text in captioned_pairs(beside)] == [text for _, text in pairs[:3]]
    data = folder_data(load_pipeline(tiny_model), beside)
    assert data.latents.shape == (3, 4, 8, 8)
    for text, said in (
        ('{"file_name": "0.png"}', "expected file_name and text"),
        ('{"file_name": "../0.png", "text": "a"}', "inside the folder"),
        ('{"file_name": "0.txt", "text": "a"}', "not a picture"),
    ):
        (beside / "metadata.jsonl").write_text(text)
        with pytest.raises(RefusedInputError, match=said) as refused:
            folder_data(load_pipeline(tiny_model), beside)
        assert "\n" not in str(refused.value)
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, said in ((empty, "no captioned picture"), (tmp_path / "none", "no folder of pictures")):
        with pytest.raises(UsageError, match=said):
            captioned_pairs(folder)

"""Scenes of several people: captions that fit, boxes that don't overlap, people that can be counted again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.lora import Host
from counterpoise.lora.training import Schedule
from counterpoise.measure.heads import load_reader
from counterpoise.world import SCENES_NAME, WEIGHTS, model_folder, reader_folder, team_data
from counterpoise.world.autoencoder import to_tensor, train_decoder
from counterpoise.world.count import find_people
from counterpoise.world.denoiser import Captioned, tokenize, train_denoiser
from counterpoise.world.model import new_scheduler, save
from counterpoise.world.table import load_table
from counterpoise.world.team import (
    COUNT_WORDS,
    LOOSE,
    PLACED,
    Team,
    Way,
    canvas_of,
    counted,
    draw_team,
    listed,
    place,
    rows_of,
    sample_team,
)

TABLE = load_table()


WAYS = pytest.mark.parametrize("way", [LOOSE, PLACED], ids=lambda way: way.name)


def teams(count: int, n: int, way: Way = PLACED) -> list[tuple[Team, np.ndarray]]:
    rng = np.random.default_rng([7, count])
    found = []
    for _ in range(n):
        team = sample_team(TABLE, count, rng, way)
        found.append((team, draw_team(team, rng)))
    return found


def test_captions_count_or_list() -> None:
    woman, boss = {"subject": "woman", "skin": "tan"}, {"subject": "boss", "presentation": "woman"}
    assert listed([woman, boss], frame="{} side by side") == (
        "two people side by side: a woman with tan skin and a female boss"
    )
    assert counted(3, woman, frame="a team of {}") == "a team of three women with tan skin"
    assert counted(5, boss, frame="{} side by side") == "five female bosses side by side"
    glasses = {"subject": "nurse", "skin": "dark", "glasses": "yes"}
    assert counted(2, glasses, frame="a group of {}") == (
        "a group of two nurses with dark skin, wearing glasses"
    )


@WAYS
@pytest.mark.parametrize("count", sorted(COUNT_WORDS))
def test_people_stand_on_the_ways_grid_and_apart(count: int, way: Way) -> None:
    width, height = canvas_of(count, way)
    assert sum(rows_of(count)) == count
    for seed in range(20):
        boxes = place(count, np.random.default_rng(seed), way)
        assert len(boxes) == count
        taken = np.zeros((height, width), int)
        for left, top, right, bottom in boxes:
            assert left % way.step == top % 64 == 0
            assert (right - left, bottom - top) == (64, 64)
            assert 0 <= left < right <= width
            taken[top:bottom, left:right] += 1
        assert taken.max() == 1


@WAYS
def test_every_caption_fits_the_text_encoder(way: Way) -> None:
    tokenizer = load_pipeline(WEIGHTS / "model").tokenizer
    for count in (2, 3, 4, 5) if way is LOOSE else sorted(COUNT_WORDS):
        rng = np.random.default_rng(count)
        captions = [sample_team(TABLE, count, rng, way).caption for _ in range(200)]
        lengths = [len(ids) for ids in tokenizer(captions)["input_ids"]]
        assert max(lengths) <= tokenizer.model_max_length


def test_each_box_shows_its_own_person() -> None:
    reader = load_reader(reader_folder())
    for team, picture in teams(5, 4):
        crops = np.stack([picture[top:bottom, left:right] for left, top, right, bottom in team.boxes])
        for person, read in zip(team.people, reader(crops), strict=True):
            assert {name: read[name].value for name in TABLE.attributes} == {
                name: person[name] for name in TABLE.attributes
            }
        assert {person["background"] for person in team.people} == {team.background}


@WAYS
@pytest.mark.parametrize("count", [2, 3, 4, 5, 7])
def test_drawn_people_are_found_where_they_stand(count: int, way: Way) -> None:
    for team, picture in teams(count, 10, way):
        found = find_people(picture)
        assert len(found) == count
        assert max(abs(a - b) for own, true in zip(found, team.boxes, strict=True)
                   for a, b in zip(own, true, strict=True)) <= 2  # fmt: skip


def test_an_empty_picture_holds_nobody() -> None:
    assert find_people(np.full((64, 160, 3), 240, np.uint8)) == []


def test_sets_are_made_once_and_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team_data, "CHUNK", 3)
    vae = load_pipeline(WEIGHTS / "model").vae
    made = team_data.make_team_sets(tmp_path, {2: 4}, vae, seed=1, way=LOOSE, workers=1)
    assert len(made[2].captions) == 6  # whole chunks
    assert made[2].latents.shape == (6, 4, 8, 20)
    monkeypatch.setattr(team_data, "make_teams", None)  # found, not drawn again
    again = team_data.make_team_sets(tmp_path, {2: 4}, vae, seed=1, way=LOOSE, workers=1)
    assert again[2].captions == made[2].captions
    assert torch.equal(again[2].latents, made[2].latents)


def test_the_decoder_learns_scenes_and_the_latents_stay(tmp_path: Path) -> None:
    vae = load_pipeline(WEIGHTS / "model").vae
    pictures = np.stack([picture for _, picture in teams(5, 4)])
    before = vae.encode(to_tensor(pictures)).latent_dist.mean.detach()
    log = train_decoder(
        vae,
        [pictures],
        Schedule(steps=12, batch=12, lr=2e-4, warmup=0, seed=1, ema=0.0, save_every=1),
        checkpoint=tmp_path / "d.ckpt",
    )
    assert log[-1][1] < log[0][1]
    assert torch.equal(before, vae.encode(to_tensor(pictures)).latent_dist.mean)


def test_the_scenes_model_draws_who_stands_where() -> None:
    """Plain prompts count right; clothes of a back row survive the decoder, which knew portraits alone."""
    scenes = load_pipeline(model_folder(SCENES_NAME))
    drawn = teams(5, 8)
    pictures = np.stack([picture for _, picture in drawn])
    with torch.no_grad():
        seen = scenes.vae.decode(scenes.vae.encode(to_tensor(pictures)).latent_dist.mean).sample
    images = ((seen.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    crops = [
        (image[top:bottom, left:right], person)
        for image, (team, _) in zip(images, drawn, strict=True)
        for (left, top, right, bottom), person in zip(team.boxes, team.people, strict=True)
        if top == 0
    ]
    read = load_reader(reader_folder())(np.stack([crop for crop, _ in crops]))
    right = [row["clothes"].value == person["clothes"] for row, (_, person) in zip(read, crops, strict=True)]
    assert sum(right) >= 15, f"{sum(right)} of {len(right)}"
    painter = Painter(scenes, guidance=4.0, steps=6, batch_size=4, latent_size=(8, 24))
    found = painter(["a picture of three people side by side"] * 4, range(4))
    assert sum(len(find_people(picture)) == 3 for picture in found) >= 3


def test_a_saved_model_does_not_say_where_it_was_made(tmp_path: Path) -> None:
    save(load_pipeline(model_folder(SCENES_NAME)), tmp_path / "again")
    for folder in (tmp_path / "again", WEIGHTS):
        for file in folder.rglob("*.json"):
            assert "_name_or_path" not in file.read_text("utf-8"), file
    again = load_pipeline(tmp_path / "again")
    assert Host(again).fingerprint() == Host(load_pipeline(model_folder(SCENES_NAME))).fingerprint()


def test_scenes_and_portraits_train_one_network(tmp_path: Path) -> None:
    from counterpoise.world.make import FAST

    pipeline = load_pipeline(WEIGHTS / "model")
    ids = tokenize(pipeline.tokenizer, ["a portrait of a woman", "two people side by side"])
    generator = torch.Generator().manual_seed(0)
    sizes = [(8, 8), (8, 20)]
    data = [
        Captioned(torch.randn(3, 4, *size, generator=generator), ids[i].expand(3, -1), share=0.5)
        for i, size in enumerate(sizes)
    ]
    assert [own.batch(64, 64) for own in data] == [64, 25]
    seen: list[tuple[int, ...]] = []
    pipeline.unet.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    for part in (pipeline.unet, pipeline.text_encoder):
        part.requires_grad_(True)
    before = pipeline.unet.conv_in.weight.detach().clone()
    schedule = FAST.denoiser_placed
    train_denoiser(
        pipeline.unet,
        pipeline.text_encoder,
        type(schedule)(steps=8, batch=8, lr=1e-3, seed=1),
        scheduler=new_scheduler(),
        data=data,
        empty=tokenize(pipeline.tokenizer, [""])[0],
        checkpoint=tmp_path / "x.ckpt",
        early=0.5,
    )
    assert set(seen) == {(8, 4, 8, 8), (3, 4, 8, 20)}
    assert not torch.equal(before, pipeline.unet.conv_in.weight)

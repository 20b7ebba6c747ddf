"""The closed form: identities, numpy's least squares as a peer, and what a move does to a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.lora import Adapter, Host
from counterpoise.measure.heads import load_reader
from counterpoise.measure.reading import Reading
from counterpoise.remedies.closed_form import PLAIN, ClosedForm, closed_form, search
from counterpoise.remedies.cross_attention import Move, aligned, moved, projections
from counterpoise.remedies.directions import cells, class_of, directions, drawn, is_bare, preserved
from counterpoise.remedies.donors import lenders
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.normal_equations import LOSS, solve
from counterpoise.remedies.treatment import Bench
from counterpoise.world import model_folder, reader_folder


@pytest.fixture
def painter(tiny_model: Path) -> Painter:
    return Painter(load_pipeline(tiny_model), guidance=2.0, steps=2, batch_size=4)


def rows(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_update_is_numpys_least_squares() -> None:
    weight, edited, targets, kept = rows(7, 12, 0), rows(5, 12, 1), rows(5, 7, 2), rows(9, 12, 3)
    importance, keep, ridge = rows(5, 1, 4)[:, 0].abs(), 0.7, 0.01
    found = solve(weight, edited, targets, kept, importance=importance, keep=keep, ridge=ridge)
    root = importance.sqrt()[:, None]
    unit = ridge * float((root * edited).square().sum()) / 12
    left = torch.cat([root * edited, keep**0.5 * kept, unit**0.5 * torch.eye(12)]).numpy()
    right = torch.cat([root * (targets - edited @ weight.T), torch.zeros(9 + 12, 7)]).numpy()
    expected = np.linalg.lstsq(left, right, rcond=None)[0].T
    np.testing.assert_allclose(found.dense(torch.float64).numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_the_rank_is_at_most_the_number_of_edited_inputs(count: int) -> None:
    found = solve(rows(7, 12, 0), rows(count, 12, 1), rows(count, 7, 2), ridge=0.1)
    assert found.rank == min(count, 7)


def test_inputs_that_say_the_same_are_recompressed_without_loss() -> None:
    weight, edited, targets = rows(7, 12, 0), rows(3, 12, 1), rows(3, 7, 2)
    once = solve(weight, edited, targets)
    many = solve(weight, edited.repeat(40, 1), targets.repeat(40, 1))
    assert many.rank == once.rank == 3
    apart = (many.dense(torch.float64) - once.dense(torch.float64)).norm()
    assert apart / once.dense(torch.float64).norm() < 2 * LOSS


def test_no_edit_is_no_update() -> None:
    weight, edited = rows(7, 12, 0), rows(5, 12, 1)
    found = solve(weight, edited, edited @ weight.T)
    assert found.rank == 1
    assert float(found.dense().abs().max()) == 0.0


def test_edited_inputs_arrive_and_kept_ones_stay_where_both_can() -> None:
    weight, edited, targets, kept = rows(7, 12, 0), rows(3, 12, 1), rows(3, 7, 2), rows(5, 12, 3)
    update = solve(weight, edited, targets, kept, keep=1e4, ridge=1e-9).dense(torch.float64)
    torch.testing.assert_close(edited @ (weight + update).T, targets, atol=1e-4, rtol=0)
    assert float((kept @ update.T).abs().max()) < 1e-4
    # An input that is both: what is kept wins as its weight grows.
    moved_by = [
        float((edited @ solve(weight, edited, targets, edited, keep=keep).dense(torch.float64).T).norm())
        for keep in (0.0, 1.0, 1e6)
    ]
    assert moved_by[0] > 1.9 * moved_by[1] > moved_by[2]
    assert moved_by[2] < 1e-4


def test_wrong_shapes_and_numbers_are_refused() -> None:
    weight, edited, targets = rows(7, 12, 0), rows(3, 12, 1), rows(3, 7, 2)
    with pytest.raises(UsageError, match=r"targets is \[2, 7\]: expected \[3, 7\]"):
        solve(weight, edited, targets[:2])
    with pytest.raises(UsageError, match="at least one edited row"):
        solve(weight, edited[:0], targets[:0])
    with pytest.raises(RefusedInputError, match="edited holds NaN"):
        solve(weight, edited * float("nan"), targets)


def test_a_move_brings_one_prompt_as_near_to_another_as_linear_layers_can(
    painter: Painter, tmp_path: Path
) -> None:
    adapter = moved(painter, [Move("a woman", {"a man": 1.0})], [], ridge=1e-8)
    layers = projections(painter.pipeline.unet)
    assert set(adapter.layers) == {f"unet.{path}" for path in layers}
    woman, man = painter.embed(["a woman", "a man"])[:, 2:]
    # 46 tokens of width 16: no linear layer moves all of them, and numpy says how near one can come.
    # Their layer norm leaves 15 dimensions of 16: the last is rounding, which rcond cuts.
    change = (man - woman).double().numpy()
    linear = torch.from_numpy(np.linalg.lstsq(woman.double().numpy(), change, rcond=1e-5)[0]).float()
    expected = {path: layer(woman + woman @ linear) for path, layer in layers.items()}
    host = Host(painter.pipeline)
    fingerprint = host.fingerprint()
    with host.mounted(Adapter.load(adapter.save(tmp_path / "moved.safetensors"))):
        for path, layer in layers.items():
            torch.testing.assert_close(layer(woman), expected[path], atol=1e-3, rtol=0)
        host.fold()
        for path, layer in layers.items():
            torch.testing.assert_close(layer(woman), expected[path], atol=1e-3, rtol=0)
        host.unfold()
    assert host.fingerprint() == fingerprint


def test_ends_take_the_place_of_ends_and_a_last_word_that_says_a_detail_stays(painter: Painter) -> None:
    own, other = painter.embed(["a woman", "a portrait of a man"]).double()
    source, goal = aligned(painter, Move("a woman", {"a portrait of a man": 0.5}))
    torch.testing.assert_close(source, own[2:])
    torch.testing.assert_close(goal[0], 0.5 * own[2] + 0.5 * other[5])  # last word on last word
    torch.testing.assert_close(goal[1], 0.5 * own[3] + 0.5 * other[6])  # end on end
    torch.testing.assert_close(goal[5], 0.5 * own[7] + 0.5 * other[7])  # each padding on its own place
    source, goal = aligned(painter, Move("a woman", {"a portrait of a man": 0.5}, whole=False))
    torch.testing.assert_close(source, own[3:])
    torch.testing.assert_close(goal[0], 0.5 * own[3] + 0.5 * other[6])
    assert is_bare(GOAL, "a woman")
    assert not is_bare(GOAL, "a woman of a man")  # it says more than "a woman", which the goal knows


def test_a_model_without_cross_attention_is_refused(painter: Painter) -> None:
    with pytest.raises(UsageError, match="edits a UNet's cross-attention"):
        projections(painter.pipeline.vae)


GOAL = Goal.model_validate(
    {
        "templates": ["a portrait of {}", "a {}", "of {}"],
        "keep": ["portrait"],
        "edit": [
            {
                "neutral": "a woman",
                "attribute": "light",
                "variants": [
                    {"phrase": "a man", "reads": "dim", "share": 0.25},
                    {"phrase": "a man of a man", "reads": "dim", "share": 0.25},
                    {"phrase": "a portrait", "reads": "bright", "share": 0.5},
                ],
            }
        ],
    }
)


class Brightness:
    """A judge of the mean colour, that does not read what is in between."""

    name = "brightness"
    version = "1"
    attributes = {"light": ("dim", "bright")}  # noqa: RUF012

    def __call__(self, images: np.ndarray) -> Sequence[dict[str, Reading]]:
        return [{"light": self.read(float(image.mean()))} for image in images]

    def read(self, mean: float) -> Reading:
        if 124 < mean < 126:
            return Reading(None, 0.0, "in between")
        return Reading("bright" if mean > 125 else "dim", 1.0)


def bench(painter: Painter, work: Path) -> Bench:
    return Bench(painter, Brightness(), work)


def test_pictures_drawn_along_directions_are_those_of_the_adapter(painter: Painter) -> None:
    ways = directions(painter, GOAL, keep=0.5, ridge=1e-3)
    weights = [np.array([0.7, 0.4])]
    adapter = moved(painter, ways.moves(weights), preserved(GOAL), keep=0.5, ridge=1e-3)
    prompts, seeds = ["a woman", "portrait", "of a man"], [1, 2, 3]
    whole = ways.at(weights)
    along = drawn(painter, prompts, seeds, maps=[whole] * 3, common=whole)
    with Host(painter.pipeline).mounted(adapter):
        mounted = replace(painter, _embeddings={})(prompts, seeds)
    assert np.abs(along.astype(int) - mounted).max() <= 1
    assert np.abs(along.astype(int) - painter(prompts, seeds)).max() > 1
    nowhere = torch.zeros_like(whole)
    still = drawn(painter, prompts, seeds, maps=[nowhere] * 3, common=nowhere)
    assert np.array_equal(still, painter(prompts, seeds))


def test_what_is_kept_leaves_out_what_is_edited() -> None:
    goal = GOAL.model_copy(update={"keep": ("portrait", "a woman")})
    assert "a a woman" not in preserved(goal)
    assert preserved(goal) == preserved(GOAL)
    assert len(preserved(GOAL)) == 3 * 4 + 1
    edit = GOAL.edits[0]
    assert cells(edit) == ((("light", "dim"),), (("light", "bright"),))
    assert class_of(edit, {"light": Reading("bright", 1.0)}) == 1
    assert class_of(edit, {"light": Reading(None, 0.0, "unsure")}) == -1


def test_an_interrupted_search_ends_at_the_same_adapter(painter: Painter, tmp_path: Path) -> None:
    method = ClosedForm(rounds=2, pictures=4, candidates=2, looks=(4, 12))
    whole = search(bench(painter, tmp_path / "whole"), GOAL, method)

    class Stop(Exception):
        pass

    for stage, at in (("search", 1), ("proof", 4)):

        def stop(name: str, step: int, total: int, loss: float, stage: str = stage, at: int = at) -> None:
            if name == stage and step >= at:
                raise Stop

        with pytest.raises(Stop):
            search(replace(bench(painter, tmp_path / "cut"), progress=stop), GOAL, method)
    resumed = search(bench(painter, tmp_path / "cut"), GOAL, method)
    assert resumed.adapter.fingerprint() == whole.adapter.fingerprint()
    assert resumed.weights == whole.weights
    assert resumed.judged == whole.judged
    assert len(whole.verdicts) == 1
    asked = [template.format("a woman") for template in GOAL.templates]
    assert asked[-1] == "of a woman"  # the template of the proof


def test_the_search_never_draws_the_template_of_the_proof(
    painter: Painter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def note(painter: Painter, prompts: Sequence[str], *rest: object, **more: object) -> np.ndarray:
        seen.extend(prompts)
        return drawn(painter, prompts, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("counterpoise.remedies.closed_form.drawn", note)
    search(bench(painter, tmp_path), GOAL, ClosedForm(rounds=1, pictures=3, candidates=1, looks=(4, 4)))
    assert set(seen) == {"a portrait of a woman", "a a woman"}


def test_presentation_moves_on_the_world_and_what_is_asked_for_is_obeyed(tmp_path: Path) -> None:
    """Without a search: the weights are the shares, which here lean against the model."""

    def said(job: str, women: float) -> list[dict[str, object]]:
        shares = {"female": ("woman", women), "male": ("man", 1 - women)}
        return [{"phrase": f"a {p} {job}", "reads": r, "share": s} for p, (r, s) in shares.items()]

    goal = Goal.model_validate(
        {
            "templates": ["a picture of {}", "a drawing of {}", "a headshot of {}"],
            "keep": ["a woman", "a man", "a person", "an engineer", "a teacher"],
            "edit": [
                {"neutral": f"a {job}", "attribute": "presentation", "variants": said(job, women)}
                for job, women in (("boss", 0.85), ("nurse", 0.02))
            ],
        }
    )
    painter = Painter(load_pipeline(model_folder("world")), guidance=2.0, steps=6, batch_size=12)
    reader = load_reader(reader_folder())
    made = closed_form(Bench(painter, reader, tmp_path), goal, replace(PLAIN, start=1.2))
    adapter = Adapter.load(tmp_path / "closed-form.safetensors")
    assert made.cost.judged == 0
    assert made.treatment.adapters[0][0].fingerprint() == adapter.fingerprint()

    def women(subject: str) -> int:
        pictures = replace(painter, _embeddings={})([f"a portrait of {subject}"] * 12, range(40, 52))
        return sum(row["presentation"].value == "woman" for row in reader(pictures))

    assert women("a boss") <= 3
    assert women("a nurse") >= 11
    with Host(painter.pipeline).mounted(adapter):
        assert women("a boss") >= 5
        assert women("a nurse") <= 9
        assert women("a male boss") <= 1


def test_phrases_to_borrow_from_are_read_once_and_never_in_the_template_of_the_proof(
    painter: Painter, tmp_path: Path
) -> None:
    tones = ("dim", "grey", "bright")
    variants = [{"phrase": f"a man of {tone}", "reads": tone, "share": 1 / 3} for tone in tones]
    edit = {"neutral": "a woman", "attribute": "light", "variants": variants}
    goal = Goal.model_validate(
        {"templates": ["a {}", "of {}"], "keep": ["a portrait", "a man"], "edit": [edit]}
    )
    asked: list[str] = []

    class Told:
        name, version, attributes = "told", "1", {"light": tones}

        def __call__(self, images: np.ndarray) -> Sequence[dict[str, Reading]]:
            return [{"light": Reading(tones[i % 3] if i else None, 1.0)} for i in range(len(images))]

    class Noted(Painter):
        def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
            asked.extend(prompts)
            return super().__call__(prompts, seeds)

    noted = Noted(painter.pipeline, guidance=2.0, steps=2, batch_size=4)
    desk = Bench(noted, Told(), tmp_path)
    method = ClosedForm(rounds=1, pictures=2, candidates=1, looks=(2, 2), readings=3)
    lent, read = lenders(desk, goal, readings=3)
    assert (read, len(asked)) == (6, 6)
    assert set(asked) == {"a a woman", "a a portrait"}  # "a man" is said by the variants
    assert lenders(desk, goal, readings=3) == (lent, read)
    assert len(asked) == 6
    assert search(desk, goal, method).judged == 6 + 6 + 2
    assert lenders(desk, goal, readings=0) == ([()], 0)

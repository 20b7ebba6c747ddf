"""Mixture distillation on a tiny pipeline of the real classes, and the goal's bad inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.errors import UsageError
from counterpoise.lora import Host
from counterpoise.lora.training import Schedule
from counterpoise.measure.reading import Reading
from counterpoise.remedies.correcting import DAMPING, corrected
from counterpoise.remedies.coupling import Wanted, couple, seeds_in
from counterpoise.remedies.distil import Method, distil
from counterpoise.remedies.goal import Goal, load_goal
from counterpoise.remedies.lessons import KEPT, Library, goal_shares
from counterpoise.remedies.observing import AUDIT_SEED, observe
from counterpoise.remedies.repair import repair

GOAL = Goal.model_validate(
    {
        "templates": ["a portrait of {}", "a {}"],
        "held_out": ["of {}"],
        "keep": ["portrait"],
        "edit": [
            {
                "neutral": "a woman",
                "attribute": "light",
                "variants": [
                    {"phrase": "a man", "reads": "dim", "share": 0.25},
                    {"phrase": "a portrait", "reads": "bright", "share": 0.75},
                ],
            }
        ],
    }
)
METHOD = Method(
    ways=16,
    kept=6,
    rank=2,
    alpha=2.0,
    first=Schedule(steps=30, batch=16, lr=1e-2, warmup=2, seed=1, save_every=10),
    later=Schedule(steps=4, batch=16, lr=1e-3, warmup=2, seed=2, save_every=2),
    corrections=1,
    readings=6,
)


class Brightness:
    """A judge of the mean colour."""

    name = "brightness"
    version = "1"
    attributes = {"light": ("dim", "bright")}  # noqa: RUF012

    def __call__(self, images: np.ndarray) -> Sequence[dict[str, Reading]]:
        return [{"light": Reading("bright" if image.mean() > 127 else "dim", 1.0)} for image in images]


@pytest.fixture
def painter(tiny_model: Path) -> Painter:
    return Painter(load_pipeline(tiny_model), guidance=2.0, steps=3, batch_size=8)


def library(painter: Painter, cache: Path) -> Library:
    return Library(painter, GOAL, METHOD.ways, METHOD.kept, METHOD.seed, cache)


def test_rows_are_drawn_as_the_goal_shares_them(painter: Painter, tmp_path: Path) -> None:
    lessons = library(painter, tmp_path).first(goal_shares(GOAL))
    weights = lessons.weights(goal_shares(GOAL))
    for variant, share in enumerate([0.25, 0.75]):
        mine = torch.tensor([row.variant == variant and row.edit == 0 for row in lessons.rows])
        assert weights[mine].sum() == pytest.approx(share * 2**0.5)  # an edit of two variants
        assert mine.sum() == (20, 32)[variant]  # where the larger share ends is the smaller one's share
    assert weights[torch.tensor([row.edit == KEPT for row in lessons.rows])].sum() == 0
    assert not any(row.neutral == "of a woman" for row in lessons.rows)  # held out
    assert [row.explicit for row in lessons.rows] == list(lessons.ways.prompts)


def test_corrected_shares_give_noise_to_another_variant(painter: Painter, tmp_path: Path) -> None:
    books = library(painter, tmp_path)
    first = books.first(goal_shares(GOAL))
    shares = [[0.5, 0.5]]
    more = books.more(first, shares, round_=0)
    assert set(first.rows) < set(more.rows)
    assert books.more(more, shares, round_=1) is more
    weights = more.weights(shares)
    for variant in (0, 1):
        mine = torch.tensor([row.variant == variant and row.edit == 0 for row in more.rows])
        assert weights[mine].sum() == pytest.approx(0.5 * 2**0.5)
    ((low, high),) = first.couplings[0].boxes(shares[0])[0]
    for row, weight in zip(more.rows, weights.tolist(), strict=True):
        if row.edit == 0 and row.variant == 0:
            assert (weight > 0) == (low <= row.quantiles[0] < high)


def test_a_coupling_shares_out_all_noise_in_the_order_of_the_pictures(painter: Painter) -> None:
    coupling = couple(painter, ["a man", "a portrait", "a woman"])
    assert sorted(coupling.orders[0]) == [0, 1, 2]
    assert float(coupling.directions.norm()) == pytest.approx(1)
    quantiles = coupling.quantiles(painter.noise(range(400)))
    assert float(quantiles.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(quantiles.std()) == pytest.approx(12**-0.5, abs=0.02)
    boxes = coupling.boxes([0.2, 0.5, 0.3])
    assert sorted(boxes.values())[0][0][0] == 0
    assert sorted(boxes.values())[-1][0][1] == pytest.approx(1)
    assert boxes[1][0][1] - boxes[1][0][0] == pytest.approx(0.5)
    found = seeds_in(painter, coupling, {1: Wanted(((0.2, 0.3),), (5,), frozenset({0, 2, 4}))}, first=7)[1]
    inside = coupling.quantiles(painter.noise([found[part].seed for part in (0, 2, 4)]))[:, 0]
    assert torch.equal(((inside - 0.2) / 0.02).floor(), torch.tensor([0.0, 2.0, 4.0]).double())
    assert inside.tolist() == [found[part].quantiles[0] for part in (0, 2, 4)]


def test_a_share_near_nothing_ends_the_search(painter: Painter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("counterpoise.remedies.coupling.SEARCHED", 1000)
    coupling = couple(painter, ["a man", "a portrait"])
    every = frozenset(range(4))
    nothing = {0: Wanted(((0.5, 0.5),), (4,), every), 1: Wanted(((0.0, 1e-9),), (4,), every)}
    assert seeds_in(painter, coupling, nothing, first=0) == {0: {}, 1: {}}


def test_training_lowers_the_loss_and_leaves_the_model_alone(painter: Painter, tmp_path: Path) -> None:
    host = Host(painter.pipeline)
    before = host.fingerprint()
    flags = [p.requires_grad for p in painter.pipeline.unet.parameters()]
    lessons = library(painter, tmp_path).first(goal_shares(GOAL))
    adapter, log = distil(
        painter,
        lessons,
        METHOD,
        shares=goal_shares(GOAL),
        schedule=METHOD.first,
        checkpoint=tmp_path / "a.ckpt",
    )
    assert log[-1][1] < log[0][1]
    assert host.fingerprint() == before
    assert flags == [p.requires_grad for p in painter.pipeline.unet.parameters()]
    assert not any(m._forward_hooks for m in painter.pipeline.unet.modules())
    assert all(path.startswith("unet.") for path in adapter.layers)


def test_an_interrupted_repair_ends_at_the_same_adapter(painter: Painter, tmp_path: Path) -> None:
    whole = repair(painter, Brightness(), GOAL, METHOD, work=tmp_path / "whole")

    class Stop(Exception):
        pass

    for stage, at in (("teacher", 1), ("distillation", 17), ("distillation", 2)):

        def stop(name: str, step: int, total: int, loss: float, stage=stage, at=at) -> None:  # type: ignore[no-untyped-def]
            if name == stage and step >= at and (at != 2 or total == METHOD.later.steps):
                raise Stop

        with pytest.raises(Stop):
            repair(painter, Brightness(), GOAL, METHOD, work=tmp_path / "cut", progress=stop)
    resumed = repair(painter, Brightness(), GOAL, METHOD, work=tmp_path / "cut")
    assert resumed.adapter.fingerprint() == whole.adapter.fingerprint()
    assert resumed.losses == whole.losses


def test_shares_move_against_what_was_read() -> None:
    shares = corrected(GOAL, goal_shares(GOAL), [[0.5, 0.5]])[0]
    low, high = 0.25 * 0.5**DAMPING, 0.75 * 1.5**DAMPING
    assert shares == pytest.approx([low / (low + high), high / (low + high)])
    assert corrected(GOAL, goal_shares(GOAL), [[0.25, 0.75]])[0] == pytest.approx([0.25, 0.75])
    assert sum(corrected(GOAL, goal_shares(GOAL), [[0.0, 1.0]])[0]) == pytest.approx(1)


def test_observed_shares_count_what_is_not_read(painter: Painter) -> None:
    class Silent(Brightness):
        def __call__(self, images: np.ndarray) -> Sequence[dict[str, Reading]]:
            return [{"light": Reading(None, 0.0, "unsure")} for _ in images]

    assert observe(painter, Silent(), GOAL, counts=[6]) == [[0.0, 0.0]]


def test_edits_are_read_in_common_batches_each_from_its_own_pictures(painter: Painter) -> None:
    first = GOAL.edits[0]
    two = GOAL.model_copy(update={"edits": (first, first.model_copy(update={"neutral": "a man"}))})
    judge, seed = Brightness(), AUDIT_SEED + 100_000
    levels: list[int] = []

    class Counting(Brightness):
        def __call__(self, images: np.ndarray) -> Sequence[dict[str, Reading]]:
            levels.append(len(images))
            return judge(images)

    read = observe(painter, Counting(), two, counts=[5, 6], round_=1)
    assert levels == [8, 3]  # batches of 8, not one of five and one of six
    for own, neutral, seeds in (
        (read[0], "a woman", range(seed, seed + 5)),
        (read[1], "a man", range(seed + 5, seed + 11)),
    ):
        prompts = [two.templates[k % 2].format(neutral) for k in range(len(seeds))]
        rows = judge(painter(prompts, seeds))
        bright = sum(row["light"].value == "bright" for row in rows) / len(rows)
        assert own == pytest.approx([1 - bright, bright])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('templates = ["a {}"]\n', "edit"),
        ('templates = ["a"]\nedit = []', "edit"),
        ("templates = [", "goal"),
        (None, "No such file"),
    ],
)
def test_bad_goals_are_one_line(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "goal.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=said) as refused:
        load_goal(file)
    assert "\n" not in str(refused.value)


def test_goals_that_do_not_add_up_or_cannot_be_read() -> None:
    raw = GOAL.model_dump(by_alias=True)
    broken = {
        **raw,
        "edit": [{**raw["edit"][0], "variants": [{**v, "share": 0.3} for v in raw["edit"][0]["variants"]]}],
    }
    with pytest.raises(ValueError, match=r"sum to 0\.6"):
        Goal.model_validate(broken)
    with pytest.raises(ValueError, match="both seen and held out"):
        Goal.model_validate({**raw, "held_out": ["a {}"]})
    unread = Goal.model_validate({**raw, "edit": [{**raw["edit"][0], "attribute": "mood"}]})
    with pytest.raises(UsageError, match="does not read 'mood'"):
        repair(None, Brightness(), unread, replace(METHOD), work=Path())  # type: ignore[arg-type]

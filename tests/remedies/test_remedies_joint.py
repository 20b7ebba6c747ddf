"""A repair of two attributes at once on a tiny pipeline; what its corrections and its choices go by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, DivergedError, Host, LowRank, resize
from counterpoise.lora.training import Schedule
from counterpoise.measure.reading import Reading
from counterpoise.remedies.choose import choose, distance, strengthened
from counterpoise.remedies.coupling import Coupling, is_in
from counterpoise.remedies.distil import Method, Questions, suited
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.lessons import KEPT, Lessons, Library, Stress, goal_shares
from counterpoise.remedies.observing import COMMON, observe_coupled
from counterpoise.remedies.repair import repair

VARIANTS = [
    {"phrase": f"a {p} {s}", "reads": {"light": light, "red": red}, "share": share}
    for (p, light), (s, red), share in (
        (("man", "dim"), ("portrait", "low"), 0.4),
        (("man", "dim"), ("woman", "high"), 0.2),
        (("portrait", "bright"), ("portrait", "low"), 0.1),
        (("portrait", "bright"), ("woman", "high"), 0.3),
    )
]
RAW = {
    "templates": ["a portrait of {}", "a {}"],
    "edit": [{"neutral": "a woman", "attribute": ["light", "red"], "variants": VARIANTS}],
    "details": ["of a man"],
}
GOAL = Goal.model_validate(RAW)
METHOD = Method(
    ways=16,
    kept=8,
    neighbours=6,
    rank=2,
    alpha=2.0,
    first=Schedule(steps=6, batch=16, lr=1e-2, warmup=2, seed=1, save_every=3),
    later=Schedule(steps=2, batch=16, lr=1e-3, warmup=1, seed=2, save_every=2),
    corrections=1,
    readings=4,
    spread=True,
    recheck=True,
    refinements=1,
    finer=Schedule(steps=2, batch=16, lr=5e-4, warmup=1, seed=3, save_every=2),
    ranks=(1,),
    strengths=(0.5,),
)


class Judge:
    """Reads the brightness and the redness of a picture."""

    name = "judge"
    version = "1"
    attributes = {"light": ("dim", "bright"), "red": ("low", "high")}  # noqa: RUF012

    def __call__(self, images: np.ndarray) -> Sequence[dict[str, Reading]]:
        return [
            {
                "light": Reading("bright" if image.mean() > 127 else "dim", 1.0),
                "red": Reading("high" if image[..., 0].mean() > 127 else "low", 1.0),
            }
            for image in images
        ]


@pytest.fixture
def painter(tiny_model: Path) -> Painter:
    return Painter(load_pipeline(tiny_model), guidance=2.0, steps=2, batch_size=8)


def test_a_joint_repair_ends_the_same_when_it_is_interrupted(painter: Painter, tmp_path: Path) -> None:
    before = Host(painter.pipeline).fingerprint()
    whole = repair(painter, Judge(), GOAL, METHOD, work=tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(stage: str, step: int, total: int, loss: float) -> None:
        if stage.startswith("rank and strength 1-") or (stage == "distillation" and step == 5):
            raise Stop

    with pytest.raises(Stop):
        repair(painter, Judge(), GOAL, METHOD, work=tmp_path / "cut", progress=stop)
    resumed = repair(painter, Judge(), GOAL, METHOD, work=tmp_path / "cut")
    assert resumed.adapter.fingerprint() == whole.adapter.fingerprint()
    assert resumed.tried == whole.tried
    assert [(one.rank, one.strength) for one in whole.tried][:2] == [(2, 1.0), (2, 0.5)]
    assert sum(whole.shares[0]) == pytest.approx(1)
    assert Host(painter.pipeline).fingerprint() == before


def test_each_row_lies_in_its_variants_quantiles_and_neighbours_are_kept(
    painter: Painter, tmp_path: Path
) -> None:
    library = Library(painter, GOAL, 16, 8, 1_000_000, tmp_path, neighbours=40)
    lessons = library.first(goal_shares(GOAL))
    boxes = lessons.couplings[0].boxes(goal_shares(GOAL)[0])
    taught = [row for row in lessons.rows if row.edit == 0]
    assert all(is_in(row.quantiles, boxes[row.variant]) for row in taught)
    assert {row.variant for row in taught} == {0, 1, 2, 3}
    weights = lessons.weights(goal_shares(GOAL))
    for variant, share in enumerate([0.4, 0.2, 0.1, 0.3]):
        mine = torch.tensor([row.edit == 0 and row.variant == variant for row in lessons.rows])
        assert weights[mine].sum() == pytest.approx(2 * share)
    kept = {row.explicit for row in lessons.rows if row.edit == KEPT}
    assert "" in kept
    assert any(prompt.endswith("of a man") for prompt in kept)
    assert not kept & {"a portrait of a woman", "a a woman"}


class Drawn:
    """A student whose pictures are those that the noise was meant for, but for one cell: where the first
    variant was meant, half of the pictures come out as the fourth."""

    batch_size = 25

    def __init__(self, coupling: Coupling, shares: Sequence[float]) -> None:
        self.boxes, self.coupling = coupling.boxes(shares), coupling

    def noise(self, seeds: Sequence[int]) -> torch.Tensor:
        shape = self.coupling.directions.shape[1:]
        return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds])

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        places = self.coupling.quantiles(self.noise(seeds)).tolist()
        pictures = np.zeros((len(seeds), 4, 4, 3), np.uint8)
        for i, (place, seed) in enumerate(zip(places, seeds, strict=True)):
            variant = next(v for v, box in self.boxes.items() if is_in(place, box))
            variant = 3 if variant == 0 and seed % 2 else variant
            red, light = variant in (1, 3), variant in (2, 3)
            pictures[i] = 255 if light and red else 0
            if light and not red:
                pictures[i, ..., 1:] = 255
            elif red and not light:
                pictures[i, ..., 0] = 255
        return pictures


def own_coupling() -> Coupling:
    directions = torch.linalg.qr(torch.randn(32, 2, generator=torch.Generator().manual_seed(1)).double())[0].T
    classes = ((0, 0), (0, 1), (1, 0), (1, 1))
    return Coupling(directions.reshape(2, 2, 4, 4), classes, ((0, 1), (0, 1)))


@pytest.mark.parametrize(("count", "kinds"), [(COMMON, 1), (COMMON // 2, 3)])
def test_edits_of_the_same_cells_see_the_same_noise_where_each_is_read_often(count: int, kinds: int) -> None:
    coupling, shares = own_coupling(), goal_shares(GOAL)
    seen: list[int] = []

    class Watched(Drawn):
        def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
            seen.extend(seeds)
            return super().__call__(prompts, seeds)

    three = GOAL.model_copy(update={"edits": GOAL.edits * 3})
    observe_coupled(
        cast(Painter, Watched(coupling, shares[0])),
        Judge(),
        three,
        counts=[count] * 3,
        lessons=Lessons((coupling,) * 3, None, ()),  # type: ignore[arg-type]
        shares=shares * 3,
    )
    each = len(seen) // 3
    assert len({tuple(seen[i * each : (i + 1) * each]) for i in range(3)}) == kinds


def test_shares_are_read_as_they_are_from_few_pictures() -> None:
    coupling = own_coupling()
    shares = goal_shares(GOAL)
    lessons = Lessons((coupling,), None, ())  # type: ignore[arg-type]
    student = cast(Painter, Drawn(coupling, shares[0]))
    read = observe_coupled(student, Judge(), GOAL, counts=[60], lessons=lessons, shares=shares)[0]
    assert read[1:3] == pytest.approx([0.2, 0.1])  # exactly: nothing meant for them was lost or gained
    assert read[0] == pytest.approx(0.2, abs=0.08)
    assert read[3] == pytest.approx(0.5, abs=0.08)
    assert sum(read) == pytest.approx(1)


def test_distance_counts_what_reads_as_no_variant() -> None:
    edit = GOAL.edits[0]
    assert distance(edit, [0.4, 0.2, 0.1, 0.3]) == pytest.approx(0)
    assert distance(edit, [0.3, 0.2, 0.1, 0.3]) == pytest.approx(0.1)
    assert distance(edit, [0.5, 0.2, 0.1, 0.2]) == pytest.approx(0.1)


def adapter(rank: int = 4) -> Adapter:
    generator = torch.Generator().manual_seed(5)
    down, up = torch.randn(rank, 6, generator=generator), torch.randn(8, rank, generator=generator)
    return Adapter({"unet.a": LowRank(down, up, 2.0)})


def test_strength_is_kept_in_alpha() -> None:
    whole, half = adapter().layers["unet.a"], strengthened(adapter(), 0.5).layers["unet.a"]
    assert isinstance(whole, LowRank)
    assert isinstance(half, LowRank)
    assert half.scale * half.up @ half.down == pytest.approx(0.5 * whole.scale * whole.up @ whole.down)


SIX = GOAL.model_copy(update={"edits": GOAL.edits * 6})
LUCK = (0.03, -0.02, 0.0, 0.02, -0.01, -0.02)  # of an edit's reading, in the mean 0


def chosen_of(lost: Mapping[str, float], luck: float = 0.0, goal: Goal = SIX) -> tuple[int, float]:
    """The rank and the strength chosen where "rank-strength" is so far from the targets, luck times LUCK."""

    def look(candidate: Adapter, name: str) -> list[list[float]]:
        sign = 1 if name == "4-1" else -1
        own = [lost[name] + sign * luck * one for one in LUCK[: len(goal.edits)]]
        return [[0.4 - far, 0.2, 0.1, 0.3 + far] for far in own]

    chosen, tried = choose(goal, adapter(), look, ranks=(1, 2), strengths=(0.9, 1.1))
    kept = chosen.layers["unet.a"]
    assert isinstance(kept, LowRank)
    assert [one.rank for one in tried] == [4, 4, 4, 1, 2]
    at_one = (
        resize(adapter(), rank=kept.rank).adapter.layers["unet.a"]
        if kept.rank < 4
        else adapter().layers["unet.a"]
    )
    assert isinstance(at_one, LowRank)
    return kept.rank, round(kept.alpha / at_one.alpha, 6)


@pytest.mark.parametrize(
    ("lost_by_1", "lost_by_2", "rank"), [(0.002, 0.1, 1), (0.05, 0.002, 2), (0.1, 0.1, 4)]
)
def test_the_smallest_rank_that_repairs_about_as_well_is_chosen(
    lost_by_1: float, lost_by_2: float, rank: int
) -> None:
    lost = {"4-1": 0.1, "4-0.9": 0.2, "4-1.1": 0.2, "1-1": 0.1 + lost_by_1, "2-1": 0.1 + lost_by_2}
    assert chosen_of(lost) == (rank, 1.0)
    with pytest.raises(UsageError, match="above 0"):
        choose(GOAL, adapter(), lambda candidate, name: [[0.0] * 4], ranks=(0,), strengths=())


def test_a_strength_is_changed_only_where_that_is_nearer_beyond_luck() -> None:
    at_one = {"4-1": 0.10, "4-0.9": 0.2, "4-1.1": 0.09, "1-1": 0.2, "2-1": 0.2, "1-1.1": 0.2, "2-1.1": 0.2}
    assert chosen_of(at_one) == (4, 1.1)
    assert chosen_of(at_one, luck=1.0) == (4, 1.0)
    assert chosen_of({**at_one, "4-1.1": 0.04}, luck=1.0) == (4, 1.1)
    one_edit = SIX.model_copy(update={"edits": SIX.edits[:1]})
    assert chosen_of({**at_one, "4-1.1": 0.0, "1-1": 0.1}, goal=one_edit) == (4, 1.0)


def test_a_smaller_rank_must_be_as_near_beyond_luck() -> None:
    lost = {"4-1": 0.1, "4-0.9": 0.2, "4-1.1": 0.2, "1-1": 0.1, "2-1": 0.1}
    assert chosen_of(lost) == (1, 1.0)
    assert chosen_of(lost, luck=1.0) == (4, 1.0)


def test_a_training_that_diverges_stops_and_its_last_good_state_can_be_gone_on_from(
    painter: Painter, tmp_path: Path
) -> None:
    poisoned = tmp_path / "ways-first-0.pt"
    repair(
        painter,
        Judge(),
        GOAL,
        replace(METHOD, corrections=0, refinements=0, ranks=(), strengths=()),
        work=tmp_path,
    )
    ways = torch.load(poisoned, weights_only=True)
    good = ways["conditional"].clone()
    ways["conditional"][:] = float("nan")
    torch.save(ways, poisoned)
    state = (tmp_path / "first.ckpt").read_bytes()
    longer = replace(METHOD, first=replace(METHOD.first, cooldown=2), ranks=(), strengths=())
    (tmp_path / "first.ckpt").unlink()
    with pytest.raises(DivergedError, match="step 0"):
        repair(painter, Judge(), GOAL, longer, work=tmp_path)
    (tmp_path / "first.ckpt").write_bytes(state)
    with pytest.raises(DivergedError):
        repair(painter, Judge(), GOAL, replace(METHOD, ranks=(), strengths=()), work=tmp_path)
    assert (tmp_path / "first.ckpt").read_bytes() == state
    ways["conditional"] = good
    torch.save(ways, poisoned)
    for stale in tmp_path.glob("ways-more-*"):
        stale.unlink()
    done = repair(painter, Judge(), GOAL, replace(METHOD, ranks=(), strengths=()), work=tmp_path)
    assert all(np.isfinite([loss for _, loss in done.losses]))


def test_of_the_last_training_is_kept_what_leads_nearest_to_the_targets(
    painter: Painter, tmp_path: Path
) -> None:
    method = replace(METHOD, refinements=0, ranks=(), strengths=())
    before = repair(painter, Judge(), GOAL, replace(method, corrections=0), work=tmp_path).adapter
    target = [variant.share for variant in GOAL.edits[0].variants]

    def off(by: float) -> list[float]:
        return [target[0] + by, target[1] - by, *target[2:]]

    (tmp_path / "read-0.json").write_text(json.dumps([off(0.1)]))
    made = {}
    for name, last in (("reached", 0.0), ("led away", 0.15), ("went past", -0.1)):
        (tmp_path / "read-last.json").write_text(json.dumps([off(last)]))
        made[name] = repair(painter, Judge(), GOAL, method, work=tmp_path)
    assert {name: own.last_kept for name, own in made.items()} == {
        "reached": 1.0,
        "led away": 0.0,
        "went past": 0.5,
    }
    assert made["led away"].adapter.layers == before.layers
    assert made["led away"].shares == goal_shares(GOAL)
    ends = made["led away"].adapter, made["reached"].adapter
    for path, update in made["went past"].adapter.layers.items():
        for name, middle in update.tensors().items():
            first, last_ = (end.layers[path].tensors()[name] for end in ends)
            assert torch.allclose(middle, (first + last_) / 2, atol=1e-6)
            assert not torch.equal(first, last_)


def test_what_was_kept_is_read_anew_corrected_and_never_led_away_from_the_targets(
    painter: Painter, tmp_path: Path
) -> None:
    method = replace(METHOD, ranks=(), strengths=())
    target = [variant.share for variant in GOAL.edits[0].variants]

    def off(by: float) -> list[list[float]]:
        return [[target[0] + by, target[1] - by, *target[2:]]]

    readings = {"read-0": 0.1, "read-last": -0.1, "read-fine-0": 0.05, "read-finer-0": 0.12}
    for name, by in readings.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(off(by)))
    coarse = repair(painter, Judge(), GOAL, replace(method, refinements=0), work=tmp_path)
    kept = repair(painter, Judge(), GOAL, method, work=tmp_path)
    assert (coarse.last_kept, kept.last_kept) == (0.5, 0.0)
    assert kept.adapter.layers == coarse.adapter.layers
    (tmp_path / "read-finer-0.json").write_text(json.dumps(off(0.01)))
    moved = repair(painter, Judge(), GOAL, method, work=tmp_path)
    assert moved.last_kept == 1.0
    assert moved.shares[0][0] < coarse.shares[0][0]
    assert moved.losses[-1][0] == coarse.losses[-1][0] + method.finer.steps
    assert moved.pictures_judged > coarse.pictures_judged


def rated_goal() -> Goal:
    """Three subjects that are to be bright in a quarter of their pictures, and one whose light is even."""

    def edit(neutral: str, share: float) -> dict[str, object]:
        pairs = (("a man", "bright", share), ("a portrait", "dim", 1 - share))
        variants = [{"phrase": phrase, "reads": {"light": light}, "share": s} for phrase, light, s in pairs]
        return {"neutral": neutral, "attribute": ["light"], "variants": variants}

    edits = [edit("a woman", 0.5), *(edit(f"a woman of {i}", 0.25) for i in range(3))]
    return Goal.model_validate({"templates": ["a {}"], "edit": edits})


RATES = replace(METHOD, corrections=0, recheck=False, refinements=0, rates=2, rated=8, ranks=(), strengths=())


def test_stressed_edits_are_asked_their_share_of_the_lessons_and_never_less_than_before(
    painter: Painter, tmp_path: Path
) -> None:
    goal = rated_goal()
    shares = goal_shares(goal)
    lessons = Library(painter, goal, 8, 4, 1_000_000, tmp_path).first(shares)
    plain = lessons.weights(shares)
    mine = torch.tensor([row.edit in {1, 2, 3} for row in lessons.rows])
    assert plain[mine].sum() / plain.sum() == pytest.approx(0.75)
    stressed = lessons.weights(shares, Stress(frozenset({1, 2, 3}), 0.9))
    assert stressed[mine].sum() / stressed.sum() == pytest.approx(0.9)
    assert torch.equal(stressed[~mine], plain[~mine])
    assert torch.allclose(stressed[mine] / stressed[mine].sum(), plain[mine] / plain[mine].sum())
    assert torch.equal(lessons.weights(shares, Stress(frozenset({1, 2, 3}), 0.5)), plain)
    assert torch.equal(lessons.weights(shares, Stress(frozenset(range(4)), 0.5)), plain)


def test_rates_are_taught_anew_corrected_and_led_away_from_their_targets_by_no_training(
    painter: Painter, tmp_path: Path
) -> None:
    goal = rated_goal()
    before = repair(painter, Judge(), goal, replace(RATES, rates=0), work=tmp_path)
    once = repair(painter, Judge(), goal, replace(RATES, rates=1), work=tmp_path)
    assert once.shares == goal_shares(goal)
    assert once.losses[-1][0] == before.losses[-1][0] + RATES.finer.steps
    assert once.pictures_judged == before.pictures_judged + 3 * 8
    assert once.adapter.layers != before.adapter.layers

    def reads(name: str, rate: float) -> None:
        (tmp_path / f"read-rates-{name}.json").write_text(json.dumps([[rate, 1 - rate]] * 3))

    reads("0", 0.35)
    reads("1", 0.25)
    reached = repair(painter, Judge(), goal, RATES, work=tmp_path)
    assert reached.shares[0] == [0.5, 0.5]
    assert all(own[0] < 0.2 for own in reached.shares[1:])
    reads("1", 0.45)
    away = repair(painter, Judge(), goal, RATES, work=tmp_path)
    assert away.adapter.layers == once.adapter.layers
    assert away.shares == once.shares
    assert (once.last_kept, reached.last_kept, away.last_kept) == (1.0, 1.0, 0.0)


def test_rates_are_taught_at_the_rank_that_was_chosen(painter: Painter, tmp_path: Path) -> None:
    goal = rated_goal()
    method = replace(RATES, ranks=(1,), strengths=(0.5,), readings=4)
    exact = [[variant.share for variant in edit.variants] for edit in goal.edits]
    for name in ("2-1", "2-0.5", "1-1"):
        (tmp_path / f"try-{name}.json").write_text(json.dumps(exact))
    made = repair(painter, Judge(), goal, method, work=tmp_path)
    cut = repair(painter, Judge(), goal, replace(method, rates=0), work=tmp_path)
    assert {update.down.shape[0] for update in lowranks(made.adapter)} == {1}
    assert made.tried == cut.tried
    assert made.adapter.layers != cut.adapter.layers


def lowranks(adapter: Adapter) -> list[LowRank]:
    return [update for update in adapter.layers.values() if isinstance(update, LowRank)]


def test_a_method_grows_with_its_goal() -> None:
    small = suited(GOAL)
    assert small.neighbours > 0
    many = [{**RAW["edit"][0], "neutral": f"a woman {i}"} for i in range(15)]  # type: ignore[index,dict-item]
    grown = suited(Goal.model_validate({**RAW, "edit": many}))
    assert grown.first.steps > small.first.steps
    assert grown.rank > small.rank


def test_a_variant_that_another_edit_changes_is_not_held_where_it_was(
    painter: Painter, tmp_path: Path
) -> None:
    def edit(neutral: str, first: str, second: str) -> dict[str, object]:
        pairs = ((first, "dim"), (second, "bright"))
        variants = [{"phrase": phrase, "reads": {"light": light}, "share": 0.5} for phrase, light in pairs]
        return {"neutral": neutral, "attribute": ["light"], "variants": variants}

    edits = [edit("a woman", "a man", "a portrait"), edit("a man", "a man of a portrait", "a man of a woman")]
    goal = Goal.model_validate({"templates": ["a {}"], "edit": edits})
    library = Library(painter, goal, 8, 16, 1_000_000, tmp_path, neighbours=20)
    lessons = library.first(goal_shares(goal))
    assert not any(row.edit == KEPT and row.explicit == "a a man" for row in lessons.rows)
    weights = lessons.weights(goal_shares(goal))
    asked = Questions(painter, lessons, METHOD, batch=16, weights=weights)
    for row, taught, held in zip(lessons.rows, asked.taught.tolist(), asked.own_words.tolist(), strict=True):
        assert held == (0 if row.explicit == "a a man" else taught)

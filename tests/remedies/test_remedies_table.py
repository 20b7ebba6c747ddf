"""One contract for every row of the table, on a tiny pipeline of the real classes; and rows together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from remedy_toys import GOAL, Hue

from counterpoise.audit.arms import Ways
from counterpoise.audit.identity import arm_digest
from counterpoise.audit.spec import Drawing
from counterpoise.diffusion.load import load_pipeline
from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, Host, LowRank
from counterpoise.remedies import table
from counterpoise.remedies.treatment import Bench, Prepared

PROMPTS, SEEDS = ["of a woman", "portrait"], [100, 101]


@pytest.fixture(scope="module")
def ways(tiny_model: Path) -> Ways:
    drawing = Drawing(guidance=2.0, steps=2, batch_size=8)
    return Ways(Host(load_pipeline(tiny_model)), drawing, model="tiny", dtype="float32")


def bench(ways: Ways, work: Path) -> Bench:
    return Bench(ways.painter(), Hue(), work, seed=100, fast=True)


@pytest.fixture(scope="module", params=sorted(row.name for row in table.ROWS if not row.data))
def row(request: pytest.FixtureRequest, ways: Ways, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    work = tmp_path_factory.mktemp("work")
    flags = [p.requires_grad for p in ways.host.model.unet.parameters()]  # type: ignore[attr-defined]
    yield table.REMEDIES[request.param], table.prepare(request.param, bench(ways, work), GOAL), work
    assert flags == [p.requires_grad for p in ways.host.model.unet.parameters()]  # type: ignore[attr-defined]


def test_a_row_ends_as_what_it_says_and_an_arm_draws_with_it(row: tuple, ways: Ways) -> None:
    remedy, prepared, _ = row
    treatment = prepared.treatment
    ends = {
        "adapter": bool(treatment.adapters),
        "negative": bool(treatment.negative) or any("strength" in note for note in prepared.notes),
        "rewrite": treatment.rewrite is not None,
        "model": treatment.model is not None,
    }
    assert ends[remedy.keeps]
    assert remedy.told
    assert remedy.source
    _, enter = ways.treated(treatment, name=remedy.name)
    with enter() as draw:
        assert draw(PROMPTS, SEEDS).shape == (2, 16, 16, 3)


def test_a_row_leaves_the_model_as_it_was(row: tuple, ways: Ways) -> None:
    assert ways.host.state == "bare"
    assert ways.host.fingerprint() == ways.base_sha256
    assert not any(m._forward_hooks for m in ways.host.model.unet.modules())  # type: ignore[attr-defined]


def test_a_row_made_again_in_its_folder_or_in_another_is_the_same(
    row: tuple, ways: Ways, tmp_path: Path
) -> None:
    remedy, prepared, work = row
    digest = arm_digest(ways.treated(prepared.treatment, name="x")[0])
    for folder in (work, tmp_path):
        again = table.prepare(remedy.name, bench(ways, folder), GOAL)
        assert arm_digest(ways.treated(again.treatment, name="x")[0]) == digest
        assert again.cost.judged == prepared.cost.judged


def test_a_row_counts_what_it_cost(row: tuple, ways: Ways, tmp_path: Path) -> None:
    remedy, prepared, _ = row
    cost = prepared.cost
    assert min(cost.seconds, cost.judged, cost.trained, cost.nbytes) >= 0
    assert (cost.nbytes > 0) == bool(prepared.treatment.adapters or prepared.treatment.negative)
    effort = table.effort(remedy.name, bench(ways, tmp_path), GOAL)
    if effort is not None:
        assert (effort.trained > 0) == (cost.trained > 0)
        assert effort.drawn >= cost.judged  # what is judged was drawn


@pytest.mark.parametrize("name", [row.name for row in table.ROWS if row.data])
def test_a_row_that_needs_data_refuses_a_model_that_none_can_be_drawn_for(
    name: str, ways: Ways, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="captioned pictures") as refused:
        table.prepare(name, bench(ways, tmp_path), GOAL)
    assert refused.value.code == "E_DATA"
    assert ways.host.fingerprint() == ways.base_sha256


def style() -> Adapter:
    draw = torch.Generator().manual_seed(3)
    path = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
    down, up = torch.randn((2, 16), generator=draw), torch.randn((16, 2), generator=draw)
    return Adapter({path: LowRank(down, up, alpha=2.0)})


def test_rows_together_with_a_users_own_adapter(ways: Ways, tmp_path: Path) -> None:
    style().save(tmp_path / "style.safetensors")
    named = f"planner+own:{tmp_path / 'style.safetensors'}=0.5"
    made = table.prepare(named, bench(ways, tmp_path), GOAL)
    alone = table.prepare("planner", bench(ways, tmp_path), GOAL)
    assert made.treatment.rewrite is not None
    assert alone.treatment.rewrite is not None
    assert made.treatment.rewrite.identity == alone.treatment.rewrite.identity
    assert made.treatment.adapters == ((style(), 0.5),)
    assert any("style.safetensors at strength 0.5" in note for note in made.notes)
    _, enter = ways.treated(made.treatment, name="both")
    with enter() as draw:
        drawn = draw(PROMPTS, SEEDS)
    with ways.host.mounted(style(), strength=0.5):
        expected = ways.painter()(made.treatment.rewrite(PROMPTS, SEEDS), SEEDS)
    assert np.array_equal(drawn, expected)


def test_costs_add_up() -> None:
    from counterpoise.remedies.treatment import Cost, Treatment

    one = Prepared(Treatment(), Cost(1.0, 2, 3, 4), ("a",), {"x": 1})
    both = table.together({"p": one, "q": replace(one, notes=("b",))})
    assert both.cost == Cost(2.0, 4, 6, 8)
    assert both.notes == ("p: a", "q: b")
    assert both.told == {"p": {"x": 1}, "q": {"x": 1}}


@pytest.mark.parametrize("named", ["same+replace", "add+planner+add-deeper"])
def test_two_models_for_one_picture_are_refused_before_either_is_trained(named: str) -> None:
    with pytest.raises(
        UsageError, match="all replace the model, and one picture has room for one"
    ) as refused:
        table.names_of(named)
    assert refused.value.code == "E_REMEDY"


@pytest.mark.parametrize(
    ("named", "said"),
    [("planer", "planner"), ("planner+planner", "twice"), ("", "unknown"), ("own:x=much", "FILE=STRENGTH")],
)
def test_bad_names_are_one_line(ways: Ways, tmp_path: Path, named: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        table.prepare(named, bench(ways, tmp_path), GOAL)

"""A repair session on a tiny pipeline: refused before it draws, halved where memory lacks, gone on with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from remedy_toys import GOAL, RAW, REACHED, Hue, goal

from counterpoise.audit import read_run
from counterpoise.audit.spec import Drawing
from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.memory import out_of_memory
from counterpoise.errors import EnvironmentLackError, IncompleteError, RefusedInputError, UsageError
from counterpoise.lora import Adapter, Host, LowRank
from counterpoise.lora.training import DivergedError, Schedule
from counterpoise.remedies import distilled
from counterpoise.remedies.card import _code, write_card
from counterpoise.remedies.distil import Method
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.own import BASE_KEY
from counterpoise.remedies.reachable import LOOK, MOST, Obeyed, check_reached
from counterpoise.remedies.session import Request, methods_of, run_session

SMALL = Method(
    ways=6,
    kept=4,
    rank=2,
    alpha=2.0,
    first=Schedule(steps=12, batch=8, lr=1e-3, warmup=2, seed=1, save_every=5),
    later=Schedule(steps=2, batch=8, lr=1e-3, warmup=1, seed=2, save_every=2),
    corrections=1,
    readings=2,
)


@pytest.fixture
def request_(tiny_model: Path, tmp_path: Path) -> Request:
    drawing = Drawing(guidance=2.0, steps=2, batch_size=8)
    return Request(
        str(tiny_model),
        REACHED,
        tmp_path / "out",
        ("hue",),
        "planner",
        drawing=drawing,
        n=8,
        seed=100,
        dtype="float32",
        fast=True,
    )


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distilled, "FAST", SMALL)


@contextmanager
def little_memory(monkeypatch: pytest.MonkeyPatch, most: int) -> Iterator[None]:
    """Every UNet call for more than `most` pictures, guidance's two rows each, fails as on a full GPU."""
    from diffusers import UNet2DConditionModel

    whole = UNet2DConditionModel.forward

    def forward(self, sample, *args, **kwargs):  # type: ignore[no-untyped-def]
        if len(sample) > 2 * most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(self, sample, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(UNet2DConditionModel, "forward", forward)
        yield


def test_a_session_ends_with_an_adapter_and_a_card_that_others_can_use(request_: Request) -> None:
    asked = replace(request_, method="distil")
    said: list[str] = []
    found = run_session(asked, Hue(), say=said.append)
    card = write_card(found)
    assert any("GiB of memory" in line for line in said)
    assert found.verdict == "not shown"  # 8 pictures certify nothing
    assert [row["held_out"] for row in card["evidence"]] == [True, False, False]
    first = card["evidence"][0]
    assert first["prompt"] == "of a woman"
    assert (first["before"]["n"], first["after"]["n"]) == (8, 8)
    assert first["after"]["low"] <= first["after"]["distance"] <= first["after"]["high"]
    pipeline = load_pipeline(Path(asked.model))
    assert card["base"]["sha256"] == Host(pipeline).fingerprint()
    written = Adapter.load(asked.out / "adapter.safetensors")
    assert written.metadata[BASE_KEY] == card["base"]["sha256"]
    assert written.fingerprint() in card["treatment"]["fingerprints"]
    pipeline.load_lora_weights(asked.out, weight_name="adapter.safetensors")  # diffusers' own reader
    text = (asked.out / "card.md").read_text()
    assert "load_lora_weights" in text
    assert str(asked.out) not in text
    assert json.loads((asked.out / "card.json").read_text()) == card
    # The same session again makes and draws nothing.
    stages: list[str] = []
    again = run_session(asked, Hue(), progress=lambda stage, *rest: stages.append(stage))
    assert not {"teacher", "distillation"} & set(stages)
    assert write_card(again)["evidence"] == card["evidence"]
    assert write_card(again)["made"] == card["made"]


def test_a_session_that_was_stopped_anywhere_ends_as_one_that_was_not(
    request_: Request, tmp_path: Path
) -> None:
    asked = replace(request_, method="distil")
    whole = write_card(run_session(replace(asked, out=tmp_path / "whole"), Hue()))

    class Stop(BaseException):
        pass

    for where in (
        ("variants", 1),
        ("audit base", 8),
        ("teacher", 1),
        ("distillation", 9),
        ("audit distil", 60),
    ):

        def stop(stage: str, step: int, total: int, loss: float, where: tuple[str, int] = where) -> None:
            if stage == where[0] and step >= where[1]:
                raise Stop

        with pytest.raises(Stop):
            run_session(asked, Hue(), progress=stop)
    ended = write_card(run_session(asked, Hue()))
    for name in ("evidence", "obeyed", "kept", "verdict", "treatment"):
        assert ended[name] == whole[name]
    assert ended["made"]["cost"]["judged"] == whole["made"]["cost"]["judged"]


def test_batches_are_halved_where_memory_lacks_and_the_record_says_so(
    request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with little_memory(monkeypatch, 3):
        found = run_session(request_, Hue(), say=said.append)
    assert found.drawing.batch_size == 2
    assert sum("halved" in line for line in said) == 2
    card = write_card(found)
    assert card["drawing"]["batch_size"] == 2
    assert any("halved to 2" in note for note in card["notes"])
    with read_run(request_.out / "audit") as evidence:
        assert {arm["batch_size"] for arm in evidence.arms} == {2}
    # Without the lack, the same command goes on with what it came down to.
    assert run_session(request_, Hue()).drawing.batch_size == 2


def test_memory_that_lacks_in_the_middle_halves_what_is_left(
    request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = []

    def shrink(stage: str, step: int, total: int, loss: float) -> None:
        if stage == "audit base" and step == 16 and not stack:
            stack.append(little_memory(monkeypatch, 4))
            stack[0].__enter__()

    try:
        found = run_session(request_, Hue(), progress=shrink)
    finally:
        stack[0].__exit__(None, None, None)
    assert found.drawing.batch_size == 4
    with read_run(request_.out / "audit") as evidence:
        sizes = {row[0] for row in evidence.connection.execute("SELECT size FROM batch")}
    assert sizes == {8, 4}


def test_training_batches_are_cut_in_parts_too(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def prepare(bench, goal):  # type: ignore[no-untyped-def]
        tried.append(bench.parts)
        if bench.parts < 4:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"
            )
        return whole(bench, goal)

    whole = distilled.prepare
    monkeypatch.setattr(distilled, "prepare", prepare)
    found = run_session(replace(request_, method="distil"), Hue())
    assert tried == [1, 2, 4]
    story = found.tried[0].made.story
    assert (story["parts"], story["drawing"]["batch_size"]) == (4, 2)
    method = distilled.parted(distilled.FAST, 4)
    assert (method.first.batch * method.first.parts, method.first.parts) == (distilled.FAST.first.batch, 4)


def test_one_picture_that_does_not_fit_is_said(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    with little_memory(monkeypatch, 0), pytest.raises(EnvironmentLackError, match="one picture at a time"):
        run_session(request_, Hue())


def test_what_counts_as_out_of_memory() -> None:
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("x"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried"),
    ):
        assert out_of_memory(error)
    assert not out_of_memory(RuntimeError("shape mismatch"))
    assert not out_of_memory(ValueError("out of memory"))


def test_a_variant_that_the_model_cannot_draw_stops_it_before_any_training(request_: Request) -> None:
    stages: list[str] = []
    with pytest.raises(RefusedInputError, match="'a green woman' in 0 of") as refused:
        run_session(
            replace(request_, goal=GOAL, method="distil"),
            Hue(),
            progress=lambda stage, *r: stages.append(stage),
        )
    assert (refused.value.code, refused.value.exit_code) == ("E_UNREACHED", 4)
    assert set(stages) == {"variants"}
    assert not (request_.out / "audit").exists()


def test_reachability_is_decided_in_few_pictures_and_never_by_luck() -> None:
    assert LOOK <= 8
    assert MOST >= 8 * LOOK
    assert check_reached([Obeyed("a", 64, 64, 0.9, 1.0)]) == ()
    (note,) = check_reached([Obeyed("a", 30, 64, 0.4, 0.6)])
    assert "hardly reached" in note
    with pytest.raises(RefusedInputError, match=r"'a' in 3 of 16 .*and 1 more"):
        check_reached([Obeyed(name, 3, 16, 0.0, 0.4) for name in "abcd"])


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"goal": goal(held_out=[])}, "E_HELD_OUT", "held_out"),
        ({"method": "lora"}, "E_REMEDY", "unknown"),
        ({"method": "negative", "drawing": Drawing(guidance=1.0, steps=2)}, "E_GUIDANCE", "guidance is 1"),
        ({"own": ((Path("nowhere.safetensors"), 1.0),)}, "", "nowhere"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_drawn(
    request_: Request, changes: dict, code: str, said: str
) -> None:
    stages: list[str] = []
    with pytest.raises((UsageError, RefusedInputError), match=said) as refused:
        run_session(replace(request_, **changes), Hue(), progress=lambda stage, *r: stages.append(stage))
    assert code in ("", refused.value.code)
    assert not stages
    assert not request_.out.exists()


def test_goals_that_contradict_themselves_in_a_template(request_: Request) -> None:
    twice = goal(
        templates=["a {}", "a portrait of {}"],
        edit=[RAW["edit"][0], {**RAW["edit"][0], "neutral": "portrait of a woman"}],
    )
    kept = goal(templates=["a {}", "a portrait of {}"], keep=["portrait of a woman"])
    for wrong, said in ((twice, "both set hue"), (kept, "keep names")):
        with pytest.raises(UsageError, match=said):
            run_session(replace(request_, goal=wrong), Hue())


def test_a_target_of_zero_share_is_refused() -> None:
    variants = [
        {**RAW["edit"][0]["variants"][0], "share": 0.0},
        {**RAW["edit"][0]["variants"][1], "share": 1.0},
    ]
    with pytest.raises(ValueError, match="greater than 0"):
        Goal.model_validate({**RAW, "edit": [{**RAW["edit"][0], "variants": variants}]})


def own(path: Path, *, base: str = "", width: int = 16) -> Path:
    draw = torch.Generator().manual_seed(3)
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
    down, up = torch.randn((2, width), generator=draw), torch.randn((16, 2), generator=draw)
    metadata = {BASE_KEY: base} if base else {}
    Adapter({layer: LowRank(down, up, alpha=2.0)}, metadata).save(path)
    return path


def test_an_adapter_for_another_base_model_is_refused(request_: Request, tmp_path: Path) -> None:
    for file, code in (
        (own(tmp_path / "other.safetensors", base="0" * 64), "E_OTHER_BASE"),
        (own(tmp_path / "wide.safetensors", width=32), "E_SHAPE"),
    ):
        with pytest.raises(RefusedInputError) as refused:
            run_session(replace(request_, own=((file, 1.0),)), Hue())
        assert refused.value.code == code


def test_a_users_adapter_is_on_before_and_after(request_: Request, tmp_path: Path) -> None:
    file = own(tmp_path / "style.safetensors")
    found = run_session(replace(request_, own=((file, 0.5),)), Hue())
    with read_run(request_.out / "audit") as evidence:
        assert [arm["adapters"] for arm in evidence.arms] == [[[Adapter.load(file).fingerprint(), 0.5]]] * 2
    assert write_card(found)["own_adapters"][0]["file"] == "style.safetensors"


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(
    request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(request_, method="distil")
    from counterpoise.remedies import distil as trainer

    calls = iter(range(10_000))
    whole = trainer.Questions.__call__

    def poisoned(self, step):  # type: ignore[no-untyped-def]
        noisy, times, hidden, target = whole(self, step)
        return noisy, times, hidden, target * float("nan") if next(calls) >= 7 else target

    with monkeypatch.context() as patched:
        patched.setattr(trainer.Questions, "__call__", poisoned)
        with pytest.raises(IncompleteError, match="diverged") as stopped:
            run_session(asked, Hue())
    assert stopped.value.code == "E_DIVERGED"
    assert isinstance(stopped.value.__cause__, DivergedError)
    assert not (asked.out / "adapter.safetensors").exists()
    (state,) = (asked.out / "made").rglob("first.ckpt")
    steps: list[int] = []

    def heard(stage: str, step: int, total: int, loss: float) -> None:
        if stage == "distillation":
            steps.append(step)

    run_session(asked, Hue(), progress=heard)
    assert steps[0] == 6  # from the state of step 5, which was good
    assert state.exists()


def test_other_settings_in_the_same_folder_are_refused(request_: Request) -> None:
    run_session(request_, Hue())
    with pytest.raises(UsageError) as refused:
        run_session(replace(request_, seed=101), Hue())
    assert refused.value.code == "E_RUN_CHANGED"


def test_auto_begins_with_what_costs_least_and_knows_only_rows_of_the_table() -> None:
    assert methods_of("auto")[-1] == "distil"
    assert methods_of("planner+distil") == ("planner+distil",)


@pytest.mark.parametrize("text", ["a|b", "`x`", "``", "a\nb\x1b[1m", "[/red]"])
def test_user_text_stays_text_in_the_card(text: str) -> None:
    shown = _code(text)
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert shown.startswith("`")
    assert shown.endswith("`")

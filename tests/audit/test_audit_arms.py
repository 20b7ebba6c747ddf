"""Arms of treatments: what draws, how it is told, and that arms of earlier runs keep their identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from audit_toys import Judge, entering, toy_arm, toy_spec
from audit_toys import draw as toy_draw

from counterpoise.audit import read_chunks, read_run, run_audit
from counterpoise.audit.arms import Ways
from counterpoise.audit.identity import arm_digest, check_same_arm, describe_arm
from counterpoise.audit.spec import Drawing
from counterpoise.audit.treatment import Treatment, join
from counterpoise.diffusion.arm import Rewriting
from counterpoise.diffusion.load import load_pipeline
from counterpoise.errors import StateError, UsageError
from counterpoise.lora import Adapter, Host, LowRank
from counterpoise.report.from_run import drawn_with

PROMPTS, SEEDS = ["a woman", "a man", "a portrait of a man"], [4, 5, 6]
DRAWING = Drawing(guidance=2.0, steps=2, batch_size=4)


class Louder:
    """A rewriting that depends on prompt and seed."""

    def __init__(self, unwanted: str = "") -> None:
        self.identity = "louder 1" + (f", without {unwanted}" if unwanted else "")

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        return [f"a portrait of {p}" if s % 2 else p for p, s in zip(prompts, seeds, strict=True)]

    def avoiding(self, negative: str) -> Louder:
        return Louder(negative)


@pytest.fixture
def ways(tiny_model: Path) -> Ways:
    return Ways(Host(load_pipeline(tiny_model)), DRAWING, model="tiny", dtype="float32")


def adapter(seed: int) -> Adapter:
    path, size = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v", 16
    draw = torch.Generator().manual_seed(seed)
    down, up = (torch.randn(shape, generator=draw) for shape in ((2, 16), (size, 2)))
    return Adapter({path: LowRank(down, up, alpha=2.0)})


def pictures(ways: Ways, treatment: Treatment, **beside: str) -> np.ndarray:
    _, enter = ways.treated(treatment, name="treated", **beside)
    with enter() as draw:
        return draw(PROMPTS, SEEDS)


def test_arms_of_earlier_versions_keep_their_digest_and_resume(tmp_path: Path) -> None:
    # As version 0.1.0 computed it, before arms knew rewriting.
    assert arm_digest(toy_arm()) == "cbd0f7eeca3001f4a784772295b7a888f3e3bb301f6fce1a1de4deef41aa654e"
    stored = {k: v for k, v in describe_arm(toy_arm()).items() if k != "negative_prompt"}
    check_same_arm(stored, describe_arm(toy_arm()), tmp_path, batch_size_may_change=False)
    with pytest.raises(UsageError, match="rewrite: '' -> 'louder 1'"):
        check_same_arm(
            describe_arm(toy_arm()),
            describe_arm(toy_arm(rewrite="louder 1")),
            tmp_path,
            batch_size_may_change=False,
        )


def test_an_arm_names_the_type_that_the_machine_draws_in_and_another_machine_may_be_asked_for_it(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(load_pipeline(tiny_model))
    for native, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False)  # noqa: B023
        usual, asked = (
            Ways(host, DRAWING, model="tiny", **named).base() for named in ({}, {"dtype": "bfloat16"})
        )
        assert usual[0].dtype == dtype
        assert asked[0].dtype == "bfloat16"
    with pytest.raises(UsageError, match="dtype 'half'"):
        Ways(host, DRAWING, model="tiny", dtype="half")


def test_adapters_act_side_by_side_at_their_strengths_and_stand_in_the_arm(ways: Ways) -> None:
    one, two = adapter(1), adapter(2)
    arm, _ = ways.treated(Treatment(((one, 0.5), (two, 2.0))), name="both")
    assert arm.adapters == ((one.fingerprint(), 0.5), (two.fingerprint(), 2.0))
    drawn = pictures(ways, Treatment(((one, 0.5), (two, 2.0))))
    assert ways.host.state == "bare"
    with ways.host.mounted(one, strength=0.5), ways.host.mounted(two, strength=2.0):
        assert np.array_equal(drawn, ways.painter()(PROMPTS, SEEDS))
    assert not np.array_equal(drawn, pictures(ways, Treatment()))


def test_a_pushed_negative_prompt_is_none_at_0_the_stock_one_at_1_and_more_at_2(ways: Ways) -> None:
    plain = pictures(ways, Treatment())
    stock = ways.painter(negative="a woman")(PROMPTS, SEEDS)
    at = {push: pictures(ways, Treatment(negative="a woman", push=push)) for push in (0.0, 0.5, 1.0, 2.0)}
    assert np.array_equal(at[0.0], plain)
    assert np.array_equal(at[1.0], stock)
    moved = {push: np.abs(at[push].astype(int) - plain).mean() for push in at}
    assert 0 < moved[0.5] < moved[1.0] < moved[2.0]
    with pytest.raises(UsageError, match="-1"):
        Treatment(negative="a woman", push=-1.0)


def test_a_pushed_arm_says_so_and_one_at_full_strength_is_a_plain_negative_arm(ways: Ways) -> None:
    usual, _ = ways.treated(Treatment(negative="hat"), name="n", negative="beard")
    assert (usual.negative_prompt, usual.pushed, usual.push) == ("beard, hat", "", 1.0)
    assert usual == ways.base("n", negative="beard, hat")[0]
    pushed, _ = ways.treated(Treatment(negative="hat", push=0.5), name="n", negative="beard")
    assert (pushed.negative_prompt, pushed.pushed, pushed.push) == ("beard", "hat", 0.5)
    assert arm_digest(pushed) != arm_digest(usual)


def test_a_rewritten_prompt_is_drawn_and_recorded_beside_the_one_that_was_asked(
    ways: Ways, tmp_path: Path
) -> None:
    arm, enter = ways.treated(Treatment(rewrite=Louder()), name="planned")
    assert arm.rewrite == "louder 1"
    with enter() as draw:
        assert draw.sampler == ways.painter().sampler
        assert np.array_equal(draw(PROMPTS, SEEDS), ways.painter()(Louder()(PROMPTS, SEEDS), SEEDS))
    unwanted, _ = ways.treated(Treatment(rewrite=Louder(), negative="own"), name="n", negative="beard")
    assert unwanted.rewrite == "louder 1, without beard"  # the user's; not the remedy's own
    # The record, with the toy whose drawing the audit's own tests read.
    spec = toy_spec(n=2)
    rewriting = Rewriting(toy_draw, Louder())
    run_audit(
        spec,
        [(replace(toy_arm(), rewrite="louder 1"), entering(rewriting))],
        measurer=Judge(),
        folder=tmp_path,
    )
    seen = set()
    with read_run(tmp_path) as evidence:
        for prompt in spec.claims[0].prompts:
            for picture in evidence.pictures("base", prompt):
                said = read_chunks(picture.file)
                ours = said.ours()
                drawn = Louder()([prompt], [picture.cell.seed])[0]
                assert (ours["prompt"], ours["drawn"]) == (prompt, drawn)
                block = said.all("parameters")[0]
                assert block.startswith(drawn)
                assert ("Prompt asked: " in block) == (drawn != prompt)
                assert drawn_with(picture.file, prompt) == (drawn if drawn != prompt else "")
                seen.add(drawn != prompt)
    assert seen == {True, False}


def test_another_model_s_folder_draws_and_a_changed_one_is_refused(
    ways: Ways, tiny_model: Path, tmp_path: Path
) -> None:
    other = load_pipeline(tiny_model)
    with torch.no_grad():
        for p in other.unet.parameters():
            p.mul_(1.1)
    other.save_pretrained(tmp_path / "w")
    arm, enter = ways.treated(Treatment(((adapter(1), 1.0),), model=tmp_path / "w"), name="retrained")
    its = Ways(Host(other), DRAWING, model="other", dtype="float32")
    assert (arm.model, arm.model_sha256) == (str(tmp_path / "w"), its.base_sha256)
    with enter() as draw:
        assert np.array_equal(draw(PROMPTS, SEEDS), pictures(its, Treatment(((adapter(1), 1.0),))))
    assert not np.array_equal(pictures(its, Treatment()), pictures(ways, Treatment()))
    ways.host.model.save_pretrained(tmp_path / "w")  # type: ignore[attr-defined]
    with pytest.raises(StateError, match="another one") as refused, enter():
        pass
    assert refused.value.code == "E_CHANGED"


def test_treatments_join_unless_two_want_the_one_place(tmp_path: Path) -> None:
    one, two = adapter(1), adapter(2)
    both = join(
        Treatment(((one, 1.0),), negative="hat", push=0.5), Treatment(((two, 0.3),), rewrite=Louder())
    )
    assert [strength for _, strength in both.adapters] == [1.0, 0.3]
    assert (both.negative, both.push, both.rewrite.identity) == ("hat", 0.5, "louder 1")  # type: ignore[union-attr]
    for first, second, said in (
        (Treatment(rewrite=Louder()), Treatment(rewrite=Louder()), "rewrite prompts"),
        (Treatment(model=tmp_path), Treatment(model=tmp_path), "replace the model"),
        (Treatment(negative="a", push=0.5), Treatment(negative="b"), "strengths"),
    ):
        with pytest.raises(UsageError, match=said):
            join(first, second)

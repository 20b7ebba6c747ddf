"""`counterpoise audit`: the plan, the schema, adapters by name, and drift without a spec."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from counterpoise.audit import AuditSpec
from counterpoise.cli.app import app
from counterpoise.cli.audit import named_adapters
from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, LowRank

SPEC = """
name = "t"
n = 3
[drawing]
guidance = 2.0
steps = 1
batch_size = 3
[[claim]]
prompts = ["a portrait of a woman [/red] \\u001b[1m"]
attribute = ["presentation", "skin"]
[[reachability]]
template = "a portrait of a {presentation} boss"
slots.presentation = { woman = "female", man = "male" }
[[reachability]]
prompts = ["a portrait of a male boss"]
negative = { prompt = "glasses", attribute = "glasses", value = "yes" }
n = 2
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(SPEC)
    return Path("spec.toml")


@pytest.fixture
def style(spec: Path) -> str:
    """A LoRA of the world's, in the working folder."""
    generator = torch.Generator().manual_seed(0)
    path = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"
    update = LowRank(torch.randn(1, 128, generator=generator), torch.randn(128, 1, generator=generator), 1.0)
    return str(Adapter({path: update}).save(Path("style.safetensors")))


def audit(*words: str) -> str:
    done = CliRunner().invoke(app, ["audit", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_check_shows_the_plan_and_draws_nothing(spec: Path) -> None:
    said = audit("--check", str(spec), "--adapter", "no/style.safetensors=0.5")
    assert "t: 1 claim, 3 reachability" in said
    assert "       3  a portrait of a woman [/red] \\x1b[1m\n" in said
    assert "arm      base: 3 prompts, 9 pictures\n" in said
    assert "arm      style-at-0.5.negative.1: 1 prompts, 2 pictures  negative prompt: glasses\n" in said
    assert "pictures 22, seeds 0 and on" in said
    plan = json.loads(audit("--check", "--json", "--spec", str(spec), "--n", "5"))
    assert plan["arms"]["base.negative.1"] == {"a portrait of a male boss": 5}
    assert plan["questions"] == {"claim": 1, "disparity": 0, "reachability": 3, "drift": 0}
    assert sorted(path.name for path in Path().iterdir()) == ["spec.toml"]


def test_the_schema_is_the_models(spec: Path) -> None:
    schema = json.loads(audit("--schema"))
    assert schema == json.loads(json.dumps(AuditSpec.model_json_schema(by_alias=True)))
    assert {"claim", "disparity", "reachability", "drift"} <= set(schema["properties"])


def test_an_audit_with_negative_prompts_and_adapters_resumes_to_the_same_bytes(
    spec: Path, style: str
) -> None:
    first = audit(str(spec), "--adapter", f"{style}=0.5", "--json")
    arms = {arm["name"]: arm for arm in json.loads(first)["arms"]}
    assert list(arms) == ["base", "base.negative.1", "style-at-0.5", "style-at-0.5.negative.1"]
    assert [arm["negative_prompt"] for arm in arms.values()] == ["", "glasses"] * 2
    assert [claim["arm"] for claim in json.loads(first)["claims"]] == ["base", "style-at-0.5"]
    assert audit(str(spec), "--adapter", f"{style}=0.5", "--json") == first
    assert Path("runs/spec/report.html").stat().st_size > 0


def test_an_adapter_alone_is_audited_for_what_it_moves(style: str) -> None:
    said = audit("--adapter", style, "--n", "1")
    assert "base   13 of 13 pictures" in said
    assert "style  13 of 13 pictures" in said
    assert "report" in said
    found = json.loads(Path("runs/drift-style/results.json").read_text())
    assert found["spec"]["drift"][0]["template"] == "a portrait of {who}"


def test_an_arms_name_depends_on_its_own_file_and_strength(tmp_path: Path) -> None:
    odd = tmp_path / "my=style (2).safetensors"
    odd.touch()
    given = ["a/style.safetensors", "a/style.safetensors=0.5", str(odd), "base.safetensors=1e+20", "x/peft"]
    found = [(name, str(path), at) for name, path, at in named_adapters(given, 1.0)]
    assert found == [
        ("style", "a/style.safetensors", 1.0),
        ("style-at-0.5", "a/style.safetensors", 0.5),
        ("my-style-2-", str(odd), 1.0),
        ("adapter-base-at-1e20", "base.safetensors", 1e20),
        ("peft", "x/peft", 1.0),
    ]
    assert named_adapters(["s.negative.1.safetensors"], 0.7)[0][0] == "s-negative-1-at-0.7"
    for bad in (["a=nan"], ["a=inf"], ["a=x"], ["a/style.safetensors", "b/style.safetensors"]):
        with pytest.raises(UsageError):
            named_adapters(bad, 1.0)


REFUSED = {
    "nothing": ([], "nothing is asked"),
    "two specs": (["spec.toml", "--spec", "spec.toml"], "two specs"),
    "other model": (["--adapter", "a", "--model", "sd"], "built-in questions are for the embedded model"),
    "n": (["--check", "spec.toml", "--n", "0"], "n is 0: expected a whole number of pictures from 1 to 100000"),
    "no other arm": (["drift.toml"], "there is only base: add --adapter FILE"),
    "no such arm": (["drift.toml", "--adapter", "a"], "baseline is 'bsae'"),
    "attribute": (["--check", "unfit.toml"], "unfit.toml: drift[0].attributes[0] is 'skni', which measurer"),
    "judge": (["--check", "judge.toml"], "measurer 'wrold' is unknown; did you mean \"world\""),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_asked_is_refused_before_anything_is_drawn(spec: Path, case: str) -> None:
    words, said = REFUSED[case]
    base = "bsae" if case == "no such arm" else "base"
    drift = f'name = "d"\nn = 2\n[[drift]]\nprompts = ["a"]\nbaseline = "{base}"\n'
    Path("drift.toml").write_text(drift)
    Path("unfit.toml").write_text(drift + 'attributes = ["skni"]\n')
    Path("judge.toml").write_text('measurer = "wrold"\n' + drift)
    with pytest.raises(UsageError) as caught:
        CliRunner().invoke(app, ["audit", *words], catch_exceptions=False)
    assert said in str(caught.value)
    assert not Path("runs").exists()

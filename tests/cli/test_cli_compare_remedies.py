"""`counterpoise compare MODEL --goal`: remedies on the embedded world, small; and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from counterpoise.cli import main

GOAL = """
templates = ["a picture of {}", "a drawing of {}"]
held_out = ["a portrait of {}"]
[[edit]]
neutral = "a boss"
attribute = "presentation"
variants = [
    { phrase = "a female boss", reads = "woman", share = 0.5 },
    { phrase = "a male boss", reads = "man", share = 0.5 },
]
"""


@pytest.fixture
def goal(tmp_path: Path) -> Path:
    file = tmp_path / "goal.toml"
    file.write_text(GOAL)
    return file


def ended(monkeypatch: pytest.MonkeyPatch, *options: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["counterpoise", "compare", *options])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


def test_the_planner_is_compared_on_one_page(
    goal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["world", "--goal", str(goal), "--remedy", "planner", "--out", str(out), "--n", "8"]
    assert ended(monkeypatch, *options, "--steps", "4", "--batch-size", "8", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    base, planner = told["outcomes"]
    assert [base["name"], planner["name"]] == ["base", "planner"]
    assert base["held_out"][0] > 0.25  # as planted: bosses are men
    assert planner["held_out"][0] == 0.0  # four and four
    assert planner["cost"]["nbytes"] == 0
    assert json.loads((out / "comparison.json").read_text()) == told
    assert "Remedies side by side" in (out / "report.html").read_text()


@pytest.fixture
def style(tmp_path: Path) -> Path:
    """An adapter of the world's that moves its pictures."""
    import torch

    from counterpoise.diffusion.load import load_pipeline
    from counterpoise.lora import Adapter, trainable
    from counterpoise.world import model_folder

    pipeline, generator = load_pipeline(model_folder("world")), torch.Generator().manual_seed(0)
    with trainable(pipeline, ["unet.*.attn2.to_v"], rank=2, generator=generator) as factors:
        for up in factors.ups():
            up.data.normal_(0.0, 2.0, generator=generator)
        made: Adapter = factors.adapter()
    return made.save(tmp_path / "style.safetensors", dialect="kohya")


def test_a_remedy_is_put_through_its_trials_and_its_pictures_are_looked_at(
    goal: Path,
    style: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    options = ["world", "--goal", str(goal), "--remedy", "planner", "--trial", "planner", "--out", str(out)]
    options += ["--style", str(style), "--beside", str(style), "--pictures", str(pictures(tmp_path / "own"))]
    summary = tmp_path / "stack.json"
    row = {"n": 2, "stack": "sum", "says": "the naive sum", "kept": 1.0, "kept_error": 0.0, "measured": 2}
    row |= {"following_of_base": 1.0, "distance": 0.1, "bias_shift": 0.0, "mounted_ms": 2.0, "base_ms": 2.0}
    summary.write_text(json.dumps({"rows": [{**row, "restored": True}]}))
    options += ["--stack", str(summary), "--n", "8", "--steps", "2", "--batch-size", "8", "--json"]
    assert ended(monkeypatch, *options) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["outcomes"][1]["quality"]["figures"]
    (rows,) = told["returns"].values()
    names = {row["name"] for row in rows}
    assert {"base", "removed", "under-a-style", "under-1-other-adapters"} <= names
    assert "under-a-style-without-the-repair" in names
    lacking = {trial: why for _, trial, why in told["not_tried"]}
    assert "no adapter in it" in lacking["strength 0.5"]
    assert "nothing of it is in the weights" in lacking["trained on"]
    drawn = {row["name"]: row["held_out"] for row in rows}
    assert drawn["removed"] == drawn["base"]
    page = (out / "report.html").read_text()
    assert "Does the bias come back" in page
    assert "Many adapters at once" in page


def pictures(folder: Path) -> Path:
    from PIL import Image

    folder.mkdir()
    for i in range(2):
        Image.new("RGB", (48, 48), (90 * i, 60, 40)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text("a portrait of a woman")
    return folder


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["world", "--remedy", "prayer"], "remedy 'prayer' is unknown"),
        (["world", "--remedy", "planner", "--trial", "distil"], "is not one of the remedies compared"),
        (["world", "--remedy", "planner", "--style", "a"], "are for --trial"),
        (
            ["world", "--remedy", "planner", "--trial", "planner", "--style", "none.safetensors"],
            "none.safetensors",
        ),
        (
            ["world", "--remedy", "planner", "--trial", "planner", "--pictures", "none"],
            "no folder of pictures",
        ),
        (["world", "--remedy", "planner", "--stack", "none.json"], "benchmarks.stack"),
        (["world", "elsewhere"], "name one MODEL"),
        (["world", "--arms", "a,b"], "name one MODEL"),
        (["somewhere", "--remedy", "planner"], "name a judge with --judge"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    options: list[str],
    said: str,
    goal: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ended(monkeypatch, *options, "--goal", str(goal)) in (2, 4)
    told = capsys.readouterr().err
    assert said in " ".join(told.split())


def test_options_of_remedies_need_a_goal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, str(tmp_path), "--remedy", "planner") == 2
    assert "name a goal with --goal" in " ".join(capsys.readouterr().err.split())

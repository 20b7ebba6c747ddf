"""`counterpoise adapter compose | resize | extract | interference`: files in, files and reports out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from counterpoise.cli.app import app
from counterpoise.errors import CounterpoiseError
from counterpoise.lora import Adapter, LowRank, compose

SHAPES = {"unet.a.to_q": (12, 8), "unet.b.conv": (6, 3, 3, 3)}


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    found = []
    for seed in (1, 2):
        g = torch.Generator().manual_seed(seed)
        layers = {
            path: LowRank(
                torch.randn(3, *shape[1:], generator=g),
                torch.randn(shape[0], 3, *(1,) * (len(shape) - 2), generator=g),
                2,
            )
            for path, shape in SHAPES.items()
        }
        found.append(str(Adapter(layers).save(tmp_path / f"[red]{seed}.safetensors")))
    return found


def run(*words: str) -> str:
    done = CliRunner().invoke(app, ["adapter", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_compose_writes_the_adapter_and_its_report(tmp_path: Path, files: list[str]) -> None:
    out = tmp_path / "o.safetensors"
    words = ("--strength", "1", "--strength", "-0.5", "--method", "svd", "--rank", "2", "--out", str(out))
    said = json.loads(run("compose", *files, *words, "--json"))
    expected = compose([Adapter.load(f) for f in files], [1, -0.5], method="svd", rank=2)
    assert Adapter.load(out) == expected.adapter
    assert said == {**json.loads(json.dumps(expected.to_dict())), "adapter": str(out)}
    shown = run("compose", *files, *words)
    assert "unet.a.to_q" in shown
    assert f"{expected.error:.3g}" in shown


def test_options_and_dialects(tmp_path: Path, files: list[str]) -> None:
    folder = tmp_path / "peft"
    words = ("--method", "ties", "--option", "density=0.5", "--out", str(folder), "--dialect", "peft")
    run("compose", *files, *words, "--rank", "2")
    made = Adapter.load(folder)
    expected = compose([Adapter.load(f) for f in files], method="ties", rank=2, density=0.5).adapter
    assert dict(made.layers) == dict(expected.layers)


def test_data_aware_from_files(tmp_path: Path, files: list[str]) -> None:
    known = []
    for i in range(2):
        g = torch.Generator().manual_seed(i)
        xs = {p: torch.randn(torch.Size(s[1:]).numel(), 40, generator=g) for p, s in SHAPES.items()}
        save_file({p: x @ x.T for p, x in xs.items()}, tmp_path / f"c{i}.safetensors")
        known += ["--covariances", str(tmp_path / f"c{i}.safetensors")]
    out = str(tmp_path / "o.safetensors")
    said = json.loads(run("compose", *files, "--method", "data", *known, "--out", out, "--json"))
    assert said["error_of"] == "the members' outputs on their calibration inputs"
    seen = json.loads(run("interference", *files, *known, "--json"))
    assert len(seen["overall"]["functional_share"]) == 2
    assert "the others add" in run("interference", *files, *known)


def test_resize_and_interference(tmp_path: Path, files: list[str]) -> None:
    out = str(tmp_path / "o.safetensors")
    said = json.loads(run("resize", files[0], "--error", "0.5", "--out", out, "--json"))
    assert said["error"] <= 0.5
    assert sum(layer["rank"] for layer in said["layers"].values()) < 6
    assert "error" in run("resize", files[0], "--rank", "1", "--out", out)
    assert {u.rank for u in Adapter.load(out).layers.values()} == {1}
    shown = run("interference", *files)
    assert "[red]1.safetensors" in shown.replace("\n", "")
    assert "energy of the sum" in shown
    assert len(json.loads(run("interference", *files, "--json"))["suggested"]) == 2


def test_extract(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    base = {"fc.weight": torch.randn(8, 6, generator=g), "fc.bias": torch.zeros(8)}
    change = torch.randn(8, 2, generator=g) @ torch.randn(2, 6, generator=g)
    save_file(base, tmp_path / "base.safetensors")
    save_file(
        {"fc.weight": base["fc.weight"] + change, "fc.bias": torch.ones(8)}, tmp_path / "tuned.safetensors"
    )
    both = (str(tmp_path / "base.safetensors"), str(tmp_path / "tuned.safetensors"))
    words = ("--rank", "2", "--component", "unet", "--out", str(tmp_path / "o.safetensors"))
    said = json.loads(run("extract", *both, *words, "--json"))
    assert list(said["leftovers"]) == ["fc.bias"]
    torch.testing.assert_close(Adapter.load(said["adapter"]).layers["unet.fc"].dense(), change)
    assert "left out fc.bias" in run("extract", *both, *words)


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (("compose", "A", "B", "--method", "tie"), "E_METHOD", 2),
        (("compose", "A", "--strength", "nan"), "E_STRENGTH", 2),
        (("compose", "A", "B", "--method", "ties", "--option", "density"), "E_OPTION", 2),
        (("compose", "A", "gone.safetensors"), "E_MISSING", 4),
        (("resize", "A"), "E_OPTION", 2),
        (("resize", "A", "--rank", "0"), "E_RANK", 2),
        (("extract", "A", "A", "--rank", "2"), "E_EMPTY", 2),
    ],
)
def test_refusals_write_nothing(
    tmp_path: Path, files: list[str], words: tuple[str, ...], code: str, exit_code: int
) -> None:
    out = tmp_path / "new" / "o.safetensors"
    given = [files["AB".index(word)] if word in ("A", "B") else word for word in words]
    with pytest.raises(CounterpoiseError) as caught:
        CliRunner().invoke(app, ["adapter", *given, "--out", str(out)], catch_exceptions=False)
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    assert "\n" not in str(caught.value)
    assert not out.parent.exists()

"""`counterpoise demo --fast`: the whole run, small; killed in the middle and run again it ends the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from counterpoise import Adapter
from counterpoise.world import WEIGHTS

COMMAND = [sys.executable, "-c", "from counterpoise.cli import main; main()", "demo", "--fast", "--out"]


def start(out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demo that was killed with SIGKILL in its repair and in its audit, then let run to its end."""
    out = tmp_path_factory.mktemp("demo") / "run"
    for sign in ("repair-*/distil/ways-first-0.pt", "images/1-base/*/*.png"):
        process = start(out)
        deadline = time.monotonic() + 200
        while not any(out.glob(sign)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert any(out.glob(sign)), sign
    process = start(out)
    said, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    return out, said


def results(demo: tuple[Path, str]) -> dict[str, Any]:
    return json.loads((demo[0] / "results.json").read_text())  # type: ignore[no-any-return]


def test_results_hold_what_checks_rely_on(demo: tuple[Path, str]) -> None:
    found = results(demo)
    assert {claim["arm"] for claim in found["claims"]} == {"base", "repaired", "folded", "restored"}
    for claim in found["claims"]:
        assert {"prompt", "attribute", "arm", "held_out", "n", "shares", "low", "high", "tv"} <= set(claim)
        assert sum(claim["shares"].values()) + claim["abstained"] / claim["n"] == pytest.approx(1)
        for value, share in claim["shares"].items():
            assert claim["low"][value] <= share <= claim["high"][value]
    assert {"max_pixel_difference", "time_ratio"} <= set(found["fold"])
    assert {finding["arm"] for finding in found["findings"]} == {"base", "repaired", "folded", "restored"}
    assert {finding["decision"] for finding in found["findings"]} >= {"biased", "undecided"}


def test_the_bytes_are_back(demo: tuple[Path, str]) -> None:
    restore = results(demo)["restore"]
    assert restore["sha256_before"] == restore["sha256_after"]
    assert len(restore["sha256_before"]) == 64


def test_folded_draws_what_mounted_draws(demo: tuple[Path, str]) -> None:
    assert results(demo)["fold"]["max_pixel_difference"] <= 2


def test_restored_draws_what_base_draws(demo: tuple[Path, str]) -> None:
    out = demo[0]
    base, restored = out / "images" / "1-base", out / "proof" / "images" / "2-restored"
    pictures = sorted(p.relative_to(restored) for p in restored.rglob("*.png"))
    assert pictures
    by_seed = {(p.parts[0], p.name) for p in (q.relative_to(base) for q in base.rglob("*.png"))}
    same = [p for p in pictures if (p.parts[0], p.name) in by_seed]
    assert same
    # The files differ in their text, which names the arm; the pictures do not.
    for picture in same:
        with Image.open(base / picture) as one, Image.open(restored / picture) as other:
            assert one.tobytes() == other.tobytes()


def test_base_is_biased_as_planted(demo: tuple[Path, str]) -> None:
    tv = {
        (claim["prompt"], claim["attribute"]): claim["tv"]
        for claim in results(demo)["claims"]
        if claim["arm"] == "base"
    }
    assert tv["a portrait of a woman", "skin"] > 0.35
    assert tv["a portrait of a boss", "presentation"] > 0.2


def test_the_report_and_the_adapter_are_there(demo: tuple[Path, str]) -> None:
    out, said = demo
    assert str(out / "report.html") in said
    page = (out / "report.html").read_text()
    assert "sha256 before" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert Adapter.load(out / "adapter.safetensors").layers


def test_the_weights_ship() -> None:
    size = sum(p.stat().st_size for p in WEIGHTS.rglob("*") if p.is_file())
    assert 1_000_000 < size < 40_000_000

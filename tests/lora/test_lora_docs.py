"""The examples in docs/training.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_page_on_training_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for block in blocks:
            names: dict = {}
            exec(block, names)
            assert names["losses"][-1][1] < names["losses"][0][1]
    assert (tmp_path / "work" / "lora.safetensors").exists()

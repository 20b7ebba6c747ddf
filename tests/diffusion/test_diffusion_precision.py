"""A machine without instructions for bfloat16 draws in float32, unless it is asked for the other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.diffusion.precision import computed_in, resolved
from counterpoise.errors import UsageError


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, "float32"),  # emulated: fifty times slower
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({}, "float32"),
    ],
)
def test_auto_is_what_the_processor_has_instructions_for(
    told: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert resolved("auto", "cpu") == expected
    painter = Painter(load_pipeline(tiny_model), dtype="auto")
    assert painter.dtype == expected
    with painter.precision(), torch.no_grad():
        said = torch.nn.Linear(2, 2)(torch.ones(1, 2))
    assert str(said.dtype) == f"torch.{expected}"


def test_who_names_a_type_has_it_whatever_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False}, raising=False)
    assert resolved("bfloat16", "cpu") == "bfloat16"
    with computed_in("bfloat16", "cpu"):
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")
    with pytest.raises(UsageError, match="'float16': expected one of auto, float32, bfloat16"):
        resolved("float16", "cpu")


def test_an_older_torch_that_cannot_tell_draws_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolved("auto", "cpu") == "float32"

"""One thread for tiny layers: with two on a busy machine their barriers cost forty times the work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["through memory", "in rows"])
def fold_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Folds of layers of any size by torch's operations, and by compiled loops where the weights lie."""
    from counterpoise.lora.compiled import rows

    monkeypatch.setattr(rows, "LEAST", 1 if request.param == "in rows" else 2**62)
    monkeypatch.setattr(rows, "_BLOCK", 16)  # several blocks even in tiny layers
    return str(request.param)

"""Many adapters active at once, and what it takes to get them there, beside peft."""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.engine_models import batch_for, random_adapter, with_peft
from benchmarks.report import Line, alternate
from counterpoise import Adapter, Host

ACTIVE_BOUND, MOUNT_BOUND, GROWTH_BOUND = 8.0, 20.0, 1.5


def active(name: str, model: nn.Module, count: int, *, tokens: int, bound: float | None) -> Iterator[Line]:
    """Forward of a batch of `tokens` with `count` adapters active; and that both give the same.

    Ours cannot be faster than the base itself: the more tokens, the less there is to win.
    """
    adapters = [random_adapter(model, i) for i in range(count)]
    batch = batch_for(model, tokens=tokens)
    peer = with_peft(copy.deepcopy(model), adapters)
    host = Host(model)
    for i, adapter in enumerate(adapters):
        host.mount(adapter, name=f"a{i}")
    with torch.inference_mode():
        wanted, found = _values(peer(*batch)), _values(model(*batch))
        error = float((wanted - found).norm() / wanted.norm())
        ours, theirs = alternate(lambda: model(*batch), lambda: peer(*batch), rounds=7)
        host.restore()
        base = statistics.median(_seconds(lambda: model(*batch)) for _ in range(5))
    limit = 0.0 if bound is None else bound
    what = f"forward of {tokens} tokens with {count} active adapters"
    yield Line(
        f"{name}: seconds a {what}", ours, theirs, theirs / ours, limit,
        theirs / ours >= limit,
    )  # fmt: skip
    yield Line(
        f"{name}: {what} over base", ours / base, theirs / base,
        theirs / ours, limit, True,
    )  # fmt: skip
    allowed = 0.05 if next(model.parameters()).dtype == torch.bfloat16 else 1e-4
    yield Line(f"{name}: relative difference to peft's output", error, None, None, allowed, error <= allowed)


def loading(name: str, model: nn.Module, count: int) -> Iterator[Line]:
    """Load and mount `count` adapters from disk; ours twice as many, the last against the first."""
    with tempfile.TemporaryDirectory() as folder:
        files = [
            random_adapter(model, i).save(Path(folder) / f"a{i}", dialect="peft") for i in range(2 * count)
        ]
        host, times = Host(model), []
        for i, file in enumerate(files):
            times.append(_seconds(lambda i=i, file=file: host.mount(Adapter.load(file), name=f"a{i}")))
        host.restore()
        peer = _peft_loading(copy.deepcopy(model), files[:count])
    ours = sum(times[:count])
    yield Line(
        f"{name}: seconds to load and mount {count} adapters", ours, peer, peer / ours, MOUNT_BOUND,
        peer / ours >= MOUNT_BOUND,
    )  # fmt: skip
    last, first = statistics.median(times[-5:]), statistics.median(times[1:6])
    yield Line(
        f"{name}: seconds for adapter {2 * count} over adapter 1 (medians of five)", last, first,
        last / first, GROWTH_BOUND, last / first <= GROWTH_BOUND,
    )  # fmt: skip


def _peft_loading(model: nn.Module, files: list[Path]) -> float:
    from peft import PeftModel

    started = time.perf_counter()
    wrapped: Any = PeftModel.from_pretrained(model, files[0], adapter_name="a0")
    for i, file in enumerate(files[1:], 1):
        wrapped.load_adapter(file, adapter_name=f"a{i}")
    return time.perf_counter() - started


def _values(output: Any) -> torch.Tensor:
    values: torch.Tensor = getattr(output, "logits", output)
    return values.float()


def _seconds(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started

"""One training step of a LoRA beside peft: seconds, peak memory, and that both find the same gradient.

The same model, batch, rank and starting factors; each side as its own users run it by default, and under
bfloat16 autocast too. peft keeps and computes its factors' part in float32 beside a bfloat16 model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.engine_models import batch_for, random_adapter, target_layers, with_peft
from benchmarks.report import Line, alternate
from counterpoise.lora import Trainable

BOUND = 1.0
TOKENS = 256


def step(name: str, model: nn.Module) -> Iterator[Line]:
    """Forward, backward and AdamW, rank 8 on every linear layer."""
    batch = batch_for(model, tokens=TOKENS)
    start = random_adapter(model, 0)
    peer: Any = with_peft(copy.deepcopy(model), [start])
    theirs = [p for p in peer.parameters() if p.requires_grad]
    factors = Trainable(model, start)
    with factors:
        yield _gradients(name, model, factors, peer=peer, batch=batch)
        for narrow in (False, True):
            label = f"{name}{', bfloat16 autocast' if narrow else ''}"
            ours_step = _stepper(model, factors.parameters(), batch, narrow=narrow)
            their_step = _stepper(peer, theirs, batch, narrow=narrow)
            mine, peers = alternate(ours_step, their_step, rounds=9)
            ratio = mine / peers
            yield Line(f"{label}: seconds a training step", mine, peers, ratio, BOUND, ratio <= BOUND)
            held, peer_held = _peak_bytes(ours_step), _peak_bytes(their_step)
            ratio = held / peer_held
            yield Line(f"{label}: peak bytes of a step", held, peer_held, ratio, BOUND, ratio <= BOUND)


def _stepper(
    model: nn.Module, parameters: list[nn.Parameter], batch: tuple[torch.Tensor, ...], *, narrow: bool
) -> Callable[[], None]:
    optimiser = torch.optim.AdamW(parameters, lr=1e-4)

    def call() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16) if narrow else nullcontext():
            loss = _loss(model, batch)
        loss.backward()
        optimiser.step()

    return call


def _loss(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    output = model(*batch)
    return getattr(output, "logits", output).float().square().mean()


def _gradients(
    name: str, model: nn.Module, factors: Trainable, *, peer: Any, batch: tuple[torch.Tensor, ...]
) -> Line:
    """How far apart the gradients are; beside bfloat16, where each rounds elsewhere, only roughly nothing."""
    for side in (model, peer):
        _loss(side, batch).backward()
    ours = {p: (down.grad, up.grad) for p, (down, up) in _pairs(factors).items()}
    base, apart, whole = peer.base_model.model, 0.0, 0.0
    for path in target_layers(model):
        layer = base.get_submodule(path)
        for mine, weight in zip(ours[path], (layer.lora_A["a0"], layer.lora_B["a0"]), strict=True):
            apart += float((mine - weight.weight.grad).square().sum())
            whole += float(weight.weight.grad.square().sum())
    error = (apart / whole) ** 0.5
    allowed = 0.2 if next(model.parameters()).dtype == torch.bfloat16 else 1e-4
    return Line(f"{name}: relative difference of the gradients", error, None, None, allowed, error <= allowed)


def _pairs(factors: Trainable) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
    values = factors.parameters()
    paths = list(factors.adapter().layers)
    return {path: (values[2 * i], values[2 * i + 1]) for i, path in enumerate(paths)}


def _peak_bytes(call: Callable[[], None]) -> float:
    """The most memory that tensors take at once during a call, above what is there before it."""
    call()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    found: Any = seen.profiler
    events = [event for event in found.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return float(most)

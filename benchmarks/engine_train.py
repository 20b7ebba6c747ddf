"""One training step of a LoRA on the same batch, beside peft: seconds and memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from benchmarks.engine_models import RANK, batch_for, target_layers, with_peft, random_adapter
from benchmarks.report import Line, alternate
from counterpoise.lora import trainable

BOUND = 1.0


def step(name: str, model: nn.Module) -> Iterator[Line]:
    """Forward, backward and AdamW, rank 8 on every linear layer."""
    batch = batch_for(model, tokens=128)
    peer: Any = with_peft(copy.deepcopy(model), [random_adapter(model, 0)])
    peer.train()
    theirs_of = [p for p in peer.parameters() if p.requires_grad]
    factors = trainable(model, list(target_layers(model)), rank=RANK, generator=torch.Generator())
    model.train()
    with factors:
        ours = _stepper(model, factors.parameters(), batch)
        theirs = _stepper(peer, theirs_of, batch)
        mine, peers = alternate(ours, theirs, rounds=7)
        held, peer_held = _saved_bytes(model, batch), _saved_bytes(peer, batch)
    model.eval()
    yield Line(f"{name}: seconds a training step", mine, peers, mine / peers, BOUND, mine <= peers)
    ratio = held / peer_held
    yield Line(f"{name}: bytes kept for the backward pass", held, peer_held, ratio, BOUND, ratio <= BOUND)


def _stepper(model: nn.Module, parameters: list[nn.Parameter], batch: tuple[torch.Tensor, ...]) -> Any:
    optimiser = torch.optim.AdamW(parameters, lr=1e-4)

    def call() -> None:
        optimiser.zero_grad(set_to_none=True)
        _loss(model, batch).backward()
        optimiser.step()

    return call


def _loss(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    output = model(*batch)
    return getattr(output, "logits", output).float().square().mean()


def _saved_bytes(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> float:
    """What autograd keeps between forward and backward, each storage once, parameters aside."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        _loss(model, batch)
    return float(sum(seen.values()))

"""Folding, unfolding and switching beside peft's merge and unmerge: time, memory and bytes."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn

from benchmarks.engine_models import random_adapter, target_layers, with_peft
from benchmarks.report import Line, alternate
from counterpoise import Host

SWITCH_BOUND, MEMORY_BOUND = 3.0, 0.125


def folding(name: str, model: nn.Module) -> Iterator[Line]:
    """One cycle: seconds (also with W0 kept whole), changed weights, memory held while folded."""
    adapter = random_adapter(model, 0)
    before = {path: layer.weight.detach().clone() for path, layer in target_layers(model).items()}
    host = Host(model)
    host.mount(adapter, name="a")
    host.fold()
    held = host.kept_bytes
    share = held / sum(weight.nbytes for weight in before.values())
    host.unfold()
    peer = with_peft(copy.deepcopy(model), [adapter])

    def ours() -> None:
        host.fold()
        host.unfold()

    def theirs() -> None:
        peer.base_model.merge_adapter()
        peer.base_model.unmerge_adapter()

    mine, peers = alternate(ours, theirs, rounds=3)
    host.restore()
    yield Line(f"{name}: seconds to fold and unfold", mine, peers, mine / peers, 1.0, mine <= peers)
    host = Host(model, keep_copies=True)
    host.mount(adapter, name="a")
    whole, peers = alternate(ours, theirs, rounds=3)
    host.restore()
    what = f"{name}: seconds to fold and unfold, W0 kept whole"
    yield Line(what, whole, peers, whole / peers, 1.0, whole <= peers)
    changed = _changed(before, {path: layer.weight for path, layer in target_layers(model).items()})
    drifted = _changed(
        before, {path: peer.base_model.model.get_submodule(path).base_layer.weight for path in before}
    )
    yield Line(f"{name}: share of weights changed after 5 cycles", changed, drifted, None, 0.0, changed == 0)
    yield Line(
        f"{name}: memory held while folded, of the folded weights' bytes", share, 1.0, share, MEMORY_BOUND,
        share <= MEMORY_BOUND,
    )  # fmt: skip


def switching(name: str, model: nn.Module) -> Iterator[Line]:
    """From one folded adapter to another, W0 kept as a few bits a weight and whole."""
    for whole in (False, True):
        yield from _switching(name, model, whole=whole)


def _switching(name: str, model: nn.Module, *, whole: bool) -> Iterator[Line]:
    adapters = [random_adapter(model, i) for i in range(2)]
    host = Host(model, keep_copies=whole)
    for i, adapter in enumerate(adapters):
        host.mount(adapter, name=f"a{i}", strength=float(i == 0))
    host.fold()
    peer = with_peft(copy.deepcopy(model), adapters)
    at = [0, 0]

    def ours() -> None:
        at[0] = 1 - at[0]
        host.set_strengths({"a0": float(at[0] == 0), "a1": float(at[0] == 1)})

    def theirs() -> None:
        at[1] = 1 - at[1]
        peer.base_model.unmerge_adapter()
        peer.base_model.set_adapter(f"a{at[1]}")
        peer.base_model.merge_adapter()

    peer.base_model.set_adapter("a0")
    peer.base_model.merge_adapter()
    mine, peers = alternate(ours, theirs, rounds=5)
    host.restore()
    ratio = peers / mine
    yield Line(
        f"{name}: seconds to switch folded adapters{', W0 kept whole' if whole else ''}",
        mine,
        peers,
        ratio,
        SWITCH_BOUND,
        ratio >= SWITCH_BOUND,
    )


def _changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> float:
    changed = sum(int((weight != after[path]).sum()) for path, weight in before.items())
    return changed / sum(weight.numel() for weight in before.values())

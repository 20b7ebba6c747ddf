"""The moves of a host, worked out before anything changes.

In: the present record, the layers, and which adapters are to be there, folded or beside. Out: the next
record and what to write into which weight. Only `carry_out` touches the model, all or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor, nn

from counterpoise.errors import StateError
from counterpoise.lora.adapter import Adapter
from counterpoise.lora.names import shown
from counterpoise.lora.stack import Beside, Entries, Entry, folded
from counterpoise.lora.weights import Original, overwrite, tensor_digest

Modules = Mapping[str, nn.Module]
Writes = list[tuple[Tensor, Tensor]]


@final
@dataclass(frozen=True, eq=False)
class Mount:
    """An adapter at a strength; a changed strength is another Mount."""

    adapter: Adapter
    strength: float


@final
@dataclass(frozen=True, eq=False)
class Record:
    """All that a host knows of its present state; a move makes the next one."""

    mounts: Mapping[str, Mount] = field(default_factory=dict)
    folded: bool = False
    dtype: torch.dtype = torch.float32
    """What a fold accumulates in."""
    entries: Mapping[str, Entries] = field(default_factory=dict)
    """Layer path -> its stack, in the order of names."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Layer path -> sha256 of W0 when the first adapter came to it."""
    originals: Mapping[str, Original] = field(default_factory=dict)
    """Folded layer -> W0."""
    expected: Mapping[str, str] = field(default_factory=dict)
    """Folded layer -> sha256 of what was written into it."""
    hooks: Mapping[str, Beside] = field(default_factory=dict)


def weight_of(modules: Modules, path: str) -> Tensor:
    """The layer's parameter as it is now (somebody may have put another in its place)."""
    weight = modules[path].weight
    assert isinstance(weight, nn.Parameter)
    return weight


def check_unchanged(now: Record, modules: Modules, paths: Iterable[str]) -> None:
    """StateError E_CHANGED if a layer's weight is not what the host last left or found there."""
    for path in sorted(paths):
        known = now.expected.get(path) or now.digests.get(path)
        if known is not None and tensor_digest(weight_of(modules, path)) != known:
            since = "it was folded" if path in now.expected else "the first mount"
            reason = f"the weight of {shown(path)} was changed by others since {since}"
            raise StateError(f"{reason}; undo that change, or call restore(force=True)", code="E_CHANGED")


def plan(
    now: Record, modules: Modules, mounts: Mapping[str, Mount], *, target: Record
) -> tuple[Record, Writes]:
    """The record in which `mounts` are folded or not as in `target`, and the writes that lead there.

    Raises what `folded` and `Original.value` raise; changes nothing. Layers whose stack stays the same
    are neither computed nor written.
    """
    changed = {name for name in {*now.mounts, *mounts} if now.mounts.get(name) is not mounts.get(name)}
    touched = {
        p
        for side in (now.mounts, mounts)
        for name in changed & side.keys()
        for p in side[name].adapter.layers
    }
    entries = _restacked(now.entries, mounts, changed=changed, touched=touched)
    digests = {path: now.digests.get(path) or tensor_digest(weight_of(modules, path)) for path in entries}
    if now.folded != target.folded or (target.folded and now.dtype != target.dtype):
        touched = {*now.entries, *entries}
    new = replace(target, mounts=dict(mounts), entries=entries, digests=digests)
    new, writes = _weighed(new, modules, sorted(touched))
    hooks = (
        {}
        if new.folded
        else {path: _beside(now, modules, path, stack=stack) for path, stack in entries.items()}
    )
    return replace(new, hooks=hooks), writes


def _restacked(
    before: Mapping[str, Entries], mounts: Mapping[str, Mount], *, changed: set[str], touched: set[str]
) -> dict[str, Entries]:
    entries = dict(before)
    for path in touched:
        stack = [entry for entry in entries.pop(path, ()) if entry.name not in changed]
        for name in changed & mounts.keys():
            update = mounts[name].adapter.layers.get(path)
            if update is not None:
                stack.append(Entry(name, update, mounts[name].strength))
        if stack:
            entries[path] = tuple(sorted(stack, key=lambda entry: entry.name))
    return entries


def _weighed(new: Record, modules: Modules, touched: Iterable[str]) -> tuple[Record, Writes]:
    originals, expected = dict(new.originals), dict(new.expected)
    writes: Writes = []
    for path in touched:
        weight = weight_of(modules, path)
        if new.folded and path in new.entries:
            original = originals.get(path) or Original.of(weight, new.digests[path])
            value = folded(original.copy, new.entries[path], dtype=new.dtype, path=path)
            originals[path], expected[path] = original, tensor_digest(value)
            writes.append((weight, value))
        elif path in originals:
            writes.append((weight, originals.pop(path).value(path)))
            del expected[path]
    return replace(new, originals=originals, expected=expected), writes


def _beside(now: Record, modules: Modules, path: str, *, stack: Entries) -> Beside:
    old = now.hooks.get(path)
    return old if old is not None and old.entries is stack else Beside(modules[path], stack)


def carry_out(now: Record, new: Record, writes: Writes, *, settle: Callable[[Record], None]) -> None:
    """Write, hook, and `settle` the new record; after any exception the model and record are as before.

    `settle` is the last thing tried: an interrupt finds either all of the move done or none of it.
    """
    before: Writes = []
    try:
        for weight, value in writes:
            before.append((weight, weight.detach().clone()))
            overwrite(weight, value)
        for beside in new.hooks.values():
            beside.attach()
        for path, beside in now.hooks.items():
            if new.hooks.get(path) is not beside:
                beside.detach()
        settle(new)
    except BaseException:
        for weight, old in reversed(before):
            overwrite(weight, old)
        for path, beside in new.hooks.items():
            if now.hooks.get(path) is not beside:
                beside.detach()
        for beside in now.hooks.values():
            beside.attach()
        settle(now)
        raise

"""The moves of a host, worked out before anything changes.

In: the present record, the layers, and which adapters are to be there, folded or beside. Out: the next
record and the layers to be written. Only `carry_out` touches the model: layer by layer, so that a move
takes one layer's memory, and all or nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple, final

import torch
from torch import Tensor

from counterpoise.errors import StateError, shown
from counterpoise.lora.adapter import Adapter
from counterpoise.lora.compiled.rows import ChangedError, Rows, reachable
from counterpoise.lora.folding import (
    Folding,
    InRows,
    Scratch,
    fold_in_rows,
    fold_rows,
    fold_weight,
    not_original,
    refolded,
    rows_fit,
    unfold_weight,
)
from counterpoise.lora.gates import Gates
from counterpoise.lora.kinds import parted
from counterpoise.lora.layers import Site, join
from counterpoise.lora.stack import Entries, Entry, StackAtWork, low_rank_where_exact
from counterpoise.lora.threads import together
from counterpoise.lora.update import Update
from counterpoise.lora.weights import Seal, checksum, overwrite, seal, tensor_digest

Sites = Mapping[str, Site]
_GROUP = 2**21  # weights that one task writes in a call: a millisecond of work


@final
@dataclass(frozen=True, eq=False)
class Mount:
    """An adapter at a strength; a changed strength is another Mount.

    updates: its layers' as they act, one of a bias apart from its weight's."""

    adapter: Adapter
    strength: float
    updates: Mapping[str, Update]

    @staticmethod
    def of(adapter: Adapter, strength: float, sites: Sites) -> Mount:
        """`adapter`, which fits, its updates as factors where that is exact."""
        updates: dict[str, Update] = {}
        for path, update in adapter.layers.items():
            site = sites[path]
            own, bias = parted(update.shaped(tuple(site.weight.shape)))
            updates[path] = low_rank_where_exact(own, crossover=site.crossover)
            if bias is not None:
                updates[join(path, "bias")] = bias
        return Mount(adapter, strength, updates)


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
    seals: Mapping[str, Seal] = field(default_factory=dict)
    """Layer path -> W0's when the first adapter came to it."""
    foldings: Mapping[str, Folding] = field(default_factory=dict)
    """Folded layer -> what was folded in, and the way back."""
    copies: bool = False
    """Whether a fold keeps all of W0."""
    gates: Gates = field(default_factory=Gates)
    """What all layers' stacks obey: one object for the life of a host."""
    hooks: Mapping[str, StackAtWork] = field(default_factory=dict)


def check_unchanged(now: Record, sites: Sites, paths: Iterable[str], *, prove: bool = False) -> None:
    """StateError E_CHANGED if a layer's weight is not what the host last left or found there.

    By its checksum; prove: where nothing is folded, by its sha256.
    """
    for path in sorted(paths):
        folding, own, weight = now.foldings.get(path), now.seals.get(path), sites[path].weight
        if own is None:
            continue
        if checksum(weight) != (own.checksum if folding is None else folding.checksum) or (
            prove and folding is None and tensor_digest(weight) != own.sha256
        ):
            raise _changed(now, path)


def _changed(now: Record, path: str) -> StateError:
    since = "it was folded" if path in now.foldings else "the first mount"
    reason = f"the weight of {shown(path)} was changed by others since {since}"
    return StateError(f"{reason}; undo that change, or call restore(force=True)", code="E_CHANGED")


def plan(
    now: Record, sites: Sites, mounts: Mapping[str, Mount], *, target: Record
) -> tuple[Record, list[str]]:
    """The record in which `mounts` are folded or not as in `target` (`foldings` still those of now), and the
    layers that are to be written. Changes nothing; layers whose stack stays the same are left alone.
    """
    changed = {name for name in {*now.mounts, *mounts} if now.mounts.get(name) is not mounts.get(name)}
    touched = {
        p for side in (now.mounts, mounts) for name in changed & side.keys() for p in side[name].updates
    }
    entries = _restacked(now.entries, mounts, changed=changed, touched=touched)
    seals = {path: now.seals.get(path) or seal(sites[path].weight) for path in entries}
    if now.folded != target.folded or (target.folded and now.dtype != target.dtype):
        touched = {*now.entries, *entries}
    new = replace(target, mounts=dict(mounts), entries=entries, seals=seals)
    hooks = (
        {}
        if new.folded
        else {path: _beside(now, sites, path, stack=stack) for path, stack in entries.items()}
    )
    written = (p for p in touched if p in now.foldings or (new.folded and p in entries))
    return replace(new, hooks=hooks), sorted(written)


def _restacked(
    before: Mapping[str, Entries], mounts: Mapping[str, Mount], *, changed: set[str], touched: set[str]
) -> dict[str, Entries]:
    entries = dict(before)
    for path in touched:
        stack = entries.pop(path, ())
        for name in changed:  # one of hundreds, as a rule: the others stay where they are
            at = bisect_left(stack, name, key=_name)
            there = at < len(stack) and stack[at].name == name
            update = mounts[name].updates.get(path) if name in mounts else None
            own = () if update is None else (Entry(name, update, mounts[name].strength),)
            stack = stack[:at] + own + stack[at + there :]
        if stack:
            entries[path] = stack
    return entries


def _name(entry: Entry) -> str:
    return entry.name


def _beside(now: Record, sites: Sites, path: str, *, stack: Entries) -> StackAtWork:
    old = now.hooks.get(path)
    return old if old is not None and old.entries is stack else StackAtWork(sites[path], stack, now.gates)


def carry_out(
    now: Record,
    new: Record,
    sites: Sites,
    paths: Iterable[str],
    *,
    settle: Callable[[Record], None],
    trust: bool = False,
) -> None:
    """Write `paths`, hook, and `settle` the new record; after any exception all is as before.

    Raises what folding and unfolding raise, and, without `trust`, what `check_unchanged` does: each layer is
    asked when its turn comes, so that it goes through memory once. `settle` is the last thing tried: an
    interrupt finds either all of the move done or none of it.
    """
    foldings = dict(now.foldings)
    begun: list[str] = []
    try:
        _write(now, new, sites, paths, begun=begun, foldings=foldings, trust=trust)
        for beside in new.hooks.values():
            beside.attach()
        for path, beside in now.hooks.items():
            if new.hooks.get(path) is not beside:
                beside.detach()
        settle(replace(new, foldings=foldings))
    except BaseException:
        for path in reversed(begun):
            _take_back(now, sites, path, folding=foldings.get(path), own=_seal(now, new, path))
        for path, beside in new.hooks.items():
            if now.hooks.get(path) is not beside:
                beside.detach()
        for beside in now.hooks.values():
            beside.attach()
        settle(now)
        raise


def _write(
    now: Record,
    new: Record,
    sites: Sites,
    paths: Iterable[str],
    *,
    begun: list[str],
    foldings: dict[str, Folding],
    trust: bool,
) -> None:
    """Write the layers; begun: those that may not be as they were now, foldings: what is known of them."""
    rest, jobs, scratch = [], [], Scratch()
    for path in paths:
        job = _in_rows(now, new, sites, path)
        if job is None:
            rest.append(path)
        else:
            jobs.append(job)
    task = partial(_write_rows, now, new, begun=begun, foldings=foldings, trust=trust)
    together([partial(task, group) for group in _groups(jobs, new)])
    for path in rest:
        if not trust and path in now.entries:
            check_unchanged(now, sites, [path])
        _through_memory(now, new, sites, path, begun=begun, foldings=foldings, scratch=scratch)


@final
class _Job(NamedTuple):
    """A layer to be written where it lies, row by row: `stack` folded in over `before`, or from W0 where that
    is kept `whole`; or, where there is no stack, `before` taken out."""

    path: str
    weight: Tensor
    stack: Entries | None
    before: Folding | None
    whole: Tensor | None


def _in_rows(now: Record, new: Record, sites: Sites, path: str) -> _Job | None:
    """How a layer is written where it lies; None where that is not possible."""
    weight, before = sites[path].weight, now.foldings.get(path)
    kept = None if before is None else before.kept
    whole = None
    if isinstance(kept, Tensor) and new.copies and before is not None and before.rows is not None:
        whole = kept
    elif kept is not None and not (isinstance(kept, Rows) and reachable(weight)):
        return None  # W0 comes back by a way through memory
    stack = new.entries.get(path) if new.folded else None
    if not isinstance(kept, Rows) if stack is None else not rows_fit(weight, stack, dtype=new.dtype):
        return None
    return _Job(path, weight, stack, before, whole)


def _groups(jobs: Iterable[_Job], new: Record) -> list[list[_Job]]:
    """What one task does in a single call: layers of one dtype that are small beside all, W0 at hand."""
    groups: list[list[_Job]] = []
    size = _GROUP
    for job in jobs:
        alone = job.stack is None or not new.copies
        if alone or size >= _GROUP or job.weight.dtype != groups[-1][0].weight.dtype:
            groups.append([])
            size = 0
        groups[-1].append(job)
        size += _GROUP if alone else job.weight.numel()
    return groups


def _write_rows(
    now: Record,
    new: Record,
    group: list[_Job],
    *,
    begun: list[str],
    foldings: dict[str, Folding],
    trust: bool,
) -> None:
    path = group[0].path
    try:
        if group[0].stack is None:
            begun.append(path)
            _unfold_rows(now, new, group[0], foldings=foldings)
            return
        layers = []
        for path, weight, stack, before, whole in group:
            # What a layer needs is made when its turn comes, while another thread is in its loop.
            assert stack is not None
            fresh = fold_in_rows(weight, stack, dtype=new.dtype, copy=new.copies, kept=whole)
            layers.append(InRows(path, weight, fresh, before, _seal(now, new, path).checksum))
            foldings[path] = fresh
            begun.append(path)  # from here on any block may be either: the undoing asks each
        folded = fold_rows(layers)
        for layer in layers:
            path = layer.path
            foldings[path] = next(folded)
    except ChangedError:
        raise (not_original(path) if trust else _changed(now, path)) from None


def _unfold_rows(now: Record, new: Record, job: _Job, *, foldings: dict[str, Folding]) -> None:
    path, weight, own = job.path, job.weight, _seal(now, new, job.path)
    assert job.before is not None
    assert isinstance(job.before.kept, Rows)
    sums = job.before.kept.unfold(weight)
    proven = path in new.entries or tensor_digest(weight) == own.sha256  # the latter: given back for good
    if sums is None or sums.after != own.checksum.words or not proven:
        raise not_original(path)
    del foldings[path]


def _through_memory(
    now: Record,
    new: Record,
    sites: Sites,
    path: str,
    *,
    begun: list[str],
    foldings: dict[str, Folding],
    scratch: Scratch,
) -> None:
    """Write a layer from memory where it was worked out."""
    whole = _whole(now, sites, path)
    if whole is not None:
        begun.append(path)  # from here on the weight may be half the new one
    value, folding = _next_weight(now, new, sites, path, scratch=scratch)
    if whole is None:
        begun.append(path)  # from here on the weight may be either: the undoing asks its bytes
    foldings.pop(path, None)
    if folding is not None:
        foldings[path] = folding
    if value.data_ptr() != sites[path].weight.data_ptr():
        overwrite(sites[path].weight, value)


def _seal(now: Record, new: Record, path: str) -> Seal:
    return new.seals.get(path) or now.seals[path]


def _next_weight(
    now: Record, new: Record, sites: Sites, path: str, *, scratch: Scratch
) -> tuple[Tensor, Folding | None]:
    weight, folding, own = sites[path].weight, now.foldings.get(path), _seal(now, new, path)
    original: Tensor = weight
    if folding is not None:
        original = unfold_weight(weight, folding, wanted=own.checksum, path=path, scratch=scratch)
    if new.folded and path in new.entries:
        whole = _whole(now, sites, path)
        return fold_weight(
            original,
            new.entries[path],
            dtype=new.dtype,
            path=path,
            copy=new.copies,
            scratch=scratch,
            kept=folding.kept if folding is not None and isinstance(folding.kept, Tensor) else None,
            # With W0 at hand a half-written weight can be made again, so the way through memory is saved.
            into=None if whole is None else weight.detach(),
        )
    if path not in new.entries and tensor_digest(original) != own.sha256:  # the layer is given back for good
        raise not_original(path)
    return original, None


def _whole(now: Record, sites: Sites, path: str) -> Tensor | None:
    """All of W0 as a folded layer keeps it, where the weight can be written in place; else None."""
    folding, weight = now.foldings.get(path), sites[path].weight
    if folding is None or not isinstance(folding.kept, Tensor) or weight.is_inference():
        return None
    return folding.kept if weight.is_contiguous() and weight.device == folding.kept.device else None


def _take_back(now: Record, sites: Sites, path: str, *, folding: Folding | None, own: Seal) -> None:
    """Make a layer's weight what it was before the move; folding: what is noted of it by now."""
    weight, before, scratch = sites[path].weight, now.foldings.get(path), Scratch()
    if checksum(weight) == (own.checksum if before is None else before.checksum):
        return
    fresh = None if folding is before else folding
    original: Tensor = weight
    if before is not None and isinstance(before.kept, Tensor):
        original = before.kept
    elif fresh is not None and isinstance(fresh.kept, Rows):
        fresh.kept.unfold(weight)  # rows that the move had not come to are still as `before` has them
    elif fresh is not None and isinstance(fresh.kept, Tensor):
        original = fresh.kept  # whatever it was: others may have changed it since the first mount
    elif fresh is not None:
        original = unfold_weight(weight, fresh, wanted=own.checksum, path=path, scratch=scratch)
    if before is not None and isinstance(before.kept, Rows) and original is weight:
        before.kept.again(weight)
    elif before is not None and before.rows is not None and fresh is not None and fresh.rows is not None:
        before.rows.again(weight, source=original, after=fresh.rows)
    else:
        value = original if before is None else refolded(original, before, path=path, scratch=scratch)
        overwrite(weight, value)

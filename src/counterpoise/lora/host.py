"""`Host`: a model and the adapters mounted on it; every move is a transaction.

In: a module or a diffusers pipeline. Bare: nothing of ours is in it. Mounted: adapters act beside the
weights, through forward hooks. Folded: they are in the weights, and the model is stock modules without
hooks. Each move is worked out and checked whole, then made; any exception leaves all as it was.
Not for use from several threads at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor

from counterpoise.errors import EnvironmentLackError, StateError, UsageError, shown
from counterpoise.lora.adapter import Adapter
from counterpoise.lora.fit import (
    check_extreme,
    check_fit,
    check_known,
    check_name,
    check_reach,
    check_strength,
    tied_layers,
)
from counterpoise.lora.gates import Clock, check_mask
from counterpoise.lora.layers import Layout, roots
from counterpoise.lora.lowrank import LowRank
from counterpoise.lora.moves import Mount, Record, carry_out, check_unchanged, plan
from counterpoise.lora.names import nearest
from counterpoise.lora.paging import Pager
from counterpoise.lora.weights import model_digest


@final
class Host:
    """A model whose layers have paths, and the adapters mounted on it.

    `model` is an `nn.Module` (paths as in `named_modules`) or a diffusers pipeline (paths begin with the
    component's name); else UsageError. Making a Host changes nothing.

    While folded, W0 is kept as a correction of a few bits a weight, which needs the folded weights as they
    were written. `keep_copies` keeps all of W0 instead: more memory, and W0 survives what others overwrite.
    `memory_budget`: bytes that the mounted adapters' own factors may take in memory; those over it, the ones
    at strength 0 first, are read from disk when needed (see `paging`).
    """

    def __init__(self, model: object, *, keep_copies: bool = False, memory_budget: int | None = None) -> None:
        self._model = model
        self._pager = None if memory_budget is None else Pager(memory_budget)
        self._layout = Layout.of(model)
        self._tied: Mapping[str, str] = {}
        self._now = Record(copies=bool(keep_copies))

    @property
    def model(self) -> object:
        """What this host was made for."""
        return self._model

    @property
    def state(self) -> str:
        """ "bare", "mounted" or "folded"."""
        return "folded" if self._now.folded else "mounted" if self._now.mounts else "bare"

    @property
    def strengths(self) -> dict[str, float]:
        """The mounted adapters' strengths by name, sorted."""
        return {name: mount.strength for name, mount in sorted(self._now.mounts.items())}

    @property
    def kept_bytes(self) -> int:
        """Memory in bytes that the way back to W0 takes while folded, the factors aside."""
        return sum(folding.nbytes for folding in self._now.foldings.values())

    @property
    def factor_bytes(self) -> int:
        """Memory in bytes that the mounted adapters' own factors take; at most the memory budget."""
        adapters = {id(mount.adapter): mount.adapter for mount in self._now.mounts.values()}.values()
        if self._pager is not None:
            return self._pager.in_memory(adapters)
        return sum(t.nbytes for a in adapters for u in a.layers.values() for t in u.tensors().values())

    def crossover(self, path: str) -> int:
        """The rank from which a stack on the layer `path` costs more than its weight and acts as one."""
        if path not in self._layout.sites:
            reason = f"no layer {shown(path)!r} takes updates{nearest(path, self._layout.sites)}"
            raise UsageError(reason, code="E_NO_MATCH")
        return self._layout.sites[path].crossover

    def fingerprint(self) -> str:
        """sha256 over the model's own parameters and buffers as they lie in it now (names, dtypes, shapes,
        bytes): mounting leaves it, folding changes it, restore() brings it back."""
        return model_digest(roots(self._model))

    def mount(
        self, adapter: Adapter, *, name: str = "default", strength: float = 1.0, allow_extreme: bool = False
    ) -> None:
        """Add `adapter` under `name`; in a folded host it is folded in.

        UsageError for the name or strength; RefusedInputError E_NO_MATCH, E_SHAPE, E_LAYER, E_TIED or
        E_NONFINITE where the adapter does not fit the model, and, without `allow_extreme`, E_EXTREME where a
        delta is more than a hundred times as long as the weight (Frobenius norms, at strength 1).
        """
        check_name(name, self._now.mounts)
        checked = check_strength(name, strength)
        if not self._now.mounts:  # parts of a bare model may have been replaced since
            self._layout = Layout.of(self._model)
            self._tied = tied_layers(self._layout)
        check_fit(adapter, self._layout, tied=self._tied)
        check_reach(adapter, checked)
        if not allow_extreme:
            norms = {path: own.norm for path, own in self._now.seals.items()}
            check_extreme(adapter, self._layout, norms=norms)
        mount = Mount.of(adapter, checked, self._layout.sites)
        self._move({**self._now.mounts, name: mount}, folded=self._now.folded)

    def unmount(self, name: str) -> None:
        """Take the adapter `name` away; in a folded host the rest is folded anew from W0."""
        check_known(name, self._now.mounts)
        rest = {key: mount for key, mount in self._now.mounts.items() if key != name}
        self._move(rest, folded=self._now.folded and bool(rest))

    def set_strengths(self, strengths: Mapping[str, float]) -> None:
        """Change the strengths of the named adapters, all at once; a folded host is folded anew from W0."""
        if not isinstance(strengths, Mapping):
            raise UsageError(
                f"expected {{name: strength}}, got {type(strengths).__name__}", code="E_STRENGTH"
            )
        mounts = dict(self._now.mounts)
        for name, strength in strengths.items():
            check_known(name, mounts)
            checked = check_strength(name, strength)
            if checked != mounts[name].strength:
                check_reach(mounts[name].adapter, checked)
                mounts[name] = replace(mounts[name], strength=checked)
        self._move(mounts, folded=self._now.folded)

    def fold(self, *, dtype: torch.dtype = torch.float32) -> None:
        """Put the whole stack into the weights, accumulated in `dtype` (float32 or float64), rounded once.

        Always from exact W0 and in the order of names, so the result depends on no history. Again is the
        same. StateError if nothing is mounted; UsageError E_OVERFLOW if a weight would not stay finite.
        """
        if dtype not in (torch.float32, torch.float64):
            raise UsageError(f"fold accumulates in float32 or float64, not {dtype}", code="E_DTYPE")
        if not self._now.mounts:
            raise StateError("nothing is mounted, so there is nothing to fold; mount first", code="E_STATE")
        self._move(self._now.mounts, folded=True, dtype=dtype)

    def unfold(self) -> None:
        """Give W0 back bit for bit and let the adapters act beside it again; StateError if not folded."""
        if not self._now.folded:
            raise StateError(f"the host is {self.state}, not folded; fold first", code="E_STATE")
        self._move(self._now.mounts, folded=False)

    def restore(self, *, force: bool = False) -> None:
        """Take everything away, from any state: W0 bit for bit, checked against its sha256 at first mount.

        StateError E_CHANGED, with nothing done, if others changed a layer meanwhile. `force` restores
        nevertheless: folded layers get W0 back (StateError E_ORIGINAL for an overwritten one, unless the host
        keeps copies), unfolded ones keep what the others wrote.
        """
        if not force:
            check_unchanged(self._now, self._layout.places, self._now.entries, prove=True)
        self._move({}, folded=False, trust=True)

    @contextmanager
    def mounted(
        self,
        adapter: Adapter,
        *,
        strength: float = 1.0,
        name: str | None = None,
        allow_extreme: bool = False,
    ) -> Iterator[Host]:
        """`adapter` for the length of a block; at its end, however it comes, that one alone is taken away
        and the host is folded or not as it was before. Errors as `mount`."""
        mounts = self._now.mounts
        if name is None:
            name = next(free for i in range(len(mounts) + 1) if (free := f"mounted-{i + 1}") not in mounts)
        check_name(name, mounts)
        before = self._now.folded
        try:
            self.mount(adapter, name=name, strength=strength, allow_extreme=allow_extreme)
            yield self
        finally:
            own = self._now.mounts.get(name)
            if own is not None and own.adapter is adapter:
                rest = {key: mount for key, mount in self._now.mounts.items() if key != name}
                self._move(rest, folded=before and bool(rest))

    @contextmanager
    def per_sample(self, strengths: Sequence[Mapping[str, float]]) -> Iterator[Host]:
        """For a block, sample i of a batch obeys strengths[i] (a name left out: 0), not the mounted ones.

        A batch of k times as many samples takes the rows k times over, as guidance stacks its halves.
        StateError unless mounted; UsageError for unknown names, E_LAYER for a layer without samples.
        """
        rows = tuple({name: check_strength(name, value) for name, value in row.items()} for row in strengths)
        if not rows:
            raise UsageError("per_sample needs a row of strengths for each sample, got none", code="E_BATCH")
        with self._gated({name for row in rows for name in row}, rows=rows):
            yield self

    @contextmanager
    def masked(self, masks: Mapping[str, Tensor]) -> Iterator[Host]:
        """For a block, each named adapter acts by a mask, [height, width] of the picture or [tokens].

        Layers whose tokens are not the mask's (text, time) take the update whole. Errors as `per_sample`.
        """
        checked = {name: check_mask(name, mask) for name, mask in masks.items()}
        with self._gated(set(checked), masks=checked):
            yield self

    @contextmanager
    def schedule(self, strengths: Mapping[str, Sequence[float]]) -> Iterator[Clock]:
        """For a block, the named adapters' strengths go by step: `clock.at(i)`, or `clock.callback` as a
        diffusers pipeline's callback_on_step_end. Past its end a schedule keeps its last value."""
        checked = {
            name: tuple(check_strength(name, value) for value in values) for name, values in strengths.items()
        }
        if not all(checked.values()):
            raise UsageError("a schedule needs a strength for the first step; it is empty", code="E_STRENGTH")
        clock = Clock(self._now.gates, checked)
        with self._gated(set(checked), now=clock.strengths(0)):
            yield clock

    @contextmanager
    def _gated(self, names: set[str], **settings: Any) -> Iterator[None]:
        if self.state != "mounted":
            reason = (
                f"the host is {self.state}: strengths by sample, mask or step act beside the weights alone"
            )
            raise StateError(f"{reason}; mount first, or unfold", code="E_STATE")
        for name in sorted(names):
            check_known(name, self._now.mounts)
        for path, stack in self._now.entries.items():
            in_place = self._layout.places[path].kind.beside is None
            in_place = in_place or not all(isinstance(entry.update, LowRank) for entry in stack)
            if in_place and any(entry.name in names for entry in stack):
                reason = f"{shown(path)} takes its update in place of the weight, for all samples alike"
                raise UsageError(f"{reason}; leave it out of the adapter", code="E_LAYER")
        gates = self._now.gates
        before = {key: getattr(gates, key) for key in settings}
        try:
            gates.set(settings)
            yield
        finally:
            gates.set(before)

    def _move(
        self,
        mounts: Mapping[str, Mount],
        *,
        folded: bool,
        dtype: torch.dtype | None = None,
        trust: bool = False,
    ) -> None:
        """Go to where `mounts` are folded or beside, or raise and be where it was; `trust` skips the check
        that nobody else changed the weights that are about to be written."""
        now = self._now
        new, paths = plan(
            now, self._layout.places, mounts, target=replace(now, folded=folded, dtype=dtype or now.dtype)
        )

        def settle(record: Record) -> None:
            self._now = record

        carry_out(now, new, self._layout.places, paths, settle=settle, trust=trust)
        if self._pager is not None:
            mounted = sorted(self._now.mounts.items(), key=lambda item: (item[1].strength == 0.0, item[0]))
            try:
                self._pager.settle(mount.adapter for _, mount in mounted)
            except EnvironmentLackError as error:  # the move itself is made: more memory is taken than asked
                warnings.warn(f"over the memory budget: {error}", RuntimeWarning, stacklevel=3)

"""One layer's weight with a stack folded into it, and how W0 comes back.

In: a weight, its stack, the checksum of W0. Out: the folded weight and a `Folding`: what to subtract again
and a correction of a few bits a weight (or a copy of W0, where that is asked for or is hardly larger).
Nothing here writes into a model. Weights are worked on in bands that fit a core's cache, in memory that
all layers of a move take turns in: a fold is bound by how often the weights go through memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple, final

import torch
from torch import Tensor

from counterpoise.errors import StateError, UsageError, shown
from counterpoise.lora.compiled.rows import ChangedError, Rows, Sums, Whole, usable, write
from counterpoise.lora.correction import Correction, Differences
from counterpoise.lora.correction_codes import Codes, CodeWriter
from counterpoise.lora.lowrank import LowRank
from counterpoise.lora.stack import Entries, acts, dense_rest, needs_base, stacked, wide_enough
from counterpoise.lora.threads import torch_threads
from counterpoise.lora.update import Update, uncast
from counterpoise.lora.weights import Checksum, checksum

LARGEST_SHARE = 0.5  # of the weight's bytes; a correction past it is replaced by a copy
BAND = 2**17  # weights worked on at a time


@final
@dataclass(frozen=True, slots=True, eq=False)
class Folding:
    """What has to be known of a folded layer.

    stack: in factors of its own, so that nobody can change them before they are subtracted again.
    exact: what the sum was accumulated in. device, threads: a product of floats has the same bits only
    where it is computed alike. checksum: of the folded weight; None while it is being folded. rows: what
    folded it in place, row by row, and then keeps W0 too, unless that is kept whole.
    """

    stack: Entries
    exact: torch.dtype
    device: torch.device
    threads: int
    kept: Correction | Codes | Rows | Tensor
    checksum: Checksum | None
    rows: Rows | None = None

    @property
    def nbytes(self) -> int:
        """Memory that the way back takes, the factors aside."""
        return self.kept.nbytes


@final
class Scratch:
    """Memory by purpose, which the next layer overwrites: fresh pages cost more than the sums."""

    def __init__(self) -> None:
        self._flat: dict[tuple[str, torch.device], Tensor] = {}

    def take(
        self, purpose: str, shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """An uninitialised tensor; the one that was taken for this purpose before is no longer good."""
        size = math.prod(shape) * dtype.itemsize
        flat = self._flat.get((purpose, device))
        if flat is None or flat.numel() < size:
            flat = self._flat[purpose, device] = torch.empty(size, dtype=torch.uint8, device=device)
        return flat[:size].view(dtype).view(shape)


def fold_weight(
    original: Tensor,
    stack: Entries,
    *,
    dtype: torch.dtype,
    path: str,
    copy: bool,
    scratch: Scratch,
    kept: Tensor | None = None,
    into: Tensor | None = None,
) -> tuple[Tensor, Folding]:
    """W0 plus the whole stack, accumulated in `dtype` or wider and rounded once; and the way back.

    The value lies in `scratch`, or in `into` (contiguous, not W0 itself). copy: keep all of W0. kept: the
    copy of it that there is already. UsageError E_OVERFLOW if a finite weight would become infinite or NaN.
    """
    exact = wide_enough(dtype, original.dtype)
    with torch.inference_mode(False), torch.no_grad():
        own = tuple(entry._replace(update=_snapshot(entry.update)) for entry in stack)
        base = original.detach().contiguous()
        copy = copy or needs_base(own)  # what is relative to W0 cannot be subtracted without it
        found = None if copy else _writer(base)
        value = into
        if value is None:
            value = scratch.take("folded", tuple(base.shape), dtype=base.dtype, device=base.device)
        _fold(
            base,
            value,
            _Sum(own, base, device=base.device, exact=exact, scratch=scratch),
            found=found,
            path=path,
        )
        correction = None if found is None else found.correction()
        small = correction is not None and correction.nbytes <= LARGEST_SHARE * base.nbytes
        whole = kept if kept is not None or small else base.clone()
        back = correction if correction is not None and small else whole
        assert back is not None
    here = (original.device, torch.get_num_threads())
    return value, Folding(own, exact, *here, kept=back, checksum=checksum(value))


def rows_fit(weight: Tensor, stack: Entries, *, dtype: torch.dtype) -> bool:
    """Whether the stack can be folded in place by rows."""
    acting = [entry.update for entry in stack if entry.strength != 0.0]
    return (
        all(isinstance(update, LowRank) for update in acting)
        and usable(weight, exact=wide_enough(dtype, weight.dtype))
        and acts(stack)
    )


@final
class InRows(NamedTuple):
    """A layer about to be folded in place by rows: `folding`, without its checksum yet, over what `before`
    folded, if it did; wanted: W0's checksum."""

    path: str
    weight: Tensor
    folding: Folding
    before: Folding | None
    wanted: Checksum


def fold_in_rows(
    weight: Tensor, stack: Entries, *, dtype: torch.dtype, copy: bool, kept: Tensor | None
) -> Folding:
    """How a stack for which `rows_fit` will be folded in place by rows; nothing is written yet.

    kept: the copy of W0 that there is already; else, with `copy`, the weight as it is becomes it.
    """
    exact = wide_enough(dtype, weight.dtype)
    pair = stacked(stack, device=weight.device, dtype=exact)
    assert pair is not None
    rows = Rows(weight, pair, keep=not copy)
    whole: Tensor | Rows = rows
    if copy:
        with torch.inference_mode(False), torch.no_grad():
            whole = weight.detach().clone() if kept is None else kept
    return Folding((), exact, weight.device, 1, kept=whole, checksum=None, rows=rows)


def fold_rows(layers: Sequence[InRows]) -> Iterator[Folding]:
    """Fold layers of one dtype, all of them with W0 kept whole or none; in their order, as they then are.

    UsageError E_OVERFLOW, StateError E_ORIGINAL, ChangedError at the layer whose turn it is: the weights,
    some of the later ones too, are then to be taken back.
    """
    if not isinstance(layers[0].folding.kept, Tensor):
        for layer in layers:
            yield _fold_noting(layer)
        return
    found = write([_whole(layer) for layer in layers])
    for layer, (sums, infinite) in zip(layers, found, strict=False):
        yield _checked(layer, sums, infinite)
    if len(found) < len(layers):
        raise ChangedError


def _whole(layer: InRows) -> Whole:
    own, before = layer.folding, layer.before
    assert own.rows is not None
    assert isinstance(own.kept, Tensor)
    return Whole(own.rows, layer.weight, own.kept, None if before is None else before.rows)


def _fold_noting(layer: InRows) -> Folding:
    weight, rows, before = layer.weight, layer.folding.rows, layer.before
    assert rows is not None
    if before is None:
        sums, infinite = rows.fold(weight)
    else:
        assert isinstance(before.kept, Rows)
        back, sums, infinite = rows.replace(weight, before.kept)
        if back is None or back.after != layer.wanted.words:
            raise not_original(layer.path)
    folding = _checked(layer, sums, infinite)
    if rows.nbytes <= LARGEST_SHARE * weight.nbytes:
        return folding
    rows.unfold(weight)
    kept = weight.detach().clone()
    rows.again(weight)
    return replace(folding, kept=kept)


def _checked(layer: InRows, sums: Sums | None, infinite: bool) -> Folding:
    """The folding with its checksum, if it came from the W0 that is wanted and stayed finite."""
    if sums is None or sums.before != layer.wanted.words:
        raise ChangedError if layer.before is None else not_original(layer.path)
    if infinite:
        raise _overflow(layer.weight, layer.path)
    return replace(layer.folding, checksum=layer.wanted._replace(words=sums.after))


def unfold_weight(
    weight: Tensor, folding: Folding, *, wanted: Checksum, path: str, scratch: Scratch
) -> Tensor:
    """W0 from a weight that is as it was folded, in `scratch` or as it is kept.

    StateError E_ORIGINAL where it cannot be had: the weight was changed, or the machine computes otherwise.
    """
    with torch.inference_mode(False), torch.no_grad():
        # The first is right unless somebody changed the library.
        for threads in (folding.threads, 1, 2, 4, 8):
            value = _recovered(weight, folding, threads=threads, scratch=scratch)
            if checksum(value) == wanted:
                return value
            if isinstance(folding.kept, Tensor | Rows):
                break
    raise not_original(path)


def not_original(path: str) -> StateError:
    """The error for a W0 that did not come back."""
    reason = f"the kept original of {shown(path)} is not what was hashed at mount; reload the model"
    return StateError(reason, code="E_ORIGINAL")


def refolded(original: Tensor, folding: Folding, *, path: str, scratch: Scratch) -> Tensor:
    """The folded weight again, by the bytes that it had; StateError E_ORIGINAL where they cannot be had."""
    with torch.inference_mode(False), torch.no_grad(), torch_threads(folding.threads):
        base = original.detach().to(folding.device).contiguous()
        if folding.rows is not None:
            value = folding.rows.refolded(base)
        else:
            value = _refolded(base, folding, path=path, scratch=scratch)
    if checksum(value) != folding.checksum:
        reason = f"the folded weight of {shown(path)} cannot be computed again; reload the model"
        raise StateError(reason, code="E_ORIGINAL")
    return value


def _refolded(base: Tensor, folding: Folding, *, path: str, scratch: Scratch) -> Tensor:
    value = scratch.take("folded", tuple(base.shape), dtype=base.dtype, device=base.device)
    update = _Sum(folding.stack, base, device=base.device, exact=folding.exact, scratch=scratch)
    _fold(base, value, update, found=None, path=path)
    return value


def _writer(base: Tensor) -> Differences | CodeWriter:
    """Two bits a weight where that is little; of weights of two bytes, only those that differ."""
    size = base.numel()
    return Differences(size) if base.element_size() == 2 else CodeWriter(size, base)


@final
class _Sum:
    """A stack's sum, a band of rows at a time: the same bands give the same bits.

    base: W0, or a weight of its shape where no update is relative to W0.
    """

    def __init__(
        self, stack: Entries, base: Tensor, *, device: torch.device, exact: torch.dtype, scratch: Scratch
    ) -> None:
        self.exact = exact
        rest = dense_rest(stack, device=device, dtype=exact, base=base)
        pair = stacked(stack, device=device, dtype=exact)
        self._pair = None if pair is None else (pair[0].flatten(1), pair[1].flatten(1))
        self.acts = base.numel() > 0 and (self._pair is not None or rest is not None)
        rows = base.shape[0] if base.numel() else 0
        self.width = base.numel() // max(1, rows)
        self._rest = None if rest is None else rest.reshape(rows, self.width)
        step = max(4, BAND // max(1, self.width) // 4 * 4)
        self.bands = [slice(i, min(i + step, rows)) for i in range(0, rows, step)]
        self._room = scratch.take("sum", (min(step, rows), self.width), dtype=exact, device=device)

    def rows(self, band: slice) -> Tensor:
        """The rows of the sum, float32 or float64 [band, width], good until the next call."""
        out = self._room[: band.stop - band.start]
        if self._pair is None:
            assert self._rest is not None
            return out.copy_(self._rest[band])
        with uncast(out):
            torch.mm(self._pair[1][band], self._pair[0], out=out)
        return out if self._rest is None else out.add_(self._rest[band])


def _fold(
    base: Tensor, value: Tensor, update: _Sum, *, found: Differences | CodeWriter | None, path: str
) -> None:
    """`value` = `base` plus the sum; `found` gathers what subtracting it again does not bring back."""
    if not update.acts:
        value.copy_(base)
        return
    before, after = base.reshape(-1, update.width), value.view(-1, update.width)
    for band in update.bands:
        add, old, new = update.rows(band), before[band], after[band]
        if old.dtype == update.exact:
            torch.add(old, add, out=new)
        else:
            new.copy_(add + old)
        # The sum of large finite weights can be infinite, so it only acquits.
        if not math.isfinite(float(new.sum(dtype=update.exact))):
            check_finite(new, old, path)
        if found is not None:
            found.add(old, _without(new, add), begin=band.start * update.width)


def _without(folded: Tensor, add: Tensor) -> Tensor:
    """The estimate of W0 from a band; `add` is used up."""
    return torch.sub(folded, add, out=add) if folded.dtype == add.dtype else (folded - add).to(folded.dtype)


def _recovered(weight: Tensor, folding: Folding, *, threads: int, scratch: Scratch) -> Tensor:
    if isinstance(folding.kept, Tensor):
        return folding.kept
    if isinstance(folding.kept, Rows):
        return folding.kept.unfolded(weight)
    folded = weight.detach().to(folding.device).contiguous()
    value = scratch.take("original", tuple(folded.shape), dtype=folded.dtype, device=folded.device)
    with torch_threads(threads):
        update = _Sum(folding.stack, folded, device=folding.device, exact=folding.exact, scratch=scratch)
        if update.acts:
            before, after = folded.view(-1, update.width), value.view(-1, update.width)
            for band in update.bands:
                if before.dtype == folding.exact:
                    torch.sub(before[band], update.rows(band), out=after[band])
                else:
                    after[band] = before[band] - update.rows(band)
        else:
            value.copy_(folded)
    return folding.kept.apply_(value)


def _snapshot(update: Update) -> Update:
    if isinstance(update, LowRank):
        return replace(update, down=update.down.detach().clone(), up=update.up.detach().clone())
    return deepcopy(update)


def check_finite(value: Tensor, original: Tensor, path: str) -> None:
    """UsageError E_OVERFLOW if a weight of `original` that is finite is not so in `value`."""
    if not bool((value.isfinite() | ~original.isfinite()).all()):
        raise _overflow(original, path)


def _overflow(weight: Tensor, path: str) -> UsageError:
    biggest = torch.finfo(weight.dtype).max
    reason = f"folding into {shown(path)} exceeds what {weight.dtype} holds ({biggest:g})"
    return UsageError(f"{reason}; lower the strength or use a wider dtype", code="E_OVERFLOW")

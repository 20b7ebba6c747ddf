"""One layer's weight with a stack folded into it, and how W0 comes back.

In: a weight, its stack, the sha256 of W0. Out: the folded weight and a `Folding`: what to subtract again
and a correction of a few bits a weight (or a copy of W0, where that is asked for or is hardly larger).
Nothing here writes into a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from counterpoise.errors import StateError, UsageError
from counterpoise.lora.correction import Correction
from counterpoise.lora.lowrank import LowRank
from counterpoise.lora.names import shown
from counterpoise.lora.stack import Entries, dense_update, needs_base, wide_enough
from counterpoise.lora.update import Update
from counterpoise.lora.weights import tensor_digest

LARGEST_SHARE = 0.5  # of the weight's bytes; a correction past it is replaced by a copy


@final
@dataclass(frozen=True, slots=True, eq=False)
class Folding:
    """What has to be known of a folded layer.

    stack: in factors of its own, so that nobody can change them before they are subtracted again.
    exact: what the sum was accumulated in. device, threads: a product of floats has the same bits only
    where it is computed alike. digest: sha256 of the folded weight.
    """

    stack: Entries
    exact: torch.dtype
    device: torch.device
    threads: int
    kept: Correction | Tensor
    digest: str

    @property
    def nbytes(self) -> int:
        """Memory that the way back takes, the factors aside."""
        return self.kept.nbytes


def fold_weight(
    original: Tensor, stack: Entries, *, dtype: torch.dtype, path: str, copy: bool
) -> tuple[Tensor, Folding]:
    """W0 plus the whole stack, accumulated in `dtype` or wider and rounded once; and the way back.

    copy: keep all of W0. UsageError E_OVERFLOW if a finite weight would become infinite or NaN.
    """
    exact = wide_enough(dtype, original.dtype)
    with torch.inference_mode(False), torch.no_grad():
        own = tuple(entry._replace(update=_snapshot(entry.update)) for entry in stack)
        value, update = _sum(original, own, device=original.device, exact=exact)
        copy = copy or needs_base(own)  # what is relative to W0 cannot be subtracted without it
        _check_finite(value, original, path)
        kept = original.clone() if copy else _correction(original, _estimate(value, update))
    here = (original.device, torch.get_num_threads())
    return value, Folding(own, exact, *here, kept=kept, digest=tensor_digest(value))


def unfold_weight(weight: Tensor, folding: Folding, *, digest: str, path: str) -> Tensor:
    """W0 from a weight that is as it was folded, proven to be the bytes that were hashed.

    StateError E_ORIGINAL where it cannot be had: the weight was changed, or the machine computes otherwise.
    """
    with torch.inference_mode(False), torch.no_grad():
        for threads in (folding.threads, 1, 2, 4, 8):  # the first is right unless somebody changed the library
            value = _recovered(weight, folding, threads=threads)
            if tensor_digest(value) == digest:
                return value
            if isinstance(folding.kept, Tensor):
                break
    reason = f"the kept original of {shown(path)} is not what was hashed at mount; reload the model"
    raise StateError(reason, code="E_ORIGINAL")


def refolded(original: Tensor, folding: Folding, *, path: str) -> Tensor:
    """The folded weight again, by the bytes that it had; StateError E_ORIGINAL where they cannot be had."""
    with torch.inference_mode(False), torch.no_grad(), _threads(folding.threads):
        value = _sum(original, folding.stack, device=folding.device, exact=folding.exact)[0]
    if tensor_digest(value) != folding.digest:
        reason = f"the folded weight of {shown(path)} cannot be computed again; reload the model"
        raise StateError(reason, code="E_ORIGINAL")
    return value


def _sum(
    original: Tensor, stack: Entries, *, device: torch.device, exact: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    update = dense_update(stack, device=device, dtype=exact, base=original)
    if update is None:
        return original.clone(), None
    return (original.to(device, exact) + update).to(original.dtype), update


def _snapshot(update: Update) -> Update:
    if isinstance(update, LowRank):
        return replace(update, down=update.down.detach().clone(), up=update.up.detach().clone())
    return deepcopy(update)


def _estimate(folded: Tensor, update: Tensor | None) -> Tensor:
    if update is None:
        return folded.contiguous()
    return (folded.to(update.dtype) - update).to(folded.dtype).contiguous()


def _correction(original: Tensor, estimate: Tensor) -> Correction | Tensor:
    found = Correction.between(original, estimate)
    return found if found.nbytes <= LARGEST_SHARE * original.nbytes else original.clone()


def _recovered(weight: Tensor, folding: Folding, *, threads: int) -> Tensor:
    if isinstance(folding.kept, Tensor):
        return folding.kept
    with _threads(threads):
        update = dense_update(folding.stack, device=folding.device, dtype=folding.exact)
    return folding.kept.applied(_estimate(weight.to(folding.device), update))


def _check_finite(value: Tensor, original: Tensor, path: str) -> None:
    if not bool((value.isfinite() | ~original.isfinite()).all()):
        biggest = torch.finfo(original.dtype).max
        reason = f"folding into {shown(path)} exceeds what {original.dtype} holds ({biggest:g})"
        raise UsageError(f"{reason}; lower the strength or use a wider dtype", code="E_OVERFLOW")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != before:
            torch.set_num_threads(before)

"""A layer folded where it lies, some rows at a time, by compiled loops.

In: a weight and the pair of factors of its stack. Out: the folded weight in its own memory, and a `Rows`:
the way back, which knows of every block of rows whether it is folded, so that a move that was interrupted
anywhere is undone or finished by the same calls. A call works on one thread and lets others run: see
`together`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from counterpoise.lora.compiled import kernels
else:
    kernels = None  # until a weight needs them: importing numba takes half a second

LEAST = 2**16
"""Weights from which a layer is folded so: below, the calls cost more than the sums."""
_BLOCK = 2**14  # weights that are worked on at a time: a few rows, all of which fit a core's cache

_WORDS = np.zeros(0, np.int32), np.zeros(0, np.uint16)
_Memory = tuple[np.ndarray, np.ndarray]


class Sums(NamedTuple):
    """Checksums' words before and after a call that changed all blocks."""

    before: int
    after: int


class ChangedError(Exception):
    """Others have written over a folded block, which is left as it is."""


def usable(weight: Tensor, *, exact: torch.dtype) -> bool:
    """Whether a weight can be folded in place by rows, with sums in float32."""
    return (
        exact == torch.float32
        and weight.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and weight.numel() >= LEAST
        and (weight.numel() // weight.shape[0]) * weight.element_size() % 8 == 0
        and reachable(weight)
        and _loaded()
    )


@lru_cache(maxsize=1)
def _loaded() -> bool:
    """Load the kernels; False where numba lags behind the newest Python: torch then does the work."""
    global kernels  # noqa: PLW0603
    try:
        from counterpoise.lora.compiled import kernels
    except ImportError:
        return False
    return True


def reachable(weight: Tensor) -> bool:
    """Whether rows can be written where they lie; a weight may have been moved since it was folded."""
    here = weight.device.type == "cpu" and weight.is_contiguous() and not weight.is_inference()
    return here and weight.data_ptr() % 8 == 0


@final
class Rows:
    """A stack in the rows of one weight. down [rank, width], up [rows, rank]: float32, nobody else's.

    keep: note what W0 needs to come back; else the caller has all of it.
    """

    def __init__(self, weight: Tensor, pair: tuple[Tensor, Tensor], *, keep: bool = True) -> None:
        self._down, self._up = (side.flatten(1).contiguous().numpy() for side in pair)
        self._kind = _kind(weight.dtype)
        rows = weight.shape[0]
        self._width = weight.numel() // rows
        self._block = max(1, min(rows, _BLOCK // self._width))
        blocks = -(-rows // self._block)
        self._folded = np.zeros(blocks, np.uint8)
        self._keep = keep
        wide = keep and self._kind == kernels.FLOAT32
        self._codes = np.zeros((blocks, -(-self._block * self._width // 32) * 8 if wide else 0), np.uint8)
        self._counts = np.zeros(blocks, np.int32)
        self._after = np.zeros(blocks, np.int64)
        self._notes = np.zeros(weight.numel() // 16 + 8 * self._block * self._width if keep else 0, np.uint8)
        self._report = np.zeros(kernels.REPORT, np.int64)

    @property
    def nbytes(self) -> int:
        """Memory that the way back takes, the factors aside."""
        return sum(array.nbytes for array in self._state)

    def fold(self, weight: Tensor) -> tuple[Sums | None, bool]:
        """Fold the blocks that are not; (checksums, whether a finite weight became infinite or NaN).

        The sums are None where some blocks already were folded; so in all that follows.
        """
        self._begin()
        target, room = _memory(weight), self._room()
        while kernels.fold(target, self._kind, self._pair, self._state, room, self._report):
            self._grow()
        self._end(weight)
        return self._sums(self._report), bool(self._report[kernels.OVERFLOW])

    def again(
        self, weight: Tensor, *, source: Tensor | None = None, after: Rows | None = None
    ) -> Sums | None:
        """Fold the blocks that are not, which were before: what is noted of them stays.

        source: W0, where it does not lie in the weight itself; then those are meant that `after` has folded.
        """
        if after is not None:
            self._folded[:] = 1 - after._folded
        written = write([Whole(self, weight, weight if source is None else source)])
        return written[0][0] if written else None

    def unfold(self, weight: Tensor) -> Sums | None:
        """Give the folded blocks W0 back; ChangedError where others have written over them."""
        report = np.zeros(kernels.REPORT, np.int64)
        ended = kernels.unfold(_memory(weight), self._kind, self._pair, self._state, self._room(), report)
        torch.autograd.graph.increment_version(weight)
        if ended == kernels.CHANGED:
            raise ChangedError
        return self._sums(report)

    def replace(self, weight: Tensor, old: Rows) -> tuple[Sums | None, Sums | None, bool]:
        """From `old` to this one, through W0: (checksums to W0, checksums from it, overflow as `fold`'s)."""
        target, report = _memory(weight), np.zeros(kernels.REPORT, np.int64)
        before, reports, room = (old._pair, old._state), (report, self._report), self._room()
        self._begin()
        while True:
            ended = kernels.exchange(target, self._kind, before, (self._pair, self._state), room, reports)
            if ended != kernels.FULL:
                break
            self._grow()
        self._end(weight)
        if ended == kernels.CHANGED:
            raise ChangedError
        return self._sums(report), self._sums(self._report), bool(self._report[kernels.OVERFLOW])

    def unfolded(self, weight: Tensor) -> Tensor:
        """W0 in memory of its own, from a folded weight that may lie anywhere; nothing else changes."""
        value, own = _cpu(weight), copy(self)
        own._folded = np.ones_like(self._folded)
        own.unfold(value)
        return value

    def refolded(self, original: Tensor) -> Tensor:
        """The folded weight in memory of its own, from a W0 that may lie anywhere; nothing else changes."""
        value, own = _cpu(original), copy(self)
        own._folded = np.zeros_like(self._folded)
        own.again(value)
        return value

    @property
    def _pair(self) -> tuple[np.ndarray, np.ndarray]:
        return self._up, self._down

    @property
    def _state(self) -> tuple[np.ndarray, ...]:
        return self._folded, self._codes, self._counts, self._notes, self._after

    def _room(self) -> tuple[np.ndarray, ...]:
        room: tuple[np.ndarray, ...] = kernels.work_memory(self._block, self._width)
        return room

    def _begin(self) -> None:
        used = self._report[kernels.USED]
        self._report[:] = 0
        self._report[kernels.USED] = used

    def _grow(self) -> None:
        self._notes = np.concatenate([self._notes, np.zeros_like(self._notes)])

    def _end(self, weight: Tensor) -> None:
        self._notes = self._notes[: int(self._report[kernels.USED])].copy()
        torch.autograd.graph.increment_version(weight)

    def _sums(self, report: np.ndarray) -> Sums | None:
        if int(report[kernels.DONE]) != len(self._folded):
            return None
        return Sums(int(report[kernels.BEFORE]), int(report[kernels.AFTER]))


class Whole(NamedTuple):
    """A weight to be written from a whole W0, `source`, which may be the weight itself; over: what was folded
    there before, if others may have changed it."""

    rows: Rows
    weight: Tensor
    source: Tensor
    over: Rows | None = None


def write(layers: Sequence[Whole]) -> list[tuple[Sums | None, bool]]:
    """Fold the blocks that are not, of layers of one dtype, in one call; for each as `Rows.fold`.

    As many as come before the first that others have written over, which is left as it is from there on.
    """
    sources = [layer.source.contiguous() for layer in layers]  # as they are, but for a rare one
    alike = list(takewhile(_alike, layers))
    if not alike:
        return []
    table = np.array([_row(layer, source) for layer, source in zip(alike, sources, strict=False)], np.int64)
    reports = np.zeros((len(alike), kernels.REPORT), np.int64)
    kind = alike[0].rows._kind
    done: int = kernels.write(table, _WORDS[kind != kernels.FLOAT32], kind, reports)
    for layer in alike:
        torch.autograd.graph.increment_version(layer.weight)
    return [
        (layer.rows._sums(report), bool(report[kernels.OVERFLOW]))
        for layer, report in zip(alike[:done], reports, strict=False)
    ]


def _alike(layer: Whole) -> bool:
    """Whether a weight still is what its W0 was kept of, in type and size: the loops are told addresses."""
    weight, source, over = layer.weight, layer.source, layer.over
    same = weight.dtype == source.dtype and weight.shape == source.shape
    return same and (over is None or len(over._after) == len(layer.rows._after))


def _row(layer: Whole, source: Tensor) -> tuple[int, ...]:
    own, up, down = layer.rows, layer.rows._up, layer.rows._down
    old = 0 if layer.over is None else layer.over._after.ctypes.data
    arrays = (up.ctypes.data, down.ctypes.data, own._folded.ctypes.data, own._after.ctypes.data, old)
    sizes = (up.shape[0], own._width, up.shape[1], own._block)
    return (source.data_ptr(), layer.weight.data_ptr(), *arrays, *sizes)


def _cpu(weight: Tensor) -> Tensor:
    return torch.empty(weight.shape, dtype=weight.dtype).copy_(weight.detach())


def _memory(weight: Tensor) -> _Memory:
    flat = weight.detach().flatten()
    if weight.element_size() == 4:
        words = flat.view(torch.int32).numpy()
    else:
        words = flat.view(torch.int16).numpy().view(np.uint16)
    return words, words.view(np.int64)


def _kind(dtype: torch.dtype) -> int:
    kinds = {torch.float32: kernels.FLOAT32, torch.bfloat16: kernels.BFLOAT16, torch.float16: kernels.FLOAT16}
    return int(kinds[dtype])

"""Some rows of an update: what a fused layer's file gives to each of the layers that it was fused from.

In: an update and rows of its output. Out: the update of those rows alone, exact: Delta W's rows are the up
factor's rows. And back: the updates of several layers as one of the fused layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from counterpoise.lora.kinds import Biased, DoRA, Full, LoHa, LowRank, Tucker
from counterpoise.lora.update import Update

Rows = slice | list[int]


def _dora(update: DoRA, rows: Rows) -> DoRA | None:
    inner = take_rows(update.inner, rows)
    if inner is None or not update.per_output:  # a column's length depends on all of its rows
        return None
    return DoRA(inner, update.magnitude[rows])


def _loha(update: LoHa, rows: Rows) -> LoHa:
    if update.t1 is not None:
        return replace(update, w1_a=update.w1_a[:, rows], w2_a=update.w2_a[:, rows])
    return replace(update, w1_a=update.w1_a[rows], w2_a=update.w2_a[rows])


def _biased(update: Biased, rows: Rows) -> Biased | None:
    inner = take_rows(update.inner, rows)
    return None if inner is None else replace(update, inner=inner, bias=update.bias[rows])


_TAKE: Mapping[type, Callable[[Any, Rows], Update | None]] = {
    LowRank: lambda u, rows: replace(u, up=u.up[rows]),
    Tucker: lambda u, rows: replace(u, up=u.up[rows]),
    LoHa: _loha,
    Full: lambda u, rows: Full(u.weight[rows], None if u.bias is None else u.bias[rows]),
    DoRA: _dora,
    Biased: _biased,
}


def take_rows(update: Update, rows: Rows) -> Update | None:
    """The update of `rows` of the output, or None for a kind whose rows do not come apart (LoKr)."""
    take = _TAKE.get(type(update))
    return None if take is None else take(update, rows)


def fused(parts: Sequence[Update]) -> LowRank | None:
    """One low-rank update of the rows of `parts`, one below the other, or None if they do not make one.

    Equal downs and alphas, as splitting a fused layer leaves them: the same down, the ups stacked. Otherwise,
    of one rank and alpha: downs stacked, ups block-diagonal, which `unfused` takes apart again.
    """
    pairs = [part for part in parts if isinstance(part, LowRank)]
    first = pairs[0] if len(pairs) == len(parts) else None
    if first is None or any((p.rank, p.alpha) != (first.rank, first.alpha) for p in pairs):
        return None
    if len({(p.down.dtype, p.up.dtype, p.weight_shape[1:]) for p in pairs}) != 1:
        return None
    if all(torch.equal(p.down, first.down) for p in pairs):
        return LowRank(first.down, torch.cat([p.up for p in pairs]), first.alpha)
    sizes = [p.up.shape[0] for p in pairs]
    up = first.up.new_zeros(sum(sizes), first.rank * len(pairs))
    for i, (pair, begin) in enumerate(zip(pairs, _begins(sizes), strict=True)):
        up[begin : begin + sizes[i], i * first.rank : (i + 1) * first.rank] = pair.up
    return LowRank(torch.cat([p.down for p in pairs]), up, first.alpha * len(pairs))


def unfused(update: Update, sizes: Sequence[int]) -> list[Update] | None:
    """The updates of `sizes` consecutive rows each, or None where the kind's rows do not come apart.

    A low-rank pair keeps its whole down in every part; if its ups are block-diagonal, each part gets its own
    block, at the same scale.
    """
    begins = _begins(sizes)
    parts = [take_rows(update, slice(b, b + n)) for b, n in zip(begins, sizes, strict=True)]
    if isinstance(update, LowRank) and update.up.dim() == 2 and update.rank % len(sizes) == 0:
        blocks = _blocks(update, sizes, begins=begins)
        if blocks is not None:
            return blocks
    return None if any(part is None for part in parts) else [part for part in parts if part is not None]


def _begins(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[:i]) for i in range(len(sizes))]


def _blocks(update: LowRank, sizes: Sequence[int], *, begins: Sequence[int]) -> list[Update] | None:
    rank = update.rank // len(sizes)
    rest: Tensor = update.up.clone()
    for i, (begin, size) in enumerate(zip(begins, sizes, strict=True)):
        rest[begin : begin + size, i * rank : (i + 1) * rank] = 0
    # An up of zeros (untrained) says nothing of blocks.
    if len(sizes) == 1 or bool(rest.any()) or not bool(update.up.any()):
        return None
    return [
        LowRank(
            update.down[i * rank : (i + 1) * rank],
            update.up[begin : begin + size, i * rank : (i + 1) * rank],
            update.alpha / len(sizes),
        )
        for i, (begin, size) in enumerate(zip(begins, sizes, strict=True))
    ]

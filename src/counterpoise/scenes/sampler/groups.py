"""Attention in groups of tokens: which queries read which keys, as a few ordinary unmasked calls.

In: parts, each some queries and the keys that they read in one row of a batch. Out: parts of equal counts
stacked, so that each stack is one call of whatever kernel the model uses, without masks or padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""queries, keys, values (groups, tokens, heads, width) -> (groups, tokens, heads, width)."""


class Part(NamedTuple):
    """queries, keys: token numbers in the sequence of batch row `row`; None means all. text: the number of
    the text that is read instead of the sequence's own keys."""

    row: int
    queries: Tensor | None
    keys: Tensor | None = None
    text: int | None = None


class Group(NamedTuple):
    """Parts of equal counts. queries: (parts, tokens) numbers in the batch's rows laid end to end, or a
    slice of whole rows; keys likewise. texts: (parts,) or None."""

    queries: Tensor | slice
    keys: Tensor | slice | None
    texts: Tensor | None


def stacked(parts: Sequence[Part], length: int, device: torch.device) -> tuple[Group, ...]:
    """Groups of the parts of sequences of `length` tokens; a query may be in one part at most."""
    whole = [part.row for part in parts if part.queries is None and part.keys is None and part.text is None]
    found = [
        Group(slice(first, last + 1), slice(first, last + 1), None) for first, last in _runs(sorted(whole))
    ]
    sizes: dict[tuple[int, int, bool], list[tuple[Tensor, Tensor, int]]] = {}
    everything = torch.arange(length)
    for part in parts:
        if part.queries is None and part.keys is None and part.text is None:
            continue
        start = part.row * length
        queries = (everything if part.queries is None else part.queries) + start
        keys = (everything if part.keys is None else part.keys) + start
        if len(queries):
            kind = (len(queries), len(keys), part.text is None)
            sizes.setdefault(kind, []).append((queries, keys, -1 if part.text is None else part.text))
    for (_, _, own_keys), alike in sizes.items():
        queries = torch.stack([queries for queries, _, _ in alike]).to(device)
        if own_keys:
            found.append(Group(queries, torch.stack([keys for _, keys, _ in alike]).to(device), None))
        else:
            found.append(Group(queries, None, torch.tensor([text for *_, text in alike], device=device)))
    return tuple(found)


def attend_in_groups(
    tokens: tuple[Tensor, Tensor, Tensor], groups: Sequence[Group], attend: Attend
) -> Tensor:
    """What each query reads: tokens are queries, keys, values (batch, tokens, heads, width); queries of no
    group come out as zeros."""
    queries, keys, values = tokens
    if len(groups) == 1 and groups[0].queries == slice(0, len(queries)):
        return attend(queries, keys, values)
    out = torch.zeros_like(queries)
    flat = out.view(-1, *out.shape[2:])
    laid = [own.reshape(-1, *own.shape[2:]) for own in tokens]
    for group in groups:
        if isinstance(group.queries, slice):
            rows = group.queries
            out[rows] = attend(queries[rows], keys[rows], values[rows]).to(out.dtype)
        else:
            read = attend(laid[0][group.queries], laid[1][group.keys], laid[2][group.keys])
            flat[group.queries] = read.to(out.dtype)
    return out


def _runs(rows: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each stretch of following numbers."""
    found: list[tuple[int, int]] = []
    for row in rows:
        if found and found[-1][1] == row - 1:
            found[-1] = (found[-1][0], row)
        else:
            found.append((row, row))
    return found

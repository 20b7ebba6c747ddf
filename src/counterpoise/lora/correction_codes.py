"""What folding forgets of W0, as two bits a weight: for weights of four bytes or more.

As `correction`, but dense: no search for the places that differ, which there costs more than the fold itself.
In: W0 and its estimate, band by band. Out: a code for each weight (its bits are the estimate's, or one more
or one less), four to a byte, and apart from them the few weights that are further off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

_INTEGERS = {4: torch.int32, 8: torch.int64}
_CHUNK = 2**17  # weights decoded at a time, so that they stay in a core's cache
_LOW = 0x03030303  # the two low bits of each of four bytes
_GATHER = (1 << 24) | (1 << 18) | (1 << 12) | (1 << 6)  # times four such bytes: their pairs in the top one


@final
@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """codes: uint8 [size / 4], the first weight lowest: 0, 1, 3 (one less) or 2 (kept apart). far_at, far:
    the numbers of those and their own bits."""

    size: int
    codes: Tensor
    far_at: Tensor
    far: Tensor

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self.codes.nbytes + self.far_at.nbytes + self.far.nbytes

    def apply_(self, estimate: Tensor) -> Tensor:
        """Make `estimate`, the same one and contiguous, W0 in place."""
        bits = estimate.detach().flatten().view(_INTEGERS[estimate.element_size()])
        for begin in range(0, self.size, _CHUNK):
            part = bits[begin : begin + _CHUNK]
            code = self.codes[begin // 4 : begin // 4 + -(-len(part) // 4)].int()
            spread = (code | (code << 6) | (code << 12) | (code << 18)).bitwise_and_(_LOW)
            part += spread.view(torch.int8).bitwise_xor_(2).sub_(2)[: len(part)]
        bits[self.far_at.long()] = self.far
        return estimate


@final
class CodeWriter:
    """Gathers `Codes` band by band, in order; every band but the last has a multiple of four weights."""

    def __init__(self, size: int, like: Tensor) -> None:
        """size: weights in all. like: a tensor of their dtype and device."""
        self._size = size
        self._kind = _INTEGERS[like.element_size()]
        self._codes = torch.zeros(-(-size // 4), dtype=torch.uint8, device=like.device)
        self._far: list[tuple[Tensor, Tensor]] = []

    def add(self, original: Tensor, estimate: Tensor, *, begin: int) -> None:
        """A band of both, the first weight of which is number `begin` of the whole."""
        ours, theirs = (side.detach().flatten().view(self._kind) for side in (original, estimate))
        off = torch.sub(ours, theirs).clamp_(-2, 2).to(torch.int8)
        if len(off) % 4:
            off = torch.nn.functional.pad(off, (0, -len(off) % 4))
        code = off.view(torch.int32).bitwise_and(_LOW).mul_(_GATHER).bitwise_right_shift_(24).to(torch.uint8)
        self._codes[begin // 4 : begin // 4 + len(code)] = code
        groups = ((code >> 1) & ~code & 0x55).nonzero().flatten()
        if not len(groups):
            return
        at = (groups[:, None] * 4 + torch.arange(4, device=code.device)).flatten()
        at = at[off[at].abs() == 2]
        self._far.append((at + begin, ours[at]))

    def correction(self) -> Codes:
        """All that was added."""
        if not self._far:
            nowhere = torch.zeros(0, dtype=torch.int32, device=self._codes.device)
            return Codes(self._size, self._codes, nowhere, nowhere.to(self._kind))
        at, far = (torch.cat(parts) for parts in zip(*self._far, strict=True))
        return Codes(self._size, self._codes, at.int() if self._size < 2**31 else at, far)

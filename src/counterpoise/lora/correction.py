"""What folding forgets of W0, in a few bits a weight.

In: W0, and the estimate of it that subtracting the update from the folded weight gives. Out: which weights
the estimate misses and by how many units in the last place, coded so that W0 comes back by bytes. Folding
loses at most the low bits of weights that grew past a power of two, so most estimates are right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_BLOCK = 256  # places are one byte each, counted from the start of their block
_ESCAPE = 15  # steps are four bits each; this one stands for a step that is kept apart
_BIT_WEIGHTS = (1, 2, 4, 8, 16, 32, 64, 128)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """Steps in the order of floats from an estimate to W0, at the places where they differ.

    blocks: how many places each block of 256 weights holds, or None where `places` is a bitmap (what is
    shorter where more than an eighth differ). steps: two to a byte. far: the steps too long for four bits.
    """

    count: int
    blocks: Tensor | None
    places: Tensor
    steps: Tensor
    far: Tensor

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        tensors = (self.blocks, self.places, self.steps, self.far)
        return sum(t.numel() * t.element_size() for t in tensors if t is not None)

    @staticmethod
    def between(original: Tensor, estimate: Tensor) -> Correction:
        """From `estimate` to `original`: contiguous, of one shape, dtype and device; any bit pattern."""
        found = Differences(original.numel())
        found.add(original, estimate, begin=0)
        return found.correction()

    def apply_(self, estimate: Tensor) -> Tensor:
        """Make `estimate`, the same one and contiguous, `original` in place."""
        if self.count:
            bits = _bits(estimate)
            where = self._where(bits.numel())
            code = _apart(self.steps, self.count).long()
            code[code == _ESCAPE] = self.far.long()
            bits[where] = _ordered((_ordered(bits[where]).long() + _zagzig(code + 1)).to(bits.dtype))
        return estimate

    def _where(self, size: int) -> Tensor:
        if self.blocks is None:
            weights = torch.tensor(_BIT_WEIGHTS, dtype=torch.uint8, device=self.places.device)
            return (self.places[:, None] & weights).flatten()[:size].nonzero().flatten()
        block = torch.arange(len(self.blocks), device=self.places.device)
        return block.repeat_interleave(self.blocks.long()) * _BLOCK + self.places.long()


@final
class Differences:
    """Gathers a correction band by band, in order, so that no more than a band is worked on at a time."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._found: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, original: Tensor, estimate: Tensor, *, begin: int) -> None:
        """A band of both, the first weight of which is number `begin` of the whole."""
        ours, theirs = _bits(original), _bits(estimate)
        where = torch.ne(ours, theirs).nonzero().flatten()
        if not len(where):
            return
        code = _zigzag(_ordered(ours[where]).long() - _ordered(theirs[where]).long()) - 1
        # A distance past 2^63 (float64 alone) wraps; the wrapped code may be negative, and is then far.
        is_far = (code >= _ESCAPE) | (code < 0)
        far = code[is_far] if bool(is_far.any()) else code[:0]
        if begin:
            where += begin
        self._found.append((where, code.masked_fill_(is_far, _ESCAPE).to(torch.uint8), far))

    def correction(self) -> Correction:
        """All that was added."""
        nothing = torch.zeros(0, dtype=torch.int64)
        found = self._found or [(nothing, nothing.to(torch.uint8), nothing)]
        where, code, far = (torch.cat(parts) for parts in zip(*found, strict=True))
        steps, far = _pairs(code), _narrow(far)
        if len(where) * 8 > self._size:
            differs = torch.zeros(self._size, dtype=torch.bool, device=where.device)
            differs[where] = True
            return Correction(len(where), None, _bitmap(differs), steps, far)
        blocks = torch.bincount(where // _BLOCK, minlength=-(-self._size // _BLOCK)).to(torch.int16)
        return Correction(len(where), blocks, (where % _BLOCK).to(torch.uint8), steps, far)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().flatten().view(_INTEGERS[tensor.element_size()])


def _ordered(bits: Tensor) -> Tensor:
    """Sign and magnitude <-> the integer that floats are ordered by; its own inverse."""
    return bits ^ ((bits >> (bits.element_size() * 8 - 1)) & torch.iinfo(bits.dtype).max)


def _zigzag(steps: Tensor) -> Tensor:
    return (steps << 1) ^ (steps >> 63)


def _zagzig(code: Tensor) -> Tensor:
    # The top bit must not be smeared by an arithmetic shift.
    return ((code >> 1) & torch.iinfo(torch.int64).max) ^ -(code & 1)


def _narrow(values: Tensor) -> Tensor:
    """In the narrowest integers that hold them."""
    for dtype in (torch.int8, torch.int16, torch.int32):
        limits = torch.iinfo(dtype)
        if not values.numel() or (int(values.min()) >= limits.min and int(values.max()) <= limits.max):
            return values.to(dtype)
    return values


def _pairs(nibbles: Tensor) -> Tensor:
    """Values under 16, two to a byte."""
    if len(nibbles) % 2:
        nibbles = torch.cat([nibbles, nibbles.new_zeros(1)])
    return nibbles[::2] | (nibbles[1::2] << 4)


def _apart(pairs: Tensor, count: int) -> Tensor:
    return torch.stack([pairs & 15, pairs >> 4], 1).flatten()[:count]


def _bitmap(mask: Tensor) -> Tensor:
    """Eight to a byte, the first in the lowest bit."""
    padded = torch.nn.functional.pad(mask.to(torch.uint8), (0, -mask.numel() % 8)).view(-1, 8)
    result = padded[:, 0].clone()
    for i, weight in enumerate(_BIT_WEIGHTS[1:], 1):
        result |= padded[:, i] * weight
    return result

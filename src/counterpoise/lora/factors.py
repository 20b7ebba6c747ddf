"""One layer's factors as they learn, and the starts they learn from.

In: a layer's weight or an update. Out: `Factors`: the parameters, and the update that they are at any moment.
The starts are rows of `INITS`. W0 itself is never changed, whatever the start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from counterpoise.errors import UsageError
from counterpoise.lora.kinds.dora import DoRA
from counterpoise.lora.lowrank import LowRank
from counterpoise.lora.update import Update, full_precision

Pair = tuple[Tensor, Tensor]


@final
@dataclass(frozen=True, eq=False)
class Factors:
    """down, up and, for DoRA, magnitude: parameters. start: a pair whose product is taken off (PiSSA)."""

    down: nn.Parameter
    up: nn.Parameter
    alpha: float
    magnitude: nn.Parameter | None = None
    start: Pair | None = None

    @staticmethod
    def of(update: Update, *, device: torch.device, dtype: torch.dtype, start: LowRank | None) -> Factors:
        """Parameters that begin at `update` (LowRank, or DoRA of one, with lengths of rows)."""
        dora = update if isinstance(update, DoRA) else None
        inner = update if dora is None else dora.inner
        if not isinstance(inner, LowRank) or (dora is not None and not dora.per_output):
            reason = f"an update of kind {update.kind} cannot be trained: expected LoRA, or DoRA of a LoRA"
            raise UsageError(f"{reason} with one length an output", code="E_UNSUPPORTED")

        def copied(tensor: Tensor) -> Tensor:
            return tensor.detach().to(device, dtype, copy=True)

        return Factors(
            nn.Parameter(copied(inner.down)),
            nn.Parameter(copied(inner.up)),
            inner.alpha,
            None if dora is None else nn.Parameter(copied(dora.magnitude)),
            None if start is None else (copied(start.down), copied(start.up)),
        )

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.down.shape[0]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """down, up and, where there is one, magnitude."""
        return [self.down, self.up, *([] if self.magnitude is None else [self.magnitude])]

    def pair(self) -> Pair:
        """down and up as they act, with gradient; with a start they have twice the rank."""
        if self.start is None:
            return self.down, self.up
        return torch.cat([self.down, self.start[0]]), torch.cat([self.up, -self.start[1]], 1)

    def update(self) -> Update:
        """The update as it is now, relative to W0: copies on the CPU, detached."""
        down, up = (factor.detach().to("cpu", copy=True) for factor in self.pair())
        inner = LowRank(down, up, self.alpha * (1 if self.start is None else 2))
        if self.magnitude is None:
            return inner
        return DoRA(inner, self.magnitude.detach().to("cpu", copy=True))

    def holds(self, update: Update) -> bool:
        """Whether `update` could be these factors at another moment: same kind, shapes, scale and start."""
        mine = self.update()
        if type(mine) is not type(update) or mine.alpha != update.alpha:
            return False
        own, other = mine.tensors(), update.tensors()
        if own.keys() != other.keys() or any(own[role].shape != other[role].shape for role in own):
            return False
        if self.start is None:
            return True
        rank, there = self.down.shape[0], [other["down"], other["up"]]
        frozen = (there[0][rank:], -there[1][:, rank:])
        return all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(self.start, frozen, strict=True))

    def load(self, update: Update) -> None:
        """Go on from `update`, which these hold, in place."""
        tensors, rank = update.tensors(), self.down.shape[0]
        with torch.no_grad():
            self.down.copy_(tensors["down"][:rank])
            self.up.copy_(tensors["up"][:, :rank])
            if self.magnitude is not None:
                self.magnitude.copy_(tensors["magnitude"])


def kaiming(weight: Tensor, rank: int, alpha: float, generator: torch.Generator) -> LowRank:
    """down Kaiming-uniform, up zero: the update starts as nothing (section 4.1, arXiv:2106.09685)."""
    down = torch.empty(rank, *weight.shape[1:])
    # peft's and the paper's code's start: a = sqrt(5) makes the bound 1 / sqrt(fan_in).
    nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=generator)
    return LowRank(down, torch.zeros(weight.shape[0], rank, *(1 for _ in weight.shape[2:])), alpha)


def pissa(weight: Tensor, rank: int, alpha: float, generator: torch.Generator) -> LowRank:
    """The `rank` largest singular directions of W0: scale * up @ down is its best approximation of that rank,
    the values' roots on both sides (Eq. 2 and 3, arXiv:2404.02948). Draws nothing from `generator`.

    UsageError E_RANK for a rank above W0's smaller side, E_ALPHA for an alpha that is not positive.
    """
    flat = weight.detach().to("cpu", torch.float64).flatten(1)
    if rank > min(flat.shape):
        reason = f"rank {rank} is more than {min(flat.shape)}, the smaller side of {list(weight.shape)}"
        raise UsageError(f"{reason}, a weight whose directions init='pissa' takes", code="E_RANK")
    if not alpha > 0:
        raise UsageError(f"alpha is {alpha}: init='pissa' divides by it; expected above 0", code="E_ALPHA")
    wide = flat.shape[0] <= flat.shape[1]
    side = flat if wide else flat.T
    with full_precision(flat):
        # The Gram matrix of the smaller side: a tenth of an SVD's time, and the largest values lose nothing.
        squares, vectors = torch.linalg.eigh(side @ side.T)
        squares, vectors = squares.flip(0)[:rank].clamp_min(0), vectors.flip(1)[:, :rank]
        values = squares.sqrt()
        known = values > values[0] * max(flat.shape) * 1e-8
        root = (values * known).sqrt()
        one = vectors * root
        other = torch.where(known, 1 / root, 0.0)[:, None] * (vectors.T @ side)
    up, down = (one, other) if wide else (other.T, one.T)
    share = math.sqrt(rank / alpha)  # half of 1 / scale on each side
    ones = (1,) * (weight.dim() - 2)
    dtype = torch.promote_types(torch.float32, weight.dtype)
    return LowRank(
        (down * share).reshape(rank, *weight.shape[1:]).to(dtype).contiguous(),
        (up * share).reshape(weight.shape[0], rank, *ones).to(dtype).contiguous(),
        alpha,
    )


Init = Callable[[Tensor, int, float, torch.Generator], LowRank]
INITS: Mapping[str, Init] = {"kaiming": kaiming, "pissa": pissa}

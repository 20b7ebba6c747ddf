"""How strongly each adapter acts on each sample, each token and at each step, without restacking.

In: strengths by name for the samples of a batch, masks, or the strengths of this step. Out: for a layer's
stack a gate, which multiplies the hidden values between down and up: the factors stay where they are, so a
change costs one small tensor a layer, however many adapters there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoise.errors import UsageError, shown

Spans = tuple[tuple[str, int, float], ...]  # name, rank and mounted strength of a stack's entries, in order


@final
class Gates:
    """What a host's layers obey beyond the mounted strengths; inactive until something is set.

    rows: strengths by name for each sample, absent names 0. A batch of k times as many samples takes them
    k times over, as guidance stacks its halves. masks: name -> [tokens] or [height, width] in any range.
    now: strengths by name that hold at this step instead of the mounted ones.
    """

    def __init__(self) -> None:
        self.rows: tuple[Mapping[str, float], ...] | None = None
        self.masks: Mapping[str, Tensor] = {}
        self.now: Mapping[str, float] = {}
        self._made: dict[Any, Tensor] = {}

    @property
    def active(self) -> bool:
        """Whether anything is set."""
        return self.rows is not None or bool(self.masks) or bool(self.now)

    def set(self, settings: Mapping[str, Any]) -> None:
        """Change `rows`, `masks` or `now`."""
        for key, value in settings.items():
            setattr(self, key, value)
        self._made.clear()

    def __call__(self, hidden: Tensor, spans: Spans, *, channels: int, groups: int = 1) -> Tensor:
        """`hidden` times the strengths; its first axis is the batch, axis `channels` the stack's ranks,
        `groups` times over."""
        key = (spans, channels, groups, tuple(hidden.shape), hidden.device, hidden.dtype)
        gate = self._made.get(key)
        if gate is None:
            gate = self._made[key] = self._make(hidden, spans, channels=channels, groups=groups)
        return hidden * gate

    def _make(self, hidden: Tensor, spans: Spans, *, channels: int, groups: int) -> Tensor:
        rows = self._strengths(spans)
        if rows.shape[0] > 1 and hidden.shape[0] % rows.shape[0]:
            raise UsageError(
                f"strengths for {rows.shape[0]} samples, but a layer sees a batch of {hidden.shape[0]}; give "
                "one row a sample",
                code="E_BATCH",
            )
        if rows.shape[0] > 1:
            rows = rows.repeat(hidden.shape[0] // rows.shape[0], 1)
        rows = rows.to(hidden.device, hidden.dtype)
        axes = (1,) * (hidden.ndim - 2)
        if channels == 1:
            gate = rows.repeat(1, groups).reshape(rows.shape[0], -1, *axes)
        else:
            gate = rows.reshape(rows.shape[0], *axes, -1)
        for mask, columns in self._masks(hidden, spans, channels=channels):
            index = columns.repeat(groups).to(hidden.device)
            shape = (1, -1, *axes) if channels == 1 else (1, *axes, -1)
            gate = gate * torch.where(index.reshape(shape), mask.to(hidden.device, hidden.dtype), 1.0)
        return gate

    def _strengths(self, spans: Spans) -> Tensor:
        """float64 [samples or 1, ranks]."""
        if self.rows is None:
            table = [[self.now.get(name, mounted) for name, _, mounted in spans]]
        else:
            table = [[row.get(name, 0.0) for name, _, _ in spans] for row in self.rows]
        ranks = torch.tensor([rank for _, rank, _ in spans])
        return torch.tensor(table, dtype=torch.float64).repeat_interleave(ranks, dim=1)

    def _masks(self, hidden: Tensor, spans: Spans, *, channels: int) -> list[tuple[Tensor, Tensor]]:
        found = []
        ranks = torch.tensor([rank for _, rank, _ in spans])
        for name, mask in self.masks.items():
            mine = torch.tensor([own == name for own, _, _ in spans]).repeat_interleave(ranks)
            fitted = fitted_mask(mask, hidden.shape, channels=channels)
            if fitted is not None and bool(mine.any()):
                found.append((fitted, mine))
        return found


@final
class Clock:
    """Moves a schedule of strengths from step to step."""

    def __init__(self, gates: Gates, schedule: Mapping[str, Sequence[float]]) -> None:
        self._gates = gates
        self._schedule = schedule

    def strengths(self, step: int) -> dict[str, float]:
        """What holds at `step`, counted from 0."""
        return {name: values[min(step, len(values) - 1)] for name, values in self._schedule.items()}

    def at(self, step: int) -> None:
        """Let the strengths of `step` hold from now on."""
        self._gates.set({"now": self.strengths(step)})

    def callback(
        self, _pipeline: object, step: int, _timestep: object, kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """For `callback_on_step_end`: step `step` is over, the next one's strengths hold."""
        self.at(step + 1)
        return kwargs


def fitted_mask(mask: Tensor, shape: Sequence[int], *, channels: int) -> Tensor | None:
    """`mask` as it multiplies hidden values of `shape`, or None where their tokens are not the mask's.

    A picture's mask [height, width] is averaged down to a feature map, or to a sequence of as many tokens as
    a picture of its proportions has; a sequence's mask [tokens] fits that many tokens alone.
    """
    if channels == 1:
        fits = mask.ndim == 2 and len(shape) == 4
        return F.interpolate(mask[None, None].float(), size=tuple(shape[2:]), mode="area") if fits else None
    return _mask_of_tokens(mask, shape[1]) if len(shape) == 3 else None


def _mask_of_tokens(mask: Tensor, tokens: int) -> Tensor | None:
    if mask.ndim == 1:
        return mask[None, :, None] if len(mask) == tokens else None
    height = round((tokens * mask.shape[0] / mask.shape[1]) ** 0.5)
    if height < 1 or tokens % height or height > mask.shape[0] or tokens // height > mask.shape[1]:
        return None
    if abs(tokens / height / height - mask.shape[1] / mask.shape[0]) > 1e-6:
        return None
    small = F.interpolate(mask[None, None].float(), size=(height, tokens // height), mode="area")
    return small.reshape(1, tokens, 1)


def check_mask(name: str, mask: object) -> Tensor:
    """`mask` if it is a finite tensor of one or two axes; else UsageError E_MASK."""
    if not isinstance(mask, Tensor) or mask.ndim not in (1, 2) or not mask.numel():
        kind = list(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        reason = f"mask of {shown(name)!r} is {kind}: expected a tensor [tokens] or [height, width]"
        raise UsageError(reason, code="E_MASK")
    if not bool(mask.isfinite().all()):
        raise UsageError(f"mask of {shown(name)!r} holds NaN or infinite values", code="E_MASK")
    return mask

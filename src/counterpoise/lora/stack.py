"""All the adapters on one layer as a single pair of factors.

In: a layer's entries in canonical order. Out: one down and one up whose product is the sum of all
updates at their strengths; used as two matrix products beside the weight, or as one added to it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from counterpoise.lora.layers import KINDS
from counterpoise.lora.lowrank import LowRank, product


class Entry(NamedTuple):
    """One adapter's update of one layer."""

    name: str
    update: LowRank
    strength: float


Entries = tuple[Entry, ...]


def stacked(entries: Entries, *, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """Concatenated down and up in `dtype`, up's columns times scale * strength; None if nothing acts.

    An entry of strength 0 is left out, so that it is exactly as if it were not mounted.
    """
    acting = [entry for entry in entries if entry.strength * entry.update.scale != 0.0]
    if not acting:
        return None
    # A caller in inference mode must not make the factors unusable in a later training step.
    with torch.inference_mode(False), torch.no_grad():
        # float64 until the end: a half-precision factor is scaled without a rounding of its own.
        ups = [e.update.up.detach().to(device, torch.float64) * (e.strength * e.update.scale) for e in acting]
        downs = [e.update.down.detach().to(device, dtype) for e in acting]
        return torch.cat(downs, 0), torch.cat(ups, 1).to(dtype)


def wide_enough(dtype: torch.dtype, own: torch.dtype) -> torch.dtype:
    """What a sum onto weights of dtype `own` is accumulated in, where at least `dtype` is asked for."""
    wide = torch.promote_types(dtype, own)
    # A process that allows TF32 or bfloat16 products would lose bits in float32 ones; float64 is exempt.
    return wide if torch.get_float32_matmul_precision() == "highest" else torch.float64


def dense_update(entries: Entries, *, device: torch.device, dtype: torch.dtype) -> Tensor | None:
    """The stack's sum in the weight's shape, computed in `dtype`; None if nothing acts."""
    pair = stacked(entries, device=device, dtype=dtype)
    return None if pair is None else product(*pair)


@final
class Beside:
    """A forward hook that adds a layer's stack to its output: output + up(down(x))."""

    def __init__(self, layer: nn.Module, entries: Entries) -> None:
        self.layer = layer
        self.entries = entries
        self._handle: RemovableHandle | None = None
        self._pair: tuple[Tensor, Tensor] | None = None
        self._built_for: tuple[torch.device, torch.dtype] | None = None

    def attach(self) -> None:
        """Hook onto the layer, before other hooks: they see the output that the folded layer would give."""
        # The layer itself is asked, so that an interrupt anywhere in here or in detach leaves no wrong note.
        if self._handle is None or self._handle.id not in self.layer._forward_hooks:
            self._handle = self.layer.register_forward_hook(self, with_kwargs=True, prepend=True)

    def detach(self) -> None:
        """Leave the layer; again is the same."""
        if self._handle is not None:
            self._handle.remove()

    def pair(self, weight: Tensor) -> tuple[Tensor, Tensor] | None:
        """The stack in the weight's dtype on its device: made when first needed, and again after a move."""
        key = (weight.device, weight.dtype)
        if self._built_for != key:
            self._pair = stacked(self.entries, device=weight.device, dtype=weight.dtype)
            if self._pair is not None and not all(bool(factor.isfinite().all()) for factor in self._pair):
                # Finite factors can exceed float16 where their product does not.
                self._pair = stacked(self.entries, device=weight.device, dtype=torch.float32)
            self._built_for = key
        return self._pair

    def __call__(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        pair = self.pair(layer.weight)
        return output if pair is None else add_beside(layer, args, kwargs, output=output, pair=pair)


def add_beside(
    layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, output: Tensor, pair: tuple[Tensor, Tensor]
) -> Tensor:
    """`output` plus the update of the layer's input, in the output's dtype; autocast is obeyed."""
    x = args[0] if args else kwargs["input"]
    down, up = pair
    update = KINDS[type(layer)].beside(layer, x.to(down.dtype), down, up)
    return output + update.to(output.dtype)

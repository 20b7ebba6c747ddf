"""Factors to be trained beside a frozen model.

In: a module, pipeline or Host, the layers to adapt, a rank and a generator. Out: parameters for any
optimiser, and snapshots as an `Adapter`. The base's weights need no gradient meanwhile, and get their
flags back. Initialisation: down Kaiming-uniform, up zero (section 4.1, arXiv:2106.09685).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, final

import torch
from torch import Tensor, nn

from counterpoise.errors import StateError, UsageError
from counterpoise.lora.acting import Acting
from counterpoise.lora.adapter import Adapter
from counterpoise.lora.fit import check_fit, tied_layers
from counterpoise.lora.host import Host
from counterpoise.lora.layers import Layout, match_layers, roots
from counterpoise.lora.lowrank import LowRank, product
from counterpoise.lora.stack import add_beside


def trainable(
    model: object,
    targets: Iterable[str],
    *,
    rank: int,
    generator: torch.Generator,
    alpha: float | None = None,
) -> Trainable:
    """Fresh factors of `rank` for the layers that `targets` (paths or patterns, see `match_layers`) name.

    `alpha` defaults to `rank` (scale 1). The start depends on `generator` and the layers alone, not on
    the device. To be entered: `with trainable(...) as factors: ...`. UsageError for a bad rank or target.
    """
    if isinstance(model, Host):
        model = model.model
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise UsageError(f"rank is {rank!r}: expected a whole number of 1 or more", code="E_RANK")
    sites = Layout.of(model).sites
    start = {}
    for path in match_layers(model, targets):
        shape = sites[path].weight.shape
        down = torch.empty(rank, *shape[1:])
        # peft's and the paper's code's start: a = sqrt(5) makes the bound 1 / sqrt(fan_in).
        nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=generator)
        up = torch.zeros(shape[0], rank, *(1 for _ in shape[2:]))
        start[path] = LowRank(down, up, rank if alpha is None else alpha)
    return Trainable(model, Adapter(start))


@final
class Trainable:
    """Float32 factors that start at `adapter`, act while entered, and can be snapshot at any time."""

    def __init__(self, model: object, adapter: Adapter) -> None:
        self._roots = roots(model)
        self._layout = Layout.of(model)
        check_fit(adapter, self._layout, tied=tied_layers(self._layout))
        self._alphas = {path: update.alpha for path, update in adapter.layers.items()}
        self._factors = {
            path: tuple(
                nn.Parameter(factor.detach().to(self._device(path), torch.float32, copy=True))
                for factor in update.tensors().values()
            )
            for path, update in adapter.layers.items()
        }
        self._acting = [self._acting_on(path) for path in self._factors]
        self._entered = False
        self._flags: list[tuple[nn.Parameter, bool]] = []

    def _device(self, path: str) -> torch.device:
        return self._layout.sites[path].weight.device

    def parameters(self) -> list[nn.Parameter]:
        """down, up of every layer, in the order of paths: the same objects always."""
        return [factor for pair in self._factors.values() for factor in pair]

    def adapter(self, metadata: Mapping[str, str] | None = None) -> Adapter:
        """The factors as they are now: float32 copies on the CPU, detached."""
        layers = {}
        for path, pair in self._factors.items():
            down, up = (factor.detach().to("cpu", copy=True) for factor in pair)
            layers[path] = LowRank(down, up, self._alphas[path])
        return Adapter(layers, metadata or {})

    def load(self, adapter: Adapter) -> None:
        """Go on from `adapter`, in place (an optimiser keeps its parameters); UsageError unless the layers,
        ranks and alphas are these."""
        if {p: (u.rank, u.alpha) for p, u in adapter.layers.items()} != {
            path: (pair[0].shape[0], self._alphas[path]) for path, pair in self._factors.items()
        }:
            reason = "the adapter has other layers, ranks or alphas than these factors; start with equal ones"
            raise UsageError(reason, code="E_SHAPE")
        check_fit(adapter, self._layout, tied={})
        with torch.no_grad():
            for path, pair in self._factors.items():
                for factor, value in zip(pair, adapter.layers[path].tensors().values(), strict=True):
                    factor.copy_(value)

    def __enter__(self) -> Trainable:
        if self._entered:
            raise StateError("these factors are already mounted; leave the first block first", code="E_STATE")
        try:
            self._entered = True
            for root in self._roots.values():
                for parameter in root.parameters():
                    self._flags.append((parameter, parameter.requires_grad))
                    parameter.requires_grad_(False)
            for acting in self._acting:
                acting.attach()
            return self  # in here: an interrupt after this `try` would find nobody to leave the block
        except BaseException:
            self._leave()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _acting_on(self, path: str) -> Acting:
        site, (down, up) = self._layout.sites[path], self._factors[path]
        scale = self._alphas[path] / down.shape[0]

        def beside(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
            return add_beside(site, args, kwargs, output=output, pair=(down, up * scale))

        def instead() -> Tensor:
            return (site.weight + product(down, up * scale)).to(site.weight.dtype)

        return Acting(site, beside=beside, instead=instead if site.kind.beside is None else None)

    def _leave(self) -> None:
        for acting in self._acting:
            acting.detach()
        self._entered = False
        while self._flags:
            parameter, flag = self._flags.pop()
            parameter.requires_grad_(flag)

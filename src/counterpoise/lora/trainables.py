"""Factors to be trained beside a frozen model.

In: a module, pipeline or Host, the layers to adapt, a rank and a generator. Out: parameters for any
optimiser, and snapshots as an `Adapter`. The base's weights need no gradient meanwhile, and get their
flags back. `train` is the loop for them; any other loop will do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, final

import torch
from torch import Tensor, nn

from counterpoise.errors import StateError, UsageError, shown
from counterpoise.lora.acting import Acting
from counterpoise.lora.adapter import Adapter
from counterpoise.lora.factors import INITS, Factors
from counterpoise.lora.fit import check_fit, tied_layers
from counterpoise.lora.host import Host
from counterpoise.lora.kinds.dora import DoRA
from counterpoise.lora.layers import Layout, match_layers, roots
from counterpoise.lora.learning import added, replaced, row_lengths
from counterpoise.lora.lowrank import LowRank, check_rank
from counterpoise.lora.names import nearest
from counterpoise.lora.update import Update, is_finite_number


def trainable(
    model: object,
    targets: Iterable[str],
    *,
    rank: int,
    generator: torch.Generator,
    alpha: float | None = None,
    rank_stabilised: bool = False,
    dora: bool = False,
    init: str = "kaiming",
) -> Trainable:
    """Fresh factors of `rank` for the layers that `targets` (paths or patterns, see `match_layers`) name.

    `alpha` defaults to `rank` (scale 1). `rank_stabilised`: the scale is alpha / sqrt(rank), kept as an alpha
    that gives it (Eq. 1 of arXiv:2312.03732). `dora`: a trained length for each output, at first W0's own
    (arXiv:2402.09353). `init`: "kaiming", where the update starts as nothing and which depends on `generator`
    and the layers alone, not on the device; or "pissa", from W0's largest singular directions
    (arXiv:2404.02948): the trained pair minus the first one is the update, of rank 2 * rank and valid on the
    plain W0, which is not changed.

    To be entered: `with trainable(...) as factors: ...`. UsageError for a bad rank, alpha, init or target.
    """
    if isinstance(model, Host):
        model = model.model
    check_rank(rank)
    chosen = rank if alpha is None else alpha
    if not is_finite_number(chosen):
        raise UsageError(f"alpha is {shown(chosen, 40)}: expected a finite number", code="E_ALPHA")
    if init not in INITS:
        reason = f"init is {shown(repr(init), 40)}: expected one of {', '.join(INITS)}"
        raise UsageError(f"{reason}{nearest(str(init), INITS)}", code="E_INIT")
    kept = chosen * math.sqrt(rank) if rank_stabilised else chosen
    sites = Layout.of(model).sites
    weights = {path: sites[path].weight for path in match_layers(model, targets)}
    for path, weight in weights.items():
        if weight.dim() < 2:
            reason = f"layer {shown(path)} has weight {list(weight.shape)}: low rank needs two sides or more"
            raise UsageError(reason, code="E_LAYER")
    pairs = {path: INITS[init](weight, rank, kept, generator) for path, weight in weights.items()}
    start: dict[str, Update] = dict(pairs)
    if dora:
        start = {path: _with_lengths(pair, weights[path]) for path, pair in pairs.items()}
    return Trainable(model, Adapter(start), minus=pairs if init == "pissa" else None)


def _with_lengths(pair: LowRank, weight: Tensor) -> DoRA:
    lengths = row_lengths(weight).cpu()
    return DoRA(pair, lengths.reshape(-1, *(1 for _ in weight.shape[1:])))


@final
class Trainable:
    """Factors (float32, or float64 beside such weights) that start at `adapter`, act while entered, and can
    be snapshot at any time.

    `adapter` holds LoRA, or DoRA of LoRA with lengths of rows; else UsageError E_UNSUPPORTED. `minus`: pairs
    by layer whose product is taken off from what the factors do, never trained.
    """

    def __init__(
        self, model: object, adapter: Adapter, *, minus: Mapping[str, LowRank] | None = None
    ) -> None:
        self.model = model
        self._roots = roots(model)
        self._layout = Layout.of(model)
        check_fit(adapter, self._layout, tied=tied_layers(self._layout))
        self._factors: dict[str, Factors] = {}
        for path, update in adapter.layers.items():
            weight = self._layout.sites[path].weight
            dtype = torch.promote_types(torch.float32, weight.dtype)
            start = (minus or {}).get(path)
            self._factors[path] = Factors.of(update, device=weight.device, dtype=dtype, start=start)
        self._acting = [self._acting_on(path) for path in self._factors]
        self._entered = False
        self._flags: list[tuple[nn.Parameter, bool]] = []

    def parameters(self) -> list[nn.Parameter]:
        """down, up (and magnitude) of every layer, in the order of paths: the same objects always."""
        return [parameter for factors in self._factors.values() for parameter in factors.parameters]

    def ups(self) -> list[nn.Parameter]:
        """Those that LoRA+ trains faster (arXiv:2402.12354)."""
        return [factors.up for factors in self._factors.values()]

    def module(self) -> nn.ParameterList:
        """All that a checkpoint must hold: `parameters()`, and the pairs that are taken off, frozen."""
        starts = [t for factors in self._factors.values() for t in factors.start or ()]
        return nn.ParameterList([*self.parameters(), *(nn.Parameter(t, requires_grad=False) for t in starts)])

    def adapter(self, metadata: Mapping[str, str] | None = None) -> Adapter:
        """The update as it is now: copies on the CPU, detached."""
        return Adapter({path: factors.update() for path, factors in self._factors.items()}, metadata or {})

    def load(self, adapter: Adapter) -> None:
        """Go on from `adapter`, in place (an optimiser keeps its parameters); UsageError unless the layers,
        kinds, ranks and alphas are these (and the pair that is taken off, to the bit)."""
        if adapter.layers.keys() != self._factors.keys() or not all(
            self._factors[path].holds(update) for path, update in adapter.layers.items()
        ):
            reason = "the adapter has other layers, ranks or alphas than these factors; start with equal ones"
            raise UsageError(reason, code="E_SHAPE")
        check_fit(adapter, self._layout, tied={})
        for path, factors in self._factors.items():
            factors.load(adapter.layers[path])

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
        site, factors = self._layout.sites[path], self._factors[path]

        def beside(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
            return added(site, factors, args[0] if args else kwargs["input"], output)

        def instead() -> Tensor:
            return replaced(site, factors)

        return Acting(site, beside=beside, instead=instead if site.kind.beside is None else None)

    def _leave(self) -> None:
        for acting in self._acting:
            acting.detach()
        self._entered = False
        while self._flags:
            parameter, flag = self._flags.pop()
            parameter.requires_grad_(flag)

"""What inputs a layer sees: E[x x^T] over calibration batches, gathered by forward hooks.

In: a model, layer paths, batches. Out: layer -> [in, in] float64, the mean over all positions, so that the
number of batches does not weigh. A convolution's x is the patch under its kernel, in * kh * kw long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoise.errors import UsageError, shown
from counterpoise.lora.algebra.core import right
from counterpoise.lora.algebra.members import Members, factors_of, label
from counterpoise.lora.layers import all_modules, layer_fault
from counterpoise.lora.names import nearest


def input_covariances(
    model: object,
    layers: Iterable[str],
    batches: Iterable[Any],
    *,
    run: Callable[[Any], object] | None = None,
) -> dict[str, Tensor]:
    """{layer: mean of x x^T, [in, in] float64 on the CPU} of the inputs of `layers` over `batches`.

    `run(batch)` calls the model; by default a batch is its argument, arguments (tuple) or keywords (dict).
    The model's mode and weights are left alone. UsageError E_NO_MATCH, E_LAYER, E_COVARIANCE (a layer that
    never ran, or ran on NaN).
    """
    chosen = _chosen(model, layers)
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys(chosen, 0)

    def note(path: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for rows in _inputs(layer, args[0] if args else kwargs["input"]):
                part = (rows.T @ rows).cpu()
                sums[path] = sums[path].add_(part) if path in sums else part
                counts[path] += rows.shape[0]

        return hook

    handles = [
        module.register_forward_pre_hook(note(path), with_kwargs=True) for path, module in chosen.items()
    ]
    try:
        with torch.no_grad():
            for batch in batches:
                (run or (lambda given: _call(model, given)))(batch)
    finally:
        for handle in handles:
            handle.remove()
    for path in chosen:
        if not counts[path]:
            reason = f"layer {shown(path)} never ran on the calibration batches; use others, or leave it out"
            raise UsageError(reason, code="E_COVARIANCE")
        if not bool(sums[path].isfinite().all()):
            raise UsageError(f"layer {shown(path)} saw NaN or infinite inputs", code="E_COVARIANCE")
    return {path: sums[path] / counts[path] for path in chosen}


def _chosen(model: object, layers: Iterable[str]) -> dict[str, nn.Module]:
    modules = all_modules(model)
    chosen: dict[str, nn.Module] = {}
    for path in layers:
        if path not in modules:
            reason = f"layer {shown(path)} is not in this model{nearest(path, modules)}"
            raise UsageError(reason, code="E_NO_MATCH")
        module = modules[path]
        grouped = isinstance(module, nn.Conv2d) and module.groups > 1
        fault = layer_fault(module)
        if fault is None and not isinstance(module, nn.Linear | nn.Conv2d):
            fault = f"is a {type(module).__name__}: covariances are taken of what Linear and Conv2d see"
        elif grouped:
            fault = "is a grouped convolution: each group sees its own"
        if fault is not None:
            raise UsageError(f"layer {shown(path)} {fault}", code="E_LAYER")
        chosen[path] = module
    return chosen


def _call(model: object, batch: Any) -> object:
    if not callable(model):
        reason = f"a {type(model).__name__} cannot be called with a batch; give run=lambda batch: ..."
        raise UsageError(reason, code="E_MODEL")
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple) else model(batch)


def _inputs(layer: nn.Module, x: Tensor) -> Iterable[Tensor]:
    """The layer's input vectors as rows [n, in] float64; a convolution's one picture at a time."""
    x = x.detach()
    if not isinstance(layer, nn.Conv2d):
        yield x.reshape(-1, x.shape[-1]).double()
        return
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    for picture in x if x.dim() == 4 else x[None]:
        # The layer's own padding, whatever it was given as ("same", 1, (1, 2)) and mode.
        padded = F.pad(picture[None], layer._reversed_padding_repeated_twice, mode=mode)
        patches = F.unfold(padded.double(), layer.kernel_size, dilation=layer.dilation, stride=layer.stride)
        yield patches[0].T


def check_covariances(
    covariances: Sequence[Mapping[str, Tensor]], members: Members
) -> list[dict[str, Tensor]]:
    """One {layer: [in, in] float64} a member over every composed layer, or UsageError E_COVARIANCE.

    Also for a layer that the member lacks: its outputs there are to stay as they were.
    """
    if isinstance(covariances, Mapping) or len(covariances) != len(members):
        count = "one mapping" if isinstance(covariances, Mapping) else f"{len(covariances)} mappings"
        reason = f"{count} of covariances for {len(members)} adapters: give a list, one for each"
        raise UsageError(reason, code="E_COVARIANCE")
    sides = {
        path: right(factors_of(next(a.layers[path] for a in members.adapters if path in a.layers))).shape[1]
        for path in members.paths()
    }
    return [
        {
            path: _checked(found, path, side, whose=label(members.adapters[i], i))
            for path, side in sides.items()
        }
        for i, found in enumerate(covariances)
    ]


def _checked(found: Mapping[str, Tensor], path: str, side: int, *, whose: str) -> Tensor:
    where = f"{whose}, layer {shown(path)}"
    if path not in found:
        reason = f"{where}: no covariance was given{nearest(path, found)}; gather it with input_covariances"
        raise UsageError(reason, code="E_COVARIANCE")
    matrix = found[path].detach().to("cpu", torch.float64)
    if matrix.shape != (side, side):
        reason = f"{where}: the covariance is {list(matrix.shape)}, expected {[side, side]}"
        raise UsageError(reason, code="E_COVARIANCE")
    scale = float(matrix.abs().max())
    if not math.isfinite(scale) or not torch.allclose(matrix, matrix.T, rtol=0, atol=1e-5 * scale):
        raise UsageError(f"{where}: the covariance is not finite and symmetric", code="E_COVARIANCE")
    return (matrix + matrix.T) / 2

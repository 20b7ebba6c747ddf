"""Where the layers of a model are, and how each kind of layer takes a low-rank update.

In: a module or a diffusers pipeline. Out: layer paths (for a pipeline prefixed by the component's name,
as in diffusers files), and per kind of layer the rule of shapes and the update's forward. A further
kind of layer is a further row of `KINDS`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch.nn.functional as F
from torch import Tensor, nn

from counterpoise.errors import UsageError
from counterpoise.lora.lowrank import FACTOR_DTYPES
from counterpoise.lora.names import nearest, shown


def _linear_beside(_layer: Any, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    return F.linear(F.linear(x, down), up)


def _conv2d_beside(layer: Any, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    # Each group of channels meets all rank rows of `down`, so groups convolve with its repetition.
    groups = layer.groups
    if groups > 1:
        down = down.repeat(groups, 1, 1, 1)
    # _conv_forward is the layer's own convolution: its stride, padding mode, dilation and groups.
    return F.conv2d(layer._conv_forward(x, down, None), up, groups=groups)


@final
@dataclass(frozen=True)
class Kind:
    """How one class of layer takes an update."""

    name: str
    beside: Callable[[Any, Tensor, Tensor, Tensor], Tensor]


# Exact classes: a subclass (quantised, peft-wrapped, parametrised) may not compute x @ W.T, and the
# out_proj of nn.MultiheadAttention, one such subclass, is never called, so that no hook would run.
KINDS: Mapping[type[nn.Module], Kind] = {
    nn.Linear: Kind("Linear", _linear_beside),
    nn.Conv2d: Kind("Conv2d", _conv2d_beside),
}


def roots(model: object) -> dict[str, nn.Module]:
    """Path prefix -> module: {"": module} for a module, the module components of a pipeline by name."""
    if isinstance(model, nn.Module):
        return {"": model}
    components = getattr(model, "components", None)
    if isinstance(components, Mapping):
        found = {str(name): part for name, part in components.items() if isinstance(part, nn.Module)}
        if found:
            return found
    raise UsageError(
        f"expected a torch module or a diffusers pipeline, got {type(model).__name__}", code="E_MODEL"
    )


def join(prefix: str, name: str) -> str:
    """The path of `name` below `prefix`; either may be empty."""
    return f"{prefix}.{name}" if prefix and name else prefix or name


def all_modules(model: object) -> dict[str, nn.Module]:
    """Every module by path; a module that stands under two paths is listed under both."""
    return {
        join(prefix, name): module
        for prefix, root in roots(model).items()
        for name, module in root.named_modules(remove_duplicate=False)
    }


def layer_fault(module: nn.Module) -> str | None:
    """Why `module` cannot take an update, in words, or None where it can."""
    if type(module) not in KINDS:
        kinds = ", ".join(kind.name for kind in KINDS.values())
        return f"is a {type(module).__module__}.{type(module).__name__}; plain {kinds} are supported"
    weight = module.weight
    if type(weight) is not nn.Parameter or weight.dtype not in FACTOR_DTYPES:
        kind = f"{type(weight).__name__} of {getattr(weight, 'dtype', 'no dtype')}"
        return f"has as its weight a {kind}; plain floating-point parameters are supported"
    if weight.is_meta:
        return "has no weights in memory (meta device); load the model without offloading to disk"
    return None


def match_layers(model: object, patterns: Iterable[str]) -> list[str]:
    """Paths of the plain Linear and Conv2d layers that any of the shell-style `patterns` matches, sorted.

    `*` also crosses dots. A pattern that matches no such layer is a UsageError naming the nearest paths.
    """
    if isinstance(patterns, str):
        raise UsageError(
            f"patterns is the text {shown(patterns)!r}: expected a list of patterns", code="E_NAME"
        )
    paths = sorted(path for path, module in all_modules(model).items() if layer_fault(module) is None)
    chosen: set[str] = set()
    for pattern in patterns:
        found = [path for path in paths if path == pattern or fnmatch.fnmatchcase(path, pattern)]
        if not found:
            raise UsageError(
                f"pattern {shown(pattern)!r} matches none of the {len(paths)} Linear and Conv2d layers"
                f"{nearest(pattern, paths)}",
                code="E_NO_MATCH",
            )
        chosen.update(found)
    return sorted(chosen)

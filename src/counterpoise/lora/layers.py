"""Where the weights of a model are, and how each kind of layer takes a low-rank update.

In: a module or a diffusers pipeline. Out: sites by path (for a pipeline prefixed by the component's name,
as in diffusers files), each a weight, the module that reads it, and the update's forward. A further kind
of layer is a further row of `KINDS`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch.nn.functional as F
from torch import Tensor, nn

from counterpoise.errors import UsageError, shown
from counterpoise.lora.lowrank import FACTOR_DTYPES
from counterpoise.lora.names import nearest

# What the hidden values between down and up are multiplied by, broadcast against them; None for nothing.
Gate = Callable[[Tensor], Tensor] | None
Forward = Callable[[Any, Tensor, tuple[Tensor, Tensor], Gate], Tensor]
"""(layer, input, (down, up), gate) -> the update of the layer's output."""


def _linear(_layer: Any, x: Tensor, pair: tuple[Tensor, Tensor], gate: Gate) -> Tensor:
    down, up = pair
    hidden = F.linear(x.to(down.dtype), down)
    return F.linear(hidden if gate is None else gate(hidden), up)


def _convolution(layer: Any, x: Tensor, pair: tuple[Tensor, Tensor], gate: Gate) -> Tensor:
    down, up = pair
    # Each group of channels meets all rank rows of `down`, so groups convolve with its repetition.
    groups = layer.groups
    if groups > 1:
        down = down.repeat(groups, *(1 for _ in down.shape[1:]))
    # _conv_forward is the layer's own convolution: its stride, padding mode, dilation and groups.
    hidden = layer._conv_forward(x.to(down.dtype), down, None)
    conv = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[down.ndim]
    return conv(hidden if gate is None else gate(hidden), up, groups=groups)


def _embedding(layer: Any, ids: Tensor, pair: tuple[Tensor, Tensor], gate: Gate) -> Tensor:
    down, up = pair
    hidden = F.embedding(ids, up, layer.padding_idx)  # the weight is [rows, width]: up's rows are looked up
    return F.linear(hidden if gate is None else gate(hidden), down.T)


@final
@dataclass(frozen=True)
class Kind:
    """How one class of layer takes an update: beside its output, or, where `beside` is None, in the weight's
    place while the owner's forward runs. channels: where the rank's axis is in the hidden values."""

    name: str
    beside: Forward | None
    channels: int = -1


# Exact classes: a subclass (quantised, peft-wrapped, parametrised) may not compute x @ W.T.
KINDS: Mapping[type[nn.Module], Kind] = {
    nn.Linear: Kind("Linear", _linear),
    nn.Conv1d: Kind("Conv1d", _convolution, channels=1),
    nn.Conv2d: Kind("Conv2d", _convolution, channels=1),
    nn.Conv3d: Kind("Conv3d", _convolution, channels=1),
    nn.Embedding: Kind("Embedding", _embedding),
}
IN_PLACE = Kind("parameter", None)
# A norm's weight takes full differences alone (LyCORIS' w_norm, b_norm): it has no rank.
NORM = Kind("norm", None)
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
BIAS = Kind("bias", None)
_BIAS_OF = {"weight": "bias", "in_proj_weight": "in_proj_bias"}


@final
@dataclass(frozen=True, slots=True)
class Site:
    """A weight that takes updates: the parameter `name` of `holder`, read in the forward of `owner`."""

    holder: nn.Module
    name: str
    owner: nn.Module
    kind: Kind

    @property
    def weight(self) -> nn.Parameter:
        """The parameter as it is now (somebody may have put another in its place)."""
        weight = getattr(self.holder, self.name)
        assert isinstance(weight, nn.Parameter)
        return weight

    @property
    def crossover(self) -> int:
        """The rank from which a pair of factors takes more memory and multiplications than the weight."""
        rows, size = self.weight.shape[0], self.weight.numel()
        return -(-size // (rows + size // rows))


@final
@dataclass(frozen=True)
class Layout:
    """What a model is made of: every module by path (one under two paths is listed under both), every site.

    places: the sites, and the biases beside them under "<path>.bias": all that a move may write.
    """

    modules: Mapping[str, nn.Module]
    sites: Mapping[str, Site]
    places: Mapping[str, Site]

    @staticmethod
    def of(model: object) -> Layout:
        """The layout of a module or pipeline as it is now; UsageError E_MODEL for anything else."""
        modules = all_modules(model)
        sites = find_sites(modules)
        return Layout(modules, sites, {**_biases(sites), **sites})


def find_sites(modules: Mapping[str, nn.Module]) -> dict[str, Site]:
    """Every weight that may take updates, by path.

    A layer of `KINDS` is found at its own path. In nn.MultiheadAttention, whose out_proj is never called,
    the packed projection is "<path>.in_proj" and the other "<path>.out_proj". Any other parameter of two or
    more dimensions is found at its own name.
    """
    found: dict[str, Site] = {}
    for path, module in modules.items():
        if isinstance(module, nn.MultiheadAttention):
            found |= _attention_sites(path, module)
        elif type(module) in KINDS:
            found[path] = Site(module, "weight", module, KINDS[type(module)])
        elif type(module) in NORMS and module.weight is not None:
            found[path] = Site(module, "weight", module, NORM)
        elif type(module).__module__.partition(".")[0] != "peft":
            found |= {join(path, name): Site(module, name, module, IN_PLACE) for name in _bare(module)}
    for path, module in modules.items():
        if isinstance(module, nn.MultiheadAttention):
            found[join(path, "out_proj")] = Site(module.out_proj, "weight", module, IN_PLACE)
    return found


def _biases(sites: Mapping[str, Site]) -> dict[str, Site]:
    return {
        join(path, "bias"): Site(site.holder, name, site.owner, BIAS)
        for path, site in sites.items()
        if (name := _BIAS_OF.get(site.name)) is not None and getattr(site.holder, name, None) is not None
    }


def _attention_sites(path: str, module: nn.MultiheadAttention) -> dict[str, Site]:
    found = {join(path, name): Site(module, name, module, IN_PLACE) for name in _bare(module)}
    packed = found.pop(join(path, "in_proj_weight"), None)
    return found if packed is None else found | {join(path, "in_proj"): packed}


def _bare(module: nn.Module) -> Iterator[str]:
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.ndim >= 2 and name != "weight":
            yield name


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


def module_fault(module: nn.Module) -> str:
    """Why `module`, which is no site, cannot take an update, in words."""
    kinds = ", ".join(kind.name for kind in KINDS.values())
    return f"is a {type(module).__module__}.{type(module).__name__}; plain {kinds} are supported"


def site_fault(site: Site) -> str | None:
    """Why the weight of `site` cannot take an update, in words, or None where it can."""
    weight = getattr(site.holder, site.name, None)
    if type(weight) is not nn.Parameter or weight.dtype not in FACTOR_DTYPES:
        kind = f"{type(weight).__name__} of {getattr(weight, 'dtype', 'no dtype')}"
        return f"has as its weight a {kind}; plain floating-point parameters are supported"
    if weight.is_meta:
        return "has no weights in memory (meta device); load the model without offloading to disk"
    if isinstance(site.owner, nn.Embedding) and site.owner.max_norm is not None:
        return "is an Embedding with max_norm, which writes into its own weight; set max_norm to None"
    return None


_PATTERNED = KINDS.keys() - {nn.Embedding}


def layer_fault(module: nn.Module) -> str | None:
    """Why `module`, as a layer of its own, cannot take an update, in words, or None where it can."""
    kind = KINDS.get(type(module))
    return module_fault(module) if kind is None else site_fault(Site(module, "weight", module, kind))


def match_layers(model: object, patterns: Iterable[str]) -> list[str]:
    """Paths of the layers (a class of `KINDS`) that any of the shell-style `patterns` matches, sorted.

    `*` also crosses dots. A pattern that matches no such layer is a UsageError naming the nearest paths. A
    parameter that is no layer of its own (see `find_sites`), an Embedding or a norm is matched by its whole
    path alone.
    """
    if isinstance(patterns, str):
        raise UsageError(
            f"patterns is the text {shown(patterns)!r}: expected a list of patterns", code="E_NAME"
        )
    sites = Layout.of(model).sites
    known = {path: site for path, site in sites.items() if site_fault(site) is None}
    plain = sorted(p for p, site in known.items() if type(site.owner) in _PATTERNED)
    chosen: set[str] = set()
    for pattern in patterns:
        found = [pattern] if pattern in known else [p for p in plain if fnmatch.fnmatchcase(p, pattern)]
        if not found:
            raise UsageError(
                f"pattern {shown(pattern)!r} matches none of {len(plain)} layers{nearest(pattern, known)}",
                code="E_NO_MATCH",
            )
        chosen.update(found)
    return sorted(chosen)

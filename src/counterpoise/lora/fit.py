"""Whether an adapter fits a model: every layer found by name, of a kind and shape that can take it.

In: a model's layers, an adapter. Out: nothing, or a refusal that names the layer, what it is, what was
expected, and the nearest names. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from counterpoise.errors import RefusedInputError, UsageError, shown
from counterpoise.lora.adapter import Adapter
from counterpoise.lora.dialects.spellings import is_open
from counterpoise.lora.kinds import Full
from counterpoise.lora.layers import NORM, Layout, Site, join, module_fault, site_fault
from counterpoise.lora.names import ADAPTER_NAME_RULE, is_adapter_name, nearest
from counterpoise.lora.norms import delta_norm, is_extreme
from counterpoise.lora.update import Update, is_finite_number

# Width of the text features that cross-attention reads -> who has it (each model's UNet config.json).
_FAMILY_OF_WIDTH = {768: "stable-diffusion-v1", 1024: "stable-diffusion-v2", 2048: "stable-diffusion-xl-v1"}


def check_name(name: object, taken: Mapping[str, object]) -> None:
    """UsageError if `name` cannot name a further adapter."""
    if not is_adapter_name(name):
        raise UsageError(f"adapter name {shown(name)!r}: expected {ADAPTER_NAME_RULE}", code="E_NAME")
    if name in taken:
        raise UsageError(
            f"an adapter named {name!r} is already mounted; choose another name", code="E_DUP_NAME"
        )


def check_strength(name: str, strength: object) -> float:
    """`strength` as a float; UsageError if it is no finite number."""
    if not is_finite_number(strength):
        reason = f"strength of {shown(name)!r} is {shown(strength, 40)}: expected a finite number such as 0.8"
        raise UsageError(reason, code="E_STRENGTH")
    assert isinstance(strength, int | float)
    return float(strength)


def check_reach(adapter: Adapter, strength: float) -> None:
    """UsageError E_OVERFLOW if strength * alpha / rank takes a factor past what float32 holds."""
    most = torch.finfo(torch.float32).max
    for path, update in adapter.layers.items():
        factor = strength * update.scale
        if abs(factor) * max(float(tensor.detach().abs().max()) for tensor in _outer(update)) > most:
            reason = f"strength {strength:g} makes a scale of {factor:g}, past float32, in {shown(path)}"
            raise UsageError(f"{reason}; lower the strength", code="E_OVERFLOW")


def check_extreme(adapter: Adapter, layout: Layout, *, norms: Mapping[str, float]) -> None:
    """RefusedInputError E_EXTREME if a delta is past all measure of W0, whose norm is in `norms` or read."""
    for path, update in adapter.layers.items():
        weight = layout.sites[path].weight.detach()
        base = norms.get(path)
        if base is None:
            base = float(torch.linalg.vector_norm(weight, dtype=torch.float64))
        delta = delta_norm(update.shaped(tuple(weight.shape)), weight)
        if delta is not None and is_extreme(delta, base):
            reason = f"the delta of layer {shown(path)} is {delta / base:.3g} times as long as its weight"
            raise _misfit(adapter, "E_EXTREME", f"{reason}; if that is meant, allow_extreme=True mounts it")


def _outer(update: Update) -> list[Tensor]:
    """The tensors that the scale multiplies."""
    tensors = update.tensors()
    return [tensors["up"]] if "up" in tensors else list(tensors.values())


def check_known(name: object, mounted: Mapping[str, object]) -> None:
    """UsageError naming the nearest if no adapter `name` is mounted."""
    if name not in mounted:
        listed = ", ".join(mounted) or "none"
        reason = (
            f"no adapter named {shown(name)!r} is mounted (mounted: {listed}){nearest(str(name), mounted)}"
        )
        raise UsageError(reason, code="E_NAME")


def check_fit(adapter: Adapter, layout: Layout, *, tied: Mapping[str, str]) -> None:
    """RefusedInputError if a layer of `adapter` is missing, of another kind, of another shape, or tied."""
    if not isinstance(adapter, Adapter):
        reason = f"expected an Adapter, got {type(adapter).__name__}; use Adapter.load(path)"
        raise UsageError(reason, code="E_ADAPTER")
    sites, modules = layout.sites, layout.modules
    missing = [path for path in adapter.layers if path not in sites and path not in modules]
    if missing:
        raise _misfit(adapter, "E_NO_MATCH", _missing(adapter, missing, sites))
    for path, update in adapter.layers.items():
        fault = mount_fault(update, path, layout)
        if fault is not None:
            raise _misfit(adapter, "E_LAYER", f"layer {shown(path)} {fault}")
        shared = path if path in tied else join(path, "bias") if update.bias_delta is not None else path
        if shared in tied:
            both = f"layer {shown(shared)} shares its weight with {shown(tied[shared])}"
            reason = f"{both}: folding would change both"
            raise _misfit(adapter, "E_TIED", f"{reason}; untie them first")
        wrong = update.fault()  # again: a tensor may have changed since the LowRank was made
        if wrong is not None:
            raise _misfit(adapter, wrong[0], f"layer {shown(path)}: {wrong[1]}")
        _check_shape(adapter, path, update, weight=sites[path].weight)


def mount_fault(update: Update, path: str, layout: Layout) -> str | None:
    """Why the layer `path` cannot take an update of this kind, in words, or None where it can."""
    site = layout.sites.get(path)
    if site is None:
        return module_fault(layout.modules[path])
    if site.kind is NORM and not isinstance(update, Full):
        return f"is a {type(site.owner).__name__}, which takes a full difference, not a {update.kind}"
    if update.bias_delta is not None and join(path, "bias") not in layout.places:
        return "has no bias, but its update changes one"
    return site_fault(site)


def _misfit(adapter: Adapter, code: str, reason: str) -> RefusedInputError:
    where = f"{shown(adapter.source, 300)}: " if adapter.source else ""
    return RefusedInputError(f"{where}{reason}", code=code, file=adapter.source)


def _missing(adapter: Adapter, missing: list[str], sites: Mapping[str, Site]) -> str:
    # Two of the five get their nearest names: the search is slow on a model of thousands of layers.
    listed = [shown(path) + (nearest(path, sites) if i < 2 else "") for i, path in enumerate(missing[:5])]
    hint = f"{len(missing)} of {len(adapter.layers)} layers are not in this model: {' | '.join(listed)}"
    if any(is_open(path) for path in missing):
        hint += ". Flattened names are resolved by adapter.matched(model)"
    parts = {path.partition(".")[0] for path in sites if path}
    homes = [part for part in sorted(parts) if all(f"{part}.{path}" in sites for path in missing)]
    if homes:
        hint += f". They are all in {homes[0]!r}: mount adapter.prefixed({homes[0]!r})"
    return hint


def _check_shape(adapter: Adapter, path: str, update: Update, *, weight: Tensor) -> None:
    if tuple(weight.shape) == update.weight_shape:
        return
    reason = (
        f"layer {shown(path)} has weight {list(weight.shape)} but the update is {list(update.weight_shape)}"
    )
    if "attn2.to_k" in path or "attn2.to_v" in path:
        made = _FAMILY_OF_WIDTH.get(update.weight_shape[-1] if len(update.weight_shape) == 2 else 0)
        has = _FAMILY_OF_WIDTH.get(weight.shape[-1])
        if made and made != has:
            reason += f": made for {made}, model is {has or 'another'}"
    raise _misfit(adapter, "E_SHAPE", f"{reason}; use an adapter made for this model")


def tied_layers(layout: Layout) -> dict[str, str]:
    """Path of each site whose weight lies in the same memory as another parameter -> that other's path."""
    spans: dict[int, list[tuple[int, int, str, tuple[int, str]]]] = {}
    for path, module in layout.modules.items():
        for name, tensor in module.named_parameters(recurse=False):
            if tensor.is_meta or not tensor.numel() or tensor.layout != torch.strided:
                continue
            begin = tensor.data_ptr()
            reach = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)) + 1
            home = tensor.untyped_storage().data_ptr()
            span = (begin, begin + reach * tensor.element_size(), join(path, name), (id(module), name))
            spans.setdefault(home, []).append(span)
    paths: dict[tuple[int, str], list[str]] = {}
    for path, site in layout.places.items():
        paths.setdefault((id(site.holder), site.name), []).append(path)
    tied: dict[str, str] = {}
    for found in spans.values():
        for i, (begin, end, _, key) in enumerate(found if len(found) > 1 else ()):
            for other_begin, other_end, other, _ in found[:i] + found[i + 1 :]:
                if begin < other_end and other_begin < end:
                    for path in paths.get(key, ()):
                        tied.setdefault(path, other)
    return tied

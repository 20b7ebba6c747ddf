"""Each layer's alpha, from whatever a file says of it; where two sources disagree, the file is refused.

In: the tensors' ranks, a PEFT config beside the file or in its header, kohya's header fields. Out: the alphas
that a config states. (The per-layer alpha tensors are read with the layers, and held against these.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from counterpoise.errors import shown
from counterpoise.lora.config import layer_alphas
from counterpoise.lora.header import Header, opened, refuse, strict_json

# The header fields that belong to the container, not to the adapter's own metadata.
CONFIG_FIELD = "lora_adapter_metadata"
LARGEST_CONFIG = 4 * 2**20


def read_config(path: Path) -> dict[str, Any]:
    """The decoded adapter_config.json at `path`; RefusedInputError E_CONFIG or E_DUP_KEY if it is none."""
    with opened(path) as file:
        # No more than there is: a read asks for all its memory at once.
        raw = file.read(min(LARGEST_CONFIG, os.fstat(file.fileno()).st_size) + 1)
    if len(raw) > LARGEST_CONFIG:
        raise refuse(path, "E_CONFIG", f"is larger than {LARGEST_CONFIG} bytes: not an adapter's config")
    return strict_json(path, raw, what="the adapter config", code="E_CONFIG")


def header_config(path: Path, header: Header) -> dict[str, Any] | None:
    """The decoded config in the file's header, or None if it has none."""
    stated = header.metadata.get(CONFIG_FIELD)
    if not stated:
        return None
    return strict_json(path, stated.encode("utf-8", "replace"), what=CONFIG_FIELD, code="E_CONFIG")


def stated_alphas(
    path: Path, config: Mapping[str, Any], ranks: Mapping[str, int], *, roles: Mapping[str, set[str]]
) -> dict[str, float]:
    """Layer -> alpha under `config`, of one model or of components ("unet.r"); ranks, roles are checked."""
    if "lora_alpha" in config or "r" in config:
        return layer_alphas(path, config, ranks, roles=roles)
    found: dict[str, float] = {}
    parts = {field.rpartition(".")[0] for field in config if field.endswith((".r", ".lora_alpha"))}
    for part in sorted(parts):
        own = {f.removeprefix(f"{part}."): v for f, v in config.items() if f.startswith(f"{part}.")}
        inside = {p.removeprefix(f"{part}."): rank for p, rank in ranks.items() if p.startswith(f"{part}.")}
        held = {layer: roles[f"{part}.{layer}"] for layer in inside}
        alphas = layer_alphas(path, own, inside, roles=held)
        found |= {f"{part}.{layer}": alpha for layer, alpha in alphas.items()}
    return found


def check_header_alpha(path: Path, header: Header, ranks: Mapping[str, int], *, has_alphas: bool) -> None:
    """RefusedInputError E_CONFIG where the header states another scale than the lack of alphas does.

    kohya reads a layer without an alpha tensor at scale 1. A header that says ss_network_alpha 8 for an
    ss_network_dim of 16 in such a file tells that its alphas were lost on the way.
    """
    said = [header.metadata.get(field) for field in ("ss_network_alpha", "ss_network_dim")]
    try:
        alpha, dim = (float(value) for value in said if value is not None)
    except ValueError:  # missing, "None" or "Dynamic"
        return
    if not has_alphas and alpha not in (0, dim) and set(ranks.values()) == {dim}:
        reason = f"holds no alphas, which means scale 1, but its header says alpha {alpha:g} for dim {dim:g}"
        raise refuse(path, "E_CONFIG", f"{reason}; put the alphas back or remove ss_network_alpha")


def agreed_alpha(path: Path, layer: str, tensor: Tensor | None, *, said: float | None) -> float | None:
    """The alpha of the tensor and of the config, which must be one; None where there is neither."""
    if tensor is None:
        return said
    alpha = float(tensor.reshape(()))
    # An alpha stored in half precision may differ from the config's by that rounding alone.
    exact = tensor.dtype if tensor.dtype.is_floating_point else torch.float64
    if said is not None and torch.tensor(said, dtype=exact) != torch.tensor(alpha, dtype=exact):
        reason = f"layer {shown(layer)} has alpha {alpha:g} as a tensor but {said:g} in its config; keep one"
        raise refuse(path, "E_CONFIG", reason)
    return alpha if said is None else said

"""The key dialects that adapter files come in: one row each of how to recognise, read and write it.

In: a path. Out: layers and metadata, or a refusal; and back. A further dialect is a further row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.lora.atomic import write_atomic
from counterpoise.lora.config import layer_alphas, lora_config
from counterpoise.lora.container import (
    DTYPES,
    Header,
    container_bytes,
    opened,
    read_header,
    read_tensor,
    refuse,
    strict_json,
)
from counterpoise.lora.keys import PEFT_PREFIX, layer_keys
from counterpoise.lora.lowrank import FACTOR_DTYPES, LowRank, finite_fault, shape_fault
from counterpoise.lora.names import shown

Layers = dict[str, LowRank]
PEFT_FILES = ("adapter_model.safetensors", "adapter_config.json")
DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
# The header fields that belong to the container, not to the adapter's own metadata.
CONFIG_FIELD = "lora_adapter_metadata"
RESERVED_METADATA = frozenset({"format", CONFIG_FIELD})
LARGEST_CONFIG = 4 * 2**20
# diffusers' names for the parts of a pipeline that may carry a LoRA: the first part of a path.
COMPONENTS = frozenset(
    {"unet", "transformer", "transformer_2", "text_encoder", "text_encoder_2", "text_encoder_3", "vae"}
)
_INTEGERS = ("I64", "I32", "I16", "I8", "U8")


def locate(path: Path) -> tuple[Path, Path | None]:
    """The tensor file that `path` (a file or an adapter's folder) means, and its PEFT config if any."""
    try:
        items = sorted(path.iterdir()) if path.is_dir() else None
    except (OSError, ValueError) as error:
        raise refuse(path, "E_NOT_READABLE", f"cannot be read ({shown(error)}); check the path") from None
    if items is not None:
        files = [item for item in items if item.name.endswith(".safetensors")]
        if len(files) > 1:
            listed = ", ".join(shown(item.name, 80) for item in files[:5])
            raise refuse(
                path, "E_AMBIGUOUS", f"holds {len(files)} .safetensors files ({listed}); name one of them"
            )
        if not files:
            pickles = [item for item in items if item.suffix in {".bin", ".pt", ".ckpt"}]
            hint = " (a pickle is never loaded)" if pickles else ""
            raise refuse(
                path, "E_MISSING", f"holds no .safetensors file{hint}; give an adapter's folder or file"
            )
        path = files[0]
    config = path.with_name(PEFT_FILES[1])
    return path, config if path.name == PEFT_FILES[0] and config.exists() else None


def read(path: Path) -> tuple[Layers, dict[str, str]]:
    """The layers and metadata of the adapter at `path`; everything but the values is checked first."""
    path, config_path = locate(path)
    config = _read_config(config_path) if config_path is not None else None
    with opened(path) as file:
        header = read_header(path, file)
        keys = layer_keys(path, header.slots)
        ranks = {layer: _checked_rank(path, header, roles) for layer, roles in keys.items()}
        alphas = _alphas(path, header, config, ranks=ranks)
        layers: Layers = {}
        for layer, roles in keys.items():
            tensors = {role: read_tensor(path, file, header, key=key) for role, key in roles.items()}
            for role, tensor in tensors.items():
                fault = finite_fault(f"tensor {shown(roles[role])!r}", tensor)
                if fault is not None:
                    raise refuse(path, "E_NONFINITE", f"{fault}; the training failed, make the file again")
            alpha = _agreed_alpha(path, layer, tensors.get("alpha"), said=alphas.get(layer))
            layers[layer] = LowRank(tensors["down"], tensors["up"], ranks[layer] if alpha is None else alpha)
    own = {key: value for key, value in header.metadata.items() if key not in RESERVED_METADATA}
    return layers, own


def _read_config(path: Path) -> dict[str, Any]:
    with opened(path) as file:
        raw = file.read(LARGEST_CONFIG + 1)
    if len(raw) > LARGEST_CONFIG:
        raise refuse(path, "E_CONFIG", f"is larger than {LARGEST_CONFIG} bytes: not an adapter's config")
    return strict_json(path, raw, what="the adapter config", code="E_CONFIG")


def _checked_rank(path: Path, header: Header, roles: Mapping[str, str]) -> int:
    for role, key in roles.items():
        slot = header.slots[key]
        fits = DTYPES.get(slot.dtype) in FACTOR_DTYPES or (role == "alpha" and slot.dtype in _INTEGERS)
        if not fits:
            raise refuse(
                path, "E_DTYPE", f"tensor {shown(key)!r} is {slot.dtype}; expected F64, F32, F16 or BF16"
            )
        if role == "alpha" and slot.shape not in ((), (1,)):
            raise refuse(
                path, "E_SHAPE", f"tensor {shown(key)!r} has shape {list(slot.shape)}, expected one number"
            )
    down, up = header.slots[roles["down"]].shape, header.slots[roles["up"]].shape
    fault = shape_fault(down, up)
    if fault is not None:
        raise refuse(
            path, fault[0], f"tensors {shown(roles['down'])!r} and up: {fault[1]}; make the file again"
        )
    return down[0]


def _alphas(
    path: Path, header: Header, config: Mapping[str, Any] | None, *, ranks: Mapping[str, int]
) -> dict[str, float]:
    """The alphas that a config states; a layer that none speaks of is left out."""
    if config is not None:
        return layer_alphas(path, config, ranks)
    if any(key.startswith(PEFT_PREFIX) for key in header.slots):
        reason = f"has PEFT's names but no {PEFT_FILES[1]} beside it, so no alpha; give the whole folder"
        raise refuse(path, "E_CONFIG", reason)
    stated = header.metadata.get(CONFIG_FIELD)
    if not stated:
        return {}
    fields = strict_json(path, stated.encode("utf-8", "replace"), what=CONFIG_FIELD, code="E_CONFIG")
    if "lora_alpha" in fields or "r" in fields:
        return layer_alphas(path, fields, ranks)
    found: dict[str, float] = {}
    for part in sorted(
        {field.rpartition(".")[0] for field in fields if field.endswith((".r", ".lora_alpha"))}
    ):
        own = {
            field.removeprefix(f"{part}."): v for field, v in fields.items() if field.startswith(f"{part}.")
        }
        inside = {p.removeprefix(f"{part}."): rank for p, rank in ranks.items() if p.startswith(f"{part}.")}
        found |= {f"{part}.{layer}": alpha for layer, alpha in layer_alphas(path, own, inside).items()}
    return found


def _agreed_alpha(path: Path, layer: str, tensor: Tensor | None, *, said: float | None) -> float | None:
    if tensor is None:
        return said
    alpha = float(tensor.reshape(()))
    # An alpha stored in half precision may differ from the config's by that rounding alone.
    exact = tensor.dtype if tensor.dtype.is_floating_point else torch.float64
    if said is not None and torch.tensor(said, dtype=exact) != torch.tensor(alpha, dtype=exact):
        reason = f"layer {shown(layer)} has alpha {alpha:g} as a tensor but {said:g} in its config; keep one"
        raise refuse(path, "E_CONFIG", reason)
    return alpha if said is None else said


def _tensors(layers: Mapping[str, LowRank], prefix: str) -> dict[str, Tensor]:
    named = {}
    for path, update in layers.items():
        named[f"{prefix}{path}.lora_A.weight"] = update.down
        named[f"{prefix}{path}.lora_B.weight"] = update.up
    return named


def _write_diffusers(path: Path, layers: Mapping[str, LowRank], metadata: Mapping[str, str]) -> Path:
    file = path if path.suffix == ".safetensors" and not path.is_dir() else path / DIFFUSERS_FILE
    parts = {layer.partition(".")[0] for layer in layers}
    if parts <= COMPONENTS and all("." in layer for layer in layers):
        config: dict[str, Any] = {}
        for part in sorted(parts):
            inside = {p.partition(".")[2]: u for p, u in layers.items() if p.startswith(f"{part}.")}
            config |= {f"{part}.{field}": value for field, value in lora_config(inside).items()}
    else:  # the layers of one model, as `save_lora_adapter` writes them: load with prefix=None
        config = lora_config(layers)
    header = {**metadata, "format": "pt", CONFIG_FIELD: json.dumps(config, sort_keys=True)}
    _refuse_company(file)
    write_atomic(file, container_bytes(_tensors(layers, ""), header))
    return file


def _write_peft(path: Path, layers: Mapping[str, LowRank], metadata: Mapping[str, str]) -> Path:
    if path.suffix == ".safetensors":
        raise UsageError(
            f"{shown(path)}: a PEFT adapter is a folder; leave out '.safetensors'", code="E_PATH"
        )
    file = path / PEFT_FILES[0]
    _refuse_company(file)
    config = json.dumps(lora_config(layers), indent=2, sort_keys=True).encode()
    write_atomic(file, container_bytes(_tensors(layers, PEFT_PREFIX), {**metadata, "format": "pt"}))
    write_atomic(path / PEFT_FILES[1], [config])
    return path


def _refuse_company(file: Path) -> None:
    """A folder that would then hold two adapters could not be loaded as one."""
    if file.name not in (PEFT_FILES[0], DIFFUSERS_FILE) or not file.parent.is_dir():
        return
    others = [
        item.name
        for item in file.parent.iterdir()
        if item.suffix == ".safetensors" and item.name != file.name
    ]
    if others:
        reason = f"{shown(file.parent)} already holds {shown(others[0])}; save into a folder of its own"
        raise UsageError(reason, code="E_AMBIGUOUS")


@final
@dataclass(frozen=True)
class Dialect:
    """How an adapter is written; `write` returns what to give to `Adapter.load`."""

    name: str
    write: Callable[[Path, Mapping[str, LowRank], Mapping[str, str]], Path]


DIALECTS: Mapping[str, Dialect] = {
    "diffusers": Dialect("diffusers", _write_diffusers),
    "peft": Dialect("peft", _write_peft),
}

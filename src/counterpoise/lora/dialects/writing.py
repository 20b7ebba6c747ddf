"""Writing an adapter: PEFT, diffusers, kohya, one row each.

In: layers and metadata. Out: a file or folder that `read` takes back equal, with alpha wherever its readers
look; a UsageError for a kind that the dialect cannot hold. A further dialect is a further row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import Tensor

from counterpoise.errors import UsageError, shown
from counterpoise.files import write_atomic
from counterpoise.lora.config import lora_config
from counterpoise.lora.container import container_bytes
from counterpoise.lora.dialects.alphas import CONFIG_FIELD
from counterpoise.lora.dialects.kohya import kohya_fault, kohya_tensors
from counterpoise.lora.dialects.metadata import header_fields
from counterpoise.lora.dialects.reading import PEFT_FILES
from counterpoise.lora.dialects.spellings import COMPONENTS, PEFT_PREFIX, is_open
from counterpoise.lora.kinds import DoRA, Embedding, LowRank, plain
from counterpoise.lora.update import Update

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
KOHYA_FILE = "lora.safetensors"
Layers = Mapping[str, Update]
_PEFT_SUFFIX = {
    "down": "lora_A.weight",
    "up": "lora_B.weight",
    "bias": "lora_B.bias",
    "magnitude": "lora_magnitude_vector",
    "embedding_A": "lora_embedding_A",
    "embedding_B": "lora_embedding_B",
}
# What a PEFT config says of all layers at once, and so must hold for all or none.
_OF_ALL = {"magnitude": "DoRA", "bias": "a bias"}


@final
@dataclass(frozen=True)
class Dialect:
    """How an adapter is written; `write` returns what to give to `Adapter.load`, `fault` says what of an
    update the dialect cannot hold."""

    name: str
    write: Callable[[Path, Layers, Mapping[str, str]], Path]
    fault: Callable[[Update], str | None]


def _peft_fault(update: Update) -> str | None:
    if not isinstance(plain(update), LowRank | Embedding):
        return f"a {plain(update).kind}"
    if "diff_b" in update.tensors():
        return "a bias difference (diff_b)"
    inner = getattr(update, "inner", update)
    dora = next((u for u in (update, inner) if isinstance(u, DoRA)), None)
    if dora is not None and dora.per_output == isinstance(plain(update), Embedding):
        return "DoRA whose lengths are of the inputs"
    return None


def _diffusers_fault(update: Update) -> str | None:
    return "an Embedding LoRA" if isinstance(plain(update), Embedding) else _peft_fault(update)


def _peft_tensors(layers: Layers, prefix: str) -> dict[str, Tensor]:
    named = {}
    for path, update in layers.items():
        if is_open(path):
            reason = f"layer {shown(path)} is a flattened name: only a model tells which layer it is"
            raise UsageError(f"{reason}; use matched(model), or save as kohya", code="E_UNRESOLVED")
        for role, tensor in update.tensors().items():
            named[f"{prefix}{path}.{_PEFT_SUFFIX[role]}"] = (
                _magnitude(tensor) if role == "magnitude" else tensor
            )
    return named


def _magnitude(lengths: Tensor) -> Tensor:
    """As PEFT keeps it: [out] beside a matrix, [1, out, 1, ...] beside a convolution."""
    flat = lengths.reshape(-1)
    return flat if lengths.dim() == 2 else flat.reshape(1, -1, *(1 for _ in lengths.shape[2:]))


def _config(layers: Layers) -> dict[str, Any]:
    for role, name in _OF_ALL.items():
        has = [path for path, update in layers.items() if role in update.tensors()]
        lacks = [p for p, u in layers.items() if p not in has and not (role == "bias" and _is_embedding(u))]
        if has and lacks:
            reason = (
                f"layer {shown(has[0])} has {name}, {shown(lacks[0])} has not: PEFT's config knows only all"
            )
            raise UsageError(f"{reason} or none; save as kohya", code="E_UNSUPPORTED")
    return lora_config(layers)


def _is_embedding(update: Update) -> bool:
    return isinstance(plain(update), Embedding)


def _write_diffusers(path: Path, layers: Layers, metadata: Mapping[str, str]) -> Path:
    file = path if path.suffix == ".safetensors" and not path.is_dir() else path / DIFFUSERS_FILE
    parts = {layer.partition(".")[0] for layer in layers}
    if parts <= COMPONENTS and all("." in layer for layer in layers):
        config: dict[str, Any] = {}
        for part in sorted(parts):
            inside = {p.partition(".")[2]: u for p, u in layers.items() if p.startswith(f"{part}.")}
            config |= {f"{part}.{field}": value for field, value in _config(inside).items()}
    else:  # the layers of one model, as `save_lora_adapter` writes them: load with prefix=None
        config = _config(layers)
    tensors = _peft_tensors(layers, "")
    header = header_fields(layers, metadata, tensors=tensors)
    header[CONFIG_FIELD] = json.dumps(config, sort_keys=True)
    _refuse_company(file)
    write_atomic(file, container_bytes(tensors, header))
    return file


def _write_peft(path: Path, layers: Layers, metadata: Mapping[str, str]) -> Path:
    if path.suffix == ".safetensors":
        raise UsageError(
            f"{shown(path)}: a PEFT adapter is a folder; leave out '.safetensors'", code="E_PATH"
        )
    file = path / PEFT_FILES[0]
    tensors = _peft_tensors(layers, PEFT_PREFIX)
    config = json.dumps(_config(layers), indent=2, sort_keys=True).encode()
    header = header_fields(layers, metadata, tensors=tensors)
    _refuse_company(file)
    write_atomic(file, container_bytes(tensors, header))
    write_atomic(path / PEFT_FILES[1], [config])
    return path


def _write_kohya(path: Path, layers: Layers, metadata: Mapping[str, str]) -> Path:
    file = path if path.suffix == ".safetensors" and not path.is_dir() else path / KOHYA_FILE
    tensors = kohya_tensors(layers)
    header = header_fields(layers, metadata, tensors=tensors)
    _refuse_company(file)
    write_atomic(file, container_bytes(tensors, header))
    return file


def _refuse_company(file: Path) -> None:
    """A folder that would then hold two adapters could not be loaded as one."""
    if file.name not in (PEFT_FILES[0], DIFFUSERS_FILE, KOHYA_FILE) or not file.parent.is_dir():
        return
    others = [
        item.name
        for item in file.parent.iterdir()
        if item.suffix == ".safetensors" and item.name != file.name
    ]
    if others:
        reason = f"{shown(file.parent)} already holds {shown(others[0])}; save into a folder of its own"
        raise UsageError(reason, code="E_AMBIGUOUS")


DIALECTS: Mapping[str, Dialect] = {
    "diffusers": Dialect("diffusers", _write_diffusers, _diffusers_fault),
    "kohya": Dialect("kohya", _write_kohya, kohya_fault),
    "peft": Dialect("peft", _write_peft, _peft_fault),
}


def write(path: Path, layers: Layers, metadata: Mapping[str, str], *, dialect: str) -> Path:
    """Write in `dialect` (a key of `DIALECTS`) and return what to give to `Adapter.load`.

    UsageError E_UNSUPPORTED, E_UNRESOLVED or E_AMBIGUOUS, before anything is written, where the dialect
    cannot hold a layer; EnvironmentLackError E_WRITE if the disk refuses.
    """
    row = DIALECTS[dialect]
    for layer, update in layers.items():
        fault = row.fault(update)
        if fault is not None:
            reason = f"layer {shown(layer)} has {fault}, which the {dialect} dialect cannot hold"
            raise UsageError(f"{reason}; choose another dialect or make it low-rank", code="E_UNSUPPORTED")
    return row.write(path, layers, metadata)

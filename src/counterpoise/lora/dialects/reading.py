"""Reading an adapter, in whatever dialect: strictly, every tensor used, everything but the values first.

In: a path. Out: layers (path -> update), the adapter's own metadata and the dialects met, or a refusal that
names the tensor, what is wrong and the next step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

from torch import Tensor

from counterpoise.errors import UsageError, shown
from counterpoise.lora.container import DTYPES, read_tensor
from counterpoise.lora.dialects.alphas import (
    agreed_alpha,
    check_header_alpha,
    header_config,
    read_config,
    stated_alphas,
)
from counterpoise.lora.dialects.grammar import Meaning, flat
from counterpoise.lora.dialects.hashes import check_hash
from counterpoise.lora.dialects.metadata import own_metadata
from counterpoise.lora.dialects.roles import Roles, stems_of, twice
from counterpoise.lora.dialects.spellings import PEFT_PREFIX, flat_prefix, meanings, split_component
from counterpoise.lora.header import Header, opened, read_header, refuse
from counterpoise.lora.kinds import UPDATE_KINDS, Biased, DoRA, UpdateKind
from counterpoise.lora.kinds.rows import take_rows, unfused
from counterpoise.lora.update import FACTOR_DTYPES, Shape, Update, finite_fault

PEFT_FILES = ("adapter_model.safetensors", "adapter_config.json")
_INTEGERS = ("I64", "I32", "I16", "I8", "U8")
_NUMBERS = ("alpha", "scalar")
# What may stand beside any kind's tensors; diff_b is also the full difference's own.
_BESIDE = frozenset({"alpha", "scalar", "magnitude", "dora_scale", "bias", "diff_b"})


@final
@dataclass(frozen=True)
class Loaded:
    """What a file held; `dialects` are the names of the spellings met."""

    layers: dict[str, Update]
    metadata: dict[str, str]
    dialects: tuple[str, ...]
    file: Path


class Layer(NamedTuple):
    """A stem of the file: which tensors it has, what it means and what it makes."""

    roles: Roles
    meaning: Meaning
    row: UpdateKind
    rank: int


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


def read(path: Path) -> Loaded:
    """The layers and metadata of the adapter at `path`, or RefusedInputError."""
    path, config_path = locate(path)
    config = read_config(config_path) if config_path is not None else None
    with opened(path) as file:
        header = read_header(path, file)
        config = header_config(path, header) if config is None else config
        stems = stems_of(path, header.slots)
        meant, dialects = meanings(stems, has_config=config is not None)
        _check_once(path, stems, meant)
        layers = {stem: _layer(path, header, stem, found=(stems[stem], meant[stem])) for stem in stems}
        alphas = _alphas(path, header, config, layers=layers)
        found: dict[str, Update] = {}
        for stem, layer in layers.items():
            tensors = {role: read_tensor(path, file, header, key=key) for role, key in layer.roles.items()}
            _check_finite(path, tensors, layer.roles)
            said = alphas.get(layer.meaning.targets[0])
            found |= _updates(path, stem, tensors, layer=layer, said=said)
        check_hash(path, file, header)
    return Loaded(found, own_metadata(header.metadata, found), dialects, path)


def _check_once(path: Path, stems: Mapping[str, Roles], meant: Mapping[str, Meaning]) -> None:
    """E_DUP_MODULE if two stems mean one layer, or a flattened name can be one that is there in full."""
    first: dict[str, str] = {}
    for stem, meaning in meant.items():
        for target in meaning.targets:
            if target in first:
                raise twice(path, target, keys=(_any(stems[first[target]]), _any(stems[stem])))
            first[target] = stem
    opened_names = [stem for stem in first if flat_prefix(stem) is not None]
    dotted = {flat(split_component(target)[1]): target for target in first if "." in target}
    for stem in opened_names:
        whole = dotted.get(stem.removeprefix(flat_prefix(stem) or ""))
        if whole is not None:
            raise twice(path, whole, keys=(_any(stems[first[whole]]), _any(stems[stem])))


def _any(roles: Roles) -> str:
    return next(iter(roles.values()))


def _layer(path: Path, header: Header, stem: str, *, found: tuple[Roles, Meaning]) -> Layer:
    roles, meaning = found
    for role, key in roles.items():
        _check_slot(path, header, key, role=role)
    row = _row_of(path, stem, roles)
    shapes = {role: header.slots[roles[role]].shape for role in roles if role in row.needs | row.may}
    fault = row.cls.shapes_fault(shapes)
    if fault is not None:
        reason = f"layer {shown(stem)} ({row.cls.kind}): {fault[1]}; make the file again"
        raise refuse(path, fault[0], reason)
    return Layer(roles, meaning, row, row.cls.rank_of(shapes))


def _row_of(path: Path, stem: str, roles: Roles) -> UpdateKind:
    """The kind that the roles make; E_INCOMPLETE_PAIR if one of its tensors is missing, E_UNSUPPORTED if
    there are tensors of two kinds."""
    own = set(roles) - _BESIDE | (set(roles) & {"diff_b"} if "diff" in roles else set())
    has = ", ".join(sorted(roles))
    if not own:
        reason = f"layer {shown(stem)} has {has} but no down and no up: the file is incomplete, make it again"
        raise refuse(path, "E_INCOMPLETE_PAIR", reason)
    fitting = sorted(
        (row for row in UPDATE_KINDS.values() if own <= _all(row)), key=lambda row: len(row.needs - own)
    )
    if not fitting:
        reason = f"layer {shown(stem)} mixes tensors of several kinds ({has}); keep one kind a layer"
        raise refuse(path, "E_UNSUPPORTED", reason)
    missing = sorted(fitting[0].needs - own)
    if missing:
        lacks = " and no ".join(missing)
        reason = f"layer {shown(stem)} has {has} but no {lacks}: the file is incomplete, make it again"
        raise refuse(path, "E_INCOMPLETE_PAIR", reason)
    return fitting[0]


def _all(row: UpdateKind) -> frozenset[str]:
    return row.needs | row.may


def _check_slot(path: Path, header: Header, key: str, *, role: str) -> None:
    slot = header.slots[key]
    if DTYPES.get(slot.dtype) not in FACTOR_DTYPES and not (role == "alpha" and slot.dtype in _INTEGERS):
        reason = f"tensor {shown(key)!r} is {slot.dtype}; expected F64, F32, F16 or BF16"
        raise refuse(path, "E_DTYPE", reason)
    if role in _NUMBERS and slot.shape not in ((), (1,)):
        reason = f"tensor {shown(key)!r} has shape {list(slot.shape)}, expected one number"
        raise refuse(path, "E_SHAPE", reason)


def _check_finite(path: Path, tensors: Mapping[str, Tensor], roles: Roles) -> None:
    for role, tensor in tensors.items():
        fault = finite_fault(f"tensor {shown(roles[role])!r}", tensor)
        if fault is not None:
            raise refuse(path, "E_NONFINITE", f"{fault}; the training failed, make the file again")


def _alphas(
    path: Path, header: Header, config: Mapping[str, Any] | None, *, layers: Mapping[str, Layer]
) -> dict[str, float]:
    ranks = {target: layer.rank for layer in layers.values() for target in layer.meaning.targets}
    if config is not None:
        roles = {layer.meaning.targets[0]: set(layer.roles) for layer in layers.values()}
        return stated_alphas(path, config, ranks, roles=roles)
    plain = [
        stem for stem, layer in layers.items() if layer.meaning.targets == (stem.removeprefix(PEFT_PREFIX),)
    ]
    if any(stem.startswith(PEFT_PREFIX) for stem in plain):
        reason = f"has PEFT's names but no {PEFT_FILES[1]} beside it, so no alpha; give the whole folder"
        raise refuse(path, "E_CONFIG", reason)
    has_alphas = any("alpha" in layer.roles for layer in layers.values())
    check_header_alpha(path, header, ranks, has_alphas=has_alphas)
    return {}


def _updates(
    path: Path, stem: str, tensors: Mapping[str, Tensor], *, layer: Layer, said: float | None
) -> dict[str, Update]:
    """Layer path -> update of one stem: one, or the parts of a fused layer."""
    alpha = agreed_alpha(path, stem, tensors.get("alpha"), said=said)
    if alpha == 0 and flat_prefix(stem) is not None:
        reason = f"layer {shown(stem)} has alpha 0, which kohya reads as scale 1 and others as 0; set it"
        raise refuse(path, "E_CONFIG", reason)
    if "scalar" in tensors and float(tensors["scalar"].reshape(())) != 1.0:
        reason = f"layer {shown(stem)} has a scalar other than 1, which tools disagree on"
        raise refuse(path, "E_UNSUPPORTED", f"{reason}; save it again with LyCORIS, which bakes it in")
    own = {role: t for role, t in tensors.items() if role in _all(layer.row)}
    try:
        whole = _wrapped(layer.row.make(own, layer.rank if alpha is None else alpha), tensors)
    except UsageError as error:
        raise refuse(path, error.code, f"layer {shown(stem)}: {error}") from None
    return _spread(path, stem, whole, meaning=layer.meaning)


def _wrapped(update: Update, tensors: Mapping[str, Tensor]) -> Update:
    """`update` with the magnitude and bias that stand beside it."""
    for role in ("magnitude", "dora_scale"):
        if role in tensors:
            axis = 1 if update.kind == "Embedding LoRA" else 0
            update = DoRA(update, _lengths(tensors[role], update.weight_shape, role=role, axis=axis))
    if "bias" in tensors:
        update = Biased(update, tensors["bias"])
    if "diff_b" in tensors and "diff_b" not in update.tensors():
        update = Biased(update, tensors["diff_b"], scaled=False)
    return update


def _lengths(stored: Tensor, weight: Shape, *, role: str, axis: int) -> Tensor:
    """PEFT's [n] or [1, n, 1, 1], always one an output, as [n, 1, ...]; LyCORIS' shapes tell their axis."""
    if role == "magnitude":
        ones = [1] * len(weight)
        ones[axis] = stored.numel()
        return stored.reshape(ones)
    if stored.dim() == 1:  # no axis to tell it by: rows, as every tool that writes it so means
        return stored.reshape(-1, *(1 for _ in weight[1:]))
    return stored


def _spread(path: Path, stem: str, whole: Update, *, meaning: Meaning) -> dict[str, Update]:
    rows = whole.weight_shape[0]
    parts: list[Update] | None = [whole]
    if meaning.swapped:
        half = rows // 2
        moved = take_rows(whole, [*range(half, rows), *range(half)]) if rows % 2 == 0 else None
        parts = None if moved is None else [moved]
    elif meaning.shares:
        unit, rest = divmod(rows, sum(meaning.shares))
        parts = None if rest else unfused(whole, [unit * share for share in meaning.shares])
    if parts is None:
        reason = (
            f"layer {shown(stem)} is a fused one of {rows} rows, whose {whole.kind} cannot be taken apart"
        )
        raise refuse(path, "E_UNSUPPORTED", f"{reason}; convert it to LoRA where it was made")
    return dict(zip(meaning.targets, parts, strict=True))

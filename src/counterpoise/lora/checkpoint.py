"""Folds adapters into a checkpoint on disk, tensor by tensor, in bounded memory.

In: a safetensors file, a folder of shards with its index, or a diffusers folder of components; adapters at
strengths. Out: the same files elsewhere, with the adapted weights folded as a Host would fold them, and a
note of what was folded. Each file takes its name only when it is whole; a killed run goes on inside the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from io import FileIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch

from counterpoise.errors import CounterpoiseError, EnvironmentLackError, RefusedInputError, UsageError, shown
from counterpoise.lora.adapter import Adapter
from counterpoise.lora.container import DTYPES
from counterpoise.lora.fit import check_strength
from counterpoise.lora.folding import check_finite
from counterpoise.lora.header import Header, Slot, opened, read_header, refuse
from counterpoise.lora.kinds import LowRank, parted
from counterpoise.lora.lowrank import FACTOR_DTYPES
from counterpoise.lora.names import nearest
from counterpoise.lora.norms import delta_norm, is_extreme
from counterpoise.lora.stack import Entries, Entry, dense_update, stacked
from counterpoise.lora.update import Update

PROVENANCE = "counterpoise.folded"
_BLOCK = 2**20  # bytes of a weight that are in memory at a time: little enough for a core's cache

Progress = Callable[[int, int], None]


def fold_checkpoint(
    source: Path,
    out: Path,
    adapters: Sequence[tuple[Adapter, float]],
    *,
    prefix: str = "",
    allow_extreme: bool = False,
    progress: Progress = lambda done, total: None,
) -> list[Path]:
    """Write `source` with `adapters` folded in to `out`, and return the weight files written.

    Accumulated in float32 and rounded once, as Host.fold. prefix: what the adapters' paths begin with and the
    checkpoint's names do not ("unet" for a UNet's own file). progress: bytes done, bytes in all.
    RefusedInputError E_NO_MATCH, E_SHAPE or E_LAYER, before a byte is written, where an adapter does not fit,
    and, without `allow_extreme`, E_EXTREME as Host.mount; UsageError where `out` lies in the way;
    EnvironmentLackError E_WRITE where the disk refuses.
    """
    files = checkpoint_files(source)
    if out.resolve() == source.resolve() or source.resolve() in out.resolve().parents:
        raise UsageError(
            f"{shown(out)} is the checkpoint itself, or in it; choose another place", code="E_PATH"
        )
    headers = {file: _header(file) for file in files}
    targets = _matched(source, headers, adapters, prefix=prefix)
    note = _note(source, adapters)
    total = sum(_size(header) for header in headers.values())
    done = 0
    written = []
    try:
        for file, header in headers.items():
            place = out / file.relative_to(source) if source.is_dir() else _file_in(out, source)
            fold = _Fold(targets.get(file, {}), note, allow_extreme)
            _fold_file(file, header, place, fold=fold, progress=partial(_shifted, progress, done, total))
            done += _size(header)
            written.append(place)
        if source.is_dir():
            _copy_company(source, out, set(files))
    except OSError as error:
        reason = (
            f"{shown(out, 300)}: cannot be written ({error.strerror or error}); check space and permissions"
        )
        raise EnvironmentLackError(reason, code="E_WRITE", file=str(out)) from error
    return written


def _shifted(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def checkpoint_files(source: Path) -> list[Path]:
    """The weight files of a checkpoint: itself, the shards of an index, or every component's.

    RefusedInputError E_MISSING where there is none, E_AMBIGUOUS where a folder without an index holds several
    (fp16 and fp32 variants, say).
    """
    if source.is_file():
        return [source]
    folders = [source, *sorted(item for item in source.iterdir() if item.is_dir())] if source.is_dir() else []
    found = [file for folder in folders for file in _files_in(folder)]
    if not found:
        raise refuse(source, "E_MISSING", "holds no .safetensors file; give a checkpoint's file or folder")
    return found


def _files_in(folder: Path) -> list[Path]:
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    files = sorted(folder.glob("*.safetensors"))
    if len(indexes) == 1:
        named = json.loads(indexes[0].read_text("utf-8")).get("weight_map", {})
        listed = sorted(set(named.values()))
        missing = [name for name in listed if folder / name not in files]
        if missing:
            raise refuse(folder, "E_MISSING", f"its index names {shown(missing[0])}, which is not there")
        return [folder / name for name in listed]
    if len(indexes) > 1 or len(files) > 1:
        names = ", ".join(shown(item.name) for item in (indexes or files)[:4])
        raise refuse(folder, "E_AMBIGUOUS", f"holds several checkpoints ({names}); give one file")
    return files


def _header(file: Path) -> Header:
    with opened(file) as data:
        return read_header(file, data)


def _size(header: Header) -> int:
    return max((slot.end for slot in header.slots.values()), default=0)


def _file_in(out: Path, source: Path) -> Path:
    return out / source.name if out.is_dir() or not out.suffix else out


def _matched(
    source: Path,
    headers: Mapping[Path, Header],
    adapters: Sequence[tuple[Adapter, float]],
    *,
    prefix: str,
) -> dict[Path, dict[str, Entries]]:
    """File -> tensor name -> its stack; every layer of every adapter has landed."""
    places: dict[str, tuple[Path, str]] = {}
    for file, header in headers.items():
        part = file.parent.name if source.is_dir() and file.parent != source else prefix
        for key in header.slots:
            name = key.removesuffix(".weight")
            if name != key or key.endswith(".bias"):
                places[".".join(filter(None, [part, name]))] = (file, key)
    found: dict[Path, dict[str, Entries]] = {}
    for i, (adapter, strength) in enumerate(adapters):
        checked = check_strength(str(i), strength)
        missing = [path for path in adapter.layers if path not in places]
        if missing:
            listed = " | ".join(shown(path) + nearest(path, places) for path in missing[:2])
            reason = f"{len(missing)} of {len(adapter.layers)} layers are not in {shown(source)}: {listed}"
            raise RefusedInputError(reason, code="E_NO_MATCH", file=adapter.source)
        for path, update in adapter.layers.items():
            file, key = places[path]
            slot = headers[file].slots[key]
            own, bias = parted(update.shaped(slot.shape))
            landing = [(file, key, own)]
            if bias is not None:
                if f"{path}.bias" not in places:
                    reason = f"{shown(path)} has no bias in {shown(source)}, but its update changes one"
                    raise RefusedInputError(reason, code="E_LAYER", file=adapter.source)
                landing.append((*places[f"{path}.bias"], bias))
            for home, name, part_of in landing:
                _check_slot(headers[home].slots[name], name, part_of, adapter)
                stack = found.setdefault(home, {}).get(name, ())
                found[home][name] = (*stack, Entry(f"{i:06}", part_of, checked))
    return found


def _check_slot(slot: Slot, key: str, update: Update, adapter: Adapter) -> None:
    if slot.shape != update.weight_shape or DTYPES.get(slot.dtype) not in FACTOR_DTYPES:
        reason = (
            f"{shown(key)} is {slot.dtype} {list(slot.shape)} but the update is {list(update.weight_shape)}"
        )
        raise RefusedInputError(
            f"{reason}; use an adapter made for this model", code="E_SHAPE", file=adapter.source
        )


def _note(source: Path, adapters: Iterable[tuple[Adapter, float]]) -> str:
    parents = [{"sha256": adapter.fingerprint(), "strength": strength} for adapter, strength in adapters]
    return json.dumps({"checkpoint": source.name, "adapters": parents}, sort_keys=True)


class _Fold(NamedTuple):
    """What is folded into one file."""

    targets: Mapping[str, Entries]
    note: str
    allow_extreme: bool


def _fold_file(
    file: Path, header: Header, place: Path, *, fold: _Fold, progress: Callable[[int], None]
) -> None:
    """Copy `file` to `place`, the targets folded; goes on in the part that a killed run left of the same."""
    start = _new_header(file, header, fold.note)
    part = place.with_name(f".{place.name}.part")
    if place.exists() and _begins_with(place, start) and place.stat().st_size == len(start) + _size(header):
        progress(_size(header))
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    resumed = part.exists() and _begins_with(part, start)
    with opened(file) as source, part.open("r+b" if resumed else "wb", buffering=0) as sink:
        if not resumed:
            _write(sink, start)
        at = part.stat().st_size - len(start) if resumed else 0
        for key, slot in sorted(header.slots.items(), key=lambda item: item[1].begin):
            if slot.end <= at:
                continue
            source.seek(header.data + slot.begin)
            sink.seek(len(start) + slot.begin)
            sink.truncate()
            if key in fold.targets:
                try:
                    _fold_tensor(
                        source, sink, slot, entries=fold.targets[key], key=key, extreme=fold.allow_extreme
                    )
                except CounterpoiseError:
                    part.unlink()
                    raise
            else:
                _copy(source, sink, slot.end - slot.begin)
            progress(slot.end)
        os.fsync(sink.fileno())
    os.replace(part, place)


def _new_header(file: Path, header: Header, note: str) -> bytes:
    with opened(file) as source:
        raw = source.read(header.data)
    entries = json.loads(raw[8:])
    # The hash says which bytes these were folded from: a changed source does not go on in an old part.
    digest = hashlib.sha256(raw + str(file.stat().st_mtime_ns).encode()).hexdigest()
    entries["__metadata__"] = {**header.metadata, PROVENANCE: note, f"{PROVENANCE}.header": digest}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _begins_with(file: Path, start: bytes) -> bool:
    with file.open("rb") as data:
        return data.read(len(start)) == start


def _write(sink: FileIO, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[sink.write(view) :]


def _copy(source: BinaryIO, sink: FileIO, count: int) -> None:
    while count > 0:
        done = os.sendfile(sink.fileno(), source.fileno(), source.tell(), min(count, 2**30))
        if not done:
            raise OSError("the checkpoint was cut short while it was being read")
        source.seek(done, os.SEEK_CUR)
        count -= done


def _fold_tensor(
    source: BinaryIO, sink: FileIO, slot: Slot, *, entries: Entries, key: str, extreme: bool
) -> None:
    """The weight's rows, some at a time: W0 plus up @ down in float32, rounded once.

    An update that is not of factors takes the whole weight at once.
    """
    dtype, rows = DTYPES[slot.dtype], slot.shape[0]
    exact = torch.promote_types(torch.float32, dtype)
    factors = all(isinstance(entry.update, LowRank) for entry in entries)
    row_bytes = (slot.end - slot.begin) // rows
    step = max(1, _BLOCK // max(1, row_bytes)) if factors else rows
    pair = stacked(entries, device=torch.device("cpu"), dtype=exact) if factors else None
    squares = 0.0
    for begin in range(0, rows, step):
        count = min(step, rows - begin)
        raw = bytearray(count * row_bytes)
        if source.readinto(raw) != len(raw):  # type: ignore[attr-defined]
            raise OSError("the checkpoint was cut short while it was being read")
        weight = torch.frombuffer(raw, dtype=dtype).reshape(count, *slot.shape[1:])
        wide = weight.to(exact).reshape(count, -1)
        squares += float(torch.linalg.vector_norm(wide)) ** 2
        value = weight
        if pair is not None:
            down, up = (factor.flatten(1) for factor in pair)
            value = torch.addmm(wide, up[begin : begin + count], down).to(dtype)
        elif not factors:
            mixed = dense_update(entries, device=weight.device, dtype=exact, base=weight)
            value = weight if mixed is None else (wide + mixed.reshape(count, -1)).to(dtype)
        if not math.isfinite(float(value.sum(dtype=exact))):  # a sum only acquits
            check_finite(value, weight.reshape(value.shape), key)
        _write(sink, value.contiguous().flatten().view(torch.uint8).numpy().data)
    if not extreme:
        _check_extreme(entries, squares**0.5, key)


def _check_extreme(entries: Entries, base: float, key: str) -> None:
    for entry in entries:
        delta = delta_norm(entry.update)
        if delta is not None and is_extreme(delta, base):
            reason = f"a delta of {shown(key)} is {delta / base:.3g} times as long as its weight"
            raise RefusedInputError(f"{reason}; if that is meant, --allow-extreme folds it", code="E_EXTREME")


def _copy_company(source: Path, out: Path, weights: set[Path]) -> None:
    """Configs, tokenizers, the index: what makes the folder loadable."""
    for file in sorted(source.rglob("*")):
        if file.is_file() and file not in weights:
            place = out / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)

"""The header of a safetensors file, read strictly.

In: a path. Out: the header (tensor name -> dtype, shape, offsets) after every check that can be made
without reading a tensor. Nothing in the file is executed, imported or used as a path. Knows no torch, so
that a bad file is refused before that is imported.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, final

from counterpoise.errors import RefusedInputError, shown
from counterpoise.lora.names import key_fault

LARGEST_HEADER = 32 * 2**20
# A mixture-of-experts adapter has some 36,000 tensors; decoding millions would take seconds and gigabytes.
MOST_TENSORS = 50_000
LARGEST_METADATA_VALUE = 2**20
MOST_METADATA_KEYS = 1000

# What an adapter's tensors may be, in bits.
_OWN_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8}
_OWN_BITS |= {"BOOL": 8}
# Known to the format but never part of an adapter: named in the refusal, not called unknown.
_OTHER_BITS = {"U64": 64, "U32": 32, "U16": 16, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8}
_OTHER_BITS |= {"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}
_BITS = _OWN_BITS | _OTHER_BITS


@final
@dataclass(frozen=True)
class Slot:
    """Where one tensor lies: `begin` and `end` count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@final
@dataclass(frozen=True)
class Header:
    """A checked header; `data` is the file offset at which the tensors begin."""

    slots: Mapping[str, Slot]
    metadata: Mapping[str, str]
    data: int


def refuse(path: Path, code: str, reason: str) -> RefusedInputError:
    """The refusal of `path` for `reason`, in one line."""
    return RefusedInputError(f"{shown(path, 300)}: {reason}", code=code, file=str(path))


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """`path` opened for reading if it is a regular file (or a link to one); never waits on a FIFO."""
    try:
        # O_NONBLOCK: opening a FIFO without a writer would wait for ever; it means nothing for a file.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise refuse(path, "E_MISSING", "there is no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise refuse(path, "E_NOT_READABLE", f"cannot be opened ({error}); check its permissions") from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise refuse(path, "E_NOT_REGULAR", "is not a regular file; give the adapter's .safetensors file")
        yield file


def pairs_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """`object_pairs_hook` that refuses a repeated key, where json would keep the last."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        again = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise KeyError(again)
    return found


def strict_json(path: Path, raw: bytes, *, what: str, code: str) -> dict[str, Any]:
    """The JSON object in `raw`; `code` if it is none, E_DUP_KEY if any key in it is repeated."""

    def no_constant(text: str) -> float:
        raise ValueError(f"{text} is not JSON")

    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=pairs_once, parse_constant=no_constant)
    except KeyError as error:
        key = shown(error.args[0])
        raise refuse(path, "E_DUP_KEY", f"{what} has the key {key!r} twice; make the file again") from None
    except (ValueError, RecursionError) as error:
        reason = f"{what} is not valid UTF-8 JSON ({shown(error, 80)}); download or make the file again"
        raise refuse(path, code, reason) from None
    if not isinstance(found, dict):
        raise refuse(path, code, f"{what} is a JSON {type(found).__name__}, expected an object")
    return found


def _impostor(start: bytes) -> str | None:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"PK\x03\x04"):
        return "this is a zip archive or a PyTorch pickle, not safetensors; ask for the .safetensors file"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "this is a Python pickle (it can run code), not safetensors; ask for the .safetensors file"
    if text.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer, not the file itself; run git lfs pull"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "this is an HTML page, not the file; log in or accept the licence, then download it again"
    return None


def read_header(path: Path, file: BinaryIO) -> Header:
    """The header of the safetensors file, every rule of the format checked; else RefusedInputError."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(512)
    length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else -1
    # Only what cannot be a header is examined as something else: 0x80 0x02 may begin a true length.
    if (length > size - 8 or start[8:9] != b"{") and (found := _impostor(start)) is not None:
        raise refuse(path, "E_NOT_SAFETENSORS", found)
    if length < 0:
        raise refuse(path, "E_TRUNCATED", f"has {size} bytes, too few for a header; download it again")
    if length > LARGEST_HEADER:
        reason = f"declares a header of {length} bytes, more than {LARGEST_HEADER}; not a safetensors adapter"
        raise refuse(path, "E_TRUNCATED" if length > size - 8 else "E_HEADER_SIZE", reason)
    if length > size - 8:
        reason = f"declares a header of {length} bytes but has {size}: download incomplete? Get it again"
        raise refuse(path, "E_TRUNCATED", reason)
    file.seek(8)
    raw = file.read(length)
    if not raw.startswith(b"{"):
        raise refuse(path, "E_HEADER_JSON", "the header does not begin with '{'; not a safetensors file")
    if raw.count(b'"data_offsets"') > MOST_TENSORS or raw.count(b"{") + raw.count(b"[") > 8 * MOST_TENSORS:
        reason = f"has a header of more than {MOST_TENSORS} tensors; that is no adapter, give a LoRA file"
        raise refuse(path, "E_HEADER_SIZE", reason)
    entries = strict_json(path, raw, what="the header", code="E_HEADER_JSON")
    metadata = _metadata(path, entries.pop("__metadata__", {}))
    slots = {key: _slot(path, key, entry) for key, entry in entries.items()}
    _check_layout(path, slots, size - 8 - length)
    return Header(slots, metadata, 8 + length)


def _metadata(path: Path, found: object) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise refuse(path, "E_HEADER_JSON", "__metadata__ is not an object of strings; make the file again")
    kept = {key: value for key, value in found.items() if len(key) + len(value) <= LARGEST_METADATA_VALUE}
    if len(kept) > MOST_METADATA_KEYS:
        kept = {}
    if len(kept) < len(found):
        warnings.warn(
            f"{shown(path, 300)}: ignored {len(found) - len(kept)} of {len(found)} metadata entries (limits: "
            f"{LARGEST_METADATA_VALUE} characters each, {MOST_METADATA_KEYS} entries)",
            stacklevel=2,
        )
    return kept


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _slot(path: Path, key: str, entry: object) -> Slot:
    fault = key_fault(key)
    if fault is not None:
        raise refuse(path, "E_KEY", f"tensor name {shown(key)!r} {fault}; make the file again")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        reason = f"header entry {shown(key)!r} must hold exactly dtype, shape and data_offsets"
        raise refuse(path, "E_HEADER_JSON", reason)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise refuse(path, "E_DTYPE", f"tensor {shown(key)!r} has the unknown dtype {shown(dtype)!r}")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise refuse(path, "E_HEADER_JSON", f"header entry {shown(key)!r} has a malformed shape or offsets")
    if len(shape) > 16 or not all(map(_is_count, [*shape, *offsets])):
        reason = f"tensor {shown(key)!r} has shape {shown(shape)} and offsets {shown(offsets)}: not counts"
        raise refuse(path, "E_LAYOUT", reason)
    bits = math.prod(shape) * _BITS[dtype]
    if offsets[0] > offsets[1] or (offsets[1] - offsets[0]) * 8 != bits:
        reason = f"tensor {shown(key)!r}: offsets {offsets} do not hold {dtype} {shape}; make the file again"
        raise refuse(path, "E_LAYOUT", reason)
    return Slot(dtype, tuple(shape), offsets[0], offsets[1])


def _check_layout(path: Path, slots: Mapping[str, Slot], available: int) -> None:
    at = 0
    for key, slot in sorted(slots.items(), key=lambda item: (item[1].begin, item[1].end)):
        if slot.begin != at:
            kind = "overlaps the tensor before it" if slot.begin < at else "leaves a hole before it"
            raise refuse(path, "E_LAYOUT", f"tensor {shown(key)!r} {kind} (offset {slot.begin}, not {at})")
        at = slot.end
    if at > available:
        reason = f"holds {available} of {at} bytes of tensors: download incomplete? Get it again"
        raise refuse(path, "E_LAYOUT", reason)
    if at < available:
        raise refuse(path, "E_LAYOUT", f"has {available - at} extra bytes after its tensors; make it again")


def check_header(path: Path) -> None:
    """RefusedInputError unless the file (in a folder: PEFT's) has a sound header; silent about what is only
    ignored in it, which is told when it is read."""
    inside = path / "adapter_model.safetensors"
    file = inside if path.is_dir() else path
    if inside.exists() or not path.is_dir():
        with opened(file) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read_header(file, stream)

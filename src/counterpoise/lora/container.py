"""The safetensors container: tensors read, and files written deterministically.

In: a path and its checked header. Out: tensors by bounded reads (no mmap: a file cut short by another process
must be an error, not a SIGBUS); or tensors -> the bytes of a file.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from counterpoise.errors import shown
from counterpoise.lora.header import Header, refuse

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_tensor(path: Path, file: BinaryIO, header: Header, *, key: str) -> Tensor:
    """The tensor `key`, in memory of its own."""
    slot = header.slots[key]
    if slot.dtype not in DTYPES:
        raise refuse(path, "E_DTYPE", f"tensor {shown(key)!r} is {slot.dtype}; factors must be floats")
    tensor = torch.empty(slot.shape, dtype=DTYPES[slot.dtype])
    if slot.end > slot.begin:
        file.seek(header.data + slot.begin)
        raw = bytearray(slot.end - slot.begin)
        got = file.readinto(raw)  # type: ignore[attr-defined]
        if got != len(raw):
            reason = f"ended inside tensor {shown(key)!r}: it was cut short while being read; try again"
            raise refuse(path, "E_TRUNCATED", reason)
        tensor = torch.frombuffer(raw, dtype=DTYPES[slot.dtype]).reshape(slot.shape)
    return tensor


def container_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[bytes]:
    """The safetensors file of `tensors`, piece by piece; equal input gives equal bytes.

    (The library's own writer puts metadata in an order that changes from call to call.)
    """
    yield header_bytes(tensors, metadata)
    yield from tensor_bytes(tensors)


def _order(tensors: Mapping[str, Tensor]) -> list[str]:
    # Widest first keeps every tensor aligned, as readers that map the file expect.
    return sorted(tensors, key=lambda key: (-tensors[key].dtype.itemsize, key))


def header_bytes(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, escaped: bool = True
) -> bytes:
    """The length and header of the safetensors file of `tensors`; other letters than ASCII are `escaped`
    here, but not by the safetensors library."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    entries: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    at = 0
    for key in _order(tensors):
        tensor = tensors[key]
        end = at + tensor.numel() * tensor.dtype.itemsize
        entries[key] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, end],
        }
        at = end
    raw = json.dumps(entries, separators=(",", ":"), ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw


def tensor_bytes(tensors: Mapping[str, Tensor]) -> Iterator[bytes]:
    """What follows the header of the safetensors file of `tensors`, a piece for each."""
    for key in _order(tensors):
        flat = tensors[key].detach().cpu().contiguous().flatten()
        yield flat.view(torch.uint8).numpy().tobytes()

"""The hashes by which web UIs know a LoRA file: of its tensors' bytes, whatever its header says.

Source: kohya-ss/sd-scripts, library/train_util.py (precalculate_safetensors_hashes), which follows
sd-webui-additional-networks. `sshs_model_hash` is sha256 of all that follows the header. `sshs_legacy_hash`
is the first 8 hex of sha256 of 64 KiB at 1 MiB, of the file with a header of ss_ fields alone.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from counterpoise.errors import shown
from counterpoise.lora.container import header_bytes, tensor_bytes
from counterpoise.lora.header import Header

MODEL_HASH = "sshs_model_hash"
LEGACY_HASH = "sshs_legacy_hash"
SPEC_HASH = "modelspec.hash_sha256"
_AT, _LENGTH = 0x100000, 0x10000
_CHUNK = 2**20


def hash_fields(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """The hash fields of a file of `tensors` whose other metadata is `metadata`."""
    whole, legacy = hashlib.sha256(), hashlib.sha256()
    kept = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    at = len(header_bytes(tensors, kept, escaped=False))  # as sd-scripts would have written it
    for piece in tensor_bytes(tensors):
        whole.update(piece)
        legacy.update(piece[max(0, _AT - at) : max(0, _AT + _LENGTH - at)])
        at += len(piece)
    digest = whole.hexdigest()
    return {MODEL_HASH: digest, LEGACY_HASH: legacy.hexdigest()[:8], SPEC_HASH: f"0x{digest}"}


def check_hash(path: Path, file: BinaryIO, header: Header) -> None:
    """Warn where the header's own hash is not the content's: who looks the file up by it finds another."""
    said = header.metadata.get(MODEL_HASH)
    if said is None:
        return
    digest = hashlib.sha256()
    file.seek(header.data)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    fault = None
    if said.removeprefix("0x") != digest.hexdigest():
        fault = f"{MODEL_HASH} {shown(said, 20)} in the header does not match the content"
    elif said.startswith("0x"):
        fault = f"{MODEL_HASH} in the header has a 0x that readers do not expect"
    if fault is not None:
        warnings.warn(f"{shown(path, 300)}: {fault}; saving it again writes the right one", stacklevel=4)

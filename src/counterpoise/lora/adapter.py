"""`Adapter`: which layers an update touches and with what, and where it is kept on disk."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import final

import torch

from counterpoise.errors import UsageError, shown
from counterpoise.lora.dialects import DIALECTS, RESERVED_METADATA, read, write
from counterpoise.lora.kinds import LowRank, is_update
from counterpoise.lora.match import matched_layers
from counterpoise.lora.names import key_fault, nearest
from counterpoise.lora.update import Update


def _path(path: object) -> Path:
    """`path` as a Path; UsageError E_PATH for what names nothing (an empty text would mean this folder)."""
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise UsageError(f"path is {shown(repr(path))}: expected a file or folder", code="E_PATH")
    return Path(path)


@final
@dataclass(frozen=True, eq=False)
class Adapter:
    """Layer path -> update, plus metadata (text -> text); `source` is the file it came from, if any.

    Paths for a pipeline begin with the component ("unet.down_blocks.0..."), as in diffusers files; for
    a plain module they do not. UsageError if empty or misnamed. Equal means the same layers bit for bit
    and the same metadata.
    """

    layers: Mapping[str, Update]
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None

    def __post_init__(self) -> None:
        if not self.layers:
            raise UsageError("an adapter needs at least one layer; this one has none", code="E_EMPTY")
        for path, update in self.layers.items():
            fault = key_fault(path) if isinstance(path, str) else "is not text"
            if fault is not None:
                raise UsageError(f"layer path {shown(path)!r} {fault}", code="E_KEY")
            if not is_update(update):
                reason = f"layer {shown(path)} has a {type(update).__name__}, expected a LowRank"
                raise UsageError(f"{reason} or another kind of update", code="E_UNSUPPORTED")
        for key, value in self.metadata.items():
            if not isinstance(key, str) or not isinstance(value, str) or key in RESERVED_METADATA:
                names = ", ".join(sorted(RESERVED_METADATA))
                reason = (
                    f"metadata entry {shown(key)!r}: expected text -> text under a name other than {names}"
                )
                raise UsageError(reason, code="E_METADATA")
        object.__setattr__(self, "layers", MappingProxyType(dict(sorted(self.layers.items()))))
        object.__setattr__(self, "metadata", MappingProxyType(dict(sorted(self.metadata.items()))))

    @staticmethod
    def load(path: str | os.PathLike[str], *, model: object = None) -> Adapter:
        """The adapter at `path`: a file of any dialect, a PEFT folder, or the folder that holds one of them.

        Told apart by content. Strict: every tensor is used or RefusedInputError says which is not and
        why, before a value is read; a layer without an alpha has alpha = rank, as in diffusers and kohya.
        With a `model` (module or pipeline) the layers get its paths, see `matched`.
        """
        found = read(_path(path))
        adapter = Adapter(found.layers, found.metadata, source=str(path))
        return adapter if model is None else adapter.matched(model)

    def matched(self, model: object) -> Adapter:
        """The same updates under `model`'s own paths: flattened names are resolved by its list of modules.

        RefusedInputError E_NO_MATCH (with the nearest names), E_AMBIGUOUS or E_DUP_MODULE; `model` is only
        looked at.
        """
        return Adapter(matched_layers(self.layers, model, source=self.source), self.metadata, self.source)

    def save(self, path: str | os.PathLike[str], dialect: str = "diffusers") -> Path:
        """Write to `path` and return what `load` takes; equal adapters give equal bytes.

        "diffusers": a `.safetensors` file, or a folder to hold one, for `load_lora_weights` (paths that
        begin with a component) or `load_lora_adapter(prefix=None)`. "kohya": likewise, for web UIs; names
        outside the known models need `load(..., model=...)` to be read again. "peft": a folder for
        `PeftModel.from_pretrained` on the module that the paths start from (see `component`). UsageError
        for a kind that the dialect cannot hold. Each file is replaced whole; EnvironmentLackError E_WRITE
        if the disk refuses.
        """
        if dialect not in DIALECTS:
            reason = f"dialect {shown(dialect)!r}: expected one of {', '.join(DIALECTS)}"
            raise UsageError(f"{reason}{nearest(str(dialect), DIALECTS)}", code="E_DIALECT")
        return write(_path(path), self.layers, self.metadata, dialect=dialect)

    def component(self, name: str) -> Adapter:
        """The part under `name` ("unet"), its paths without that prefix, as the component itself has them."""
        inside = {p.removeprefix(f"{name}."): u for p, u in self.layers.items() if p.startswith(f"{name}.")}
        if not inside:
            known = sorted({path.partition(".")[0] for path in self.layers})
            reason = (
                f"no layer is under {shown(name)!r}; the paths begin with {', '.join(map(shown, known[:5]))}"
            )
            raise UsageError(reason, code="E_NO_MATCH")
        return Adapter(inside, self.metadata, self.source)

    def prefixed(self, name: str) -> Adapter:
        """The same updates with paths below `name`: what a pipeline calls its component's layers."""
        return Adapter({f"{name}.{p}": u for p, u in self.layers.items()}, self.metadata, self.source)

    def fingerprint(self) -> str:
        """sha256 over paths, alphas, dtypes, shapes and factor bytes: what it does, not its metadata."""
        digest = hashlib.sha256(b"counterpoise adapter 1\n")
        for path, update in self.layers.items():
            digest.update(f"{path}\0".encode() + struct.pack("<d", update.alpha))
            tensors = update.tensors()
            if not isinstance(update, LowRank):
                digest.update(f"{update.kind} {' '.join(tensors)}\0".encode())
            for tensor in tensors.values():
                flat = tensor.detach().cpu().contiguous().flatten()
                digest.update(f"{tensor.dtype}{list(tensor.shape)}\0".encode())
                digest.update(flat.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Adapter):
            return NotImplemented
        return dict(self.layers) == dict(other.layers) and dict(self.metadata) == dict(other.metadata)

    __hash__ = None  # type: ignore[assignment]

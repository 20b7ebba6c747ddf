"""A model's own weights: hashed, copied, overwritten in place."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from counterpoise.errors import StateError
from counterpoise.lora.layers import join

_CHUNK = 2**24


def _feed(digest: hashlib._Hash, tensor: Tensor) -> None:
    digest.update(f"{tensor.dtype}{list(tensor.shape)}\0".encode())
    flat = tensor.detach().contiguous().flatten()
    for begin in range(0, flat.numel(), _CHUNK):  # in pieces: a large weight on a GPU is not copied whole
        digest.update(flat[begin : begin + _CHUNK].cpu().view(torch.uint8).numpy().data)


def tensor_digest(tensor: Tensor) -> str:
    """sha256 of dtype, shape and bytes, wherever the tensor lies."""
    digest = hashlib.sha256()
    _feed(digest, tensor)
    return digest.hexdigest()


class Checksum(NamedTuple):
    """What tells a weight that somebody wrote into, at the cost of reading it once: the sum of its words."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    words: int


def checksum(tensor: Tensor) -> Checksum:
    """The checksum of dtype, shape and bytes. Proves nothing against an adversary: `tensor_digest` does."""
    flat = tensor.detach().contiguous().flatten()
    size = flat.numel() * flat.element_size()
    word = next(
        kind for kind in (torch.int64, torch.int32, torch.int16, torch.int8) if size % kind.itemsize == 0
    )
    words = int(flat.view(word).sum(dtype=torch.int64)) if size else 0
    return Checksum(tensor.dtype, tuple(tensor.shape), words)


class Seal(NamedTuple):
    """W0 as it was found: `sha256` proves that it is back, `checksum` is asked at every move between.

    norm: its Frobenius norm.
    """

    sha256: str
    checksum: Checksum
    norm: float


def seal(tensor: Tensor) -> Seal:
    """The seal of a weight as it is now."""
    wide = torch.promote_types(tensor.dtype, torch.float32)
    norm = torch.linalg.vector_norm(tensor.detach(), dtype=wide)
    return Seal(tensor_digest(tensor), checksum(tensor), float(norm))


def model_digest(roots: Mapping[str, nn.Module]) -> str:
    """sha256 over every parameter and buffer (names, dtypes, shapes, bytes), in the order of their names."""
    named = {
        join(prefix, name): tensor
        for prefix, root in roots.items()
        for tensors in (
            root.named_parameters(remove_duplicate=False),
            root.named_buffers(remove_duplicate=False),
        )
        for name, tensor in tensors
    }
    digest = hashlib.sha256(b"counterpoise host 1\n")
    for name in sorted(named):
        if named[name].is_meta:
            reason = f"{name} has no values in memory (meta device); load the model without offloading"
            raise StateError(reason, code="E_META")
        digest.update(f"{name}\0".encode())
        _feed(digest, named[name])
    return digest.hexdigest()


def overwrite(weight: Tensor, value: Tensor) -> None:
    """Put `value` into the storage of `weight`: whoever holds the parameter sees it, flags stay."""
    with torch.inference_mode(weight.is_inference()), torch.no_grad():
        weight.copy_(value)

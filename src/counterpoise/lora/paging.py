"""Keeps the factors of mounted adapters within a memory budget: what is over it lies on disk.

In: adapters, the most wanted first. Out: the same adapters, the tensors of some of them now mapped from files
of ours, which the system reads when they are used and drops when memory is short. Whoever holds the
adapters sees nothing of it. The files have no name, so that nobody can cut them short under a mapping, and
are gone with the adapters.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from counterpoise.errors import EnvironmentLackError, UsageError
from counterpoise.lora.adapter import Adapter

_ALIGN = 64  # bytes; every tensor begins at a multiple


@final
class Pager:
    """budget: bytes of factors in memory. folder: where the files are to lie (None: the system's place)."""

    def __init__(self, budget: int, folder: Path | None = None) -> None:
        if isinstance(budget, bool) or not isinstance(budget, int) or budget < 0:
            reason = f"memory budget is {budget!r}: expected a number of bytes, 0 or more"
            raise UsageError(reason, code="E_BUDGET")
        self.budget = budget
        self._folder = folder
        self._out: dict[int, Adapter] = {}  # by id; held, so that no other object gets that id

    def in_memory(self, adapters: Iterable[Adapter]) -> int:
        """Bytes of these adapters' factors that are not paged out."""
        return sum(_nbytes(adapter) for adapter in adapters if id(adapter) not in self._out)

    def settle(self, adapters: Iterable[Adapter]) -> None:
        """As many of `adapters` in memory, in their order, as the budget holds; the others paged out.

        EnvironmentLackError E_WRITE if the disk refuses; what could not be written stays in memory.
        """
        wanted = {id(adapter): adapter for adapter in adapters}
        self._out = {key: adapter for key, adapter in self._out.items() if key in wanted}
        left = self.budget
        for key, adapter in wanted.items():
            size = _nbytes(adapter)
            stays = size <= left
            left -= size if stays else 0
            if stays and self._out.pop(key, None) is not None:
                for tensor in _tensors(adapter):
                    tensor.data = tensor.data.clone()
            elif not stays and key not in self._out:
                _page_out(_tensors(adapter), self._folder)
                self._out[key] = adapter


def _page_out(tensors: list[Tensor], folder: Path | None) -> None:
    begins, size = [], 0
    for tensor in tensors:
        begins.append(size)
        size += -(-tensor.nbytes // _ALIGN) * _ALIGN
    try:
        descriptor, name = tempfile.mkstemp(dir=folder)
        try:
            for tensor, begin in zip(tensors, begins, strict=True):
                _write(descriptor, tensor, begin)
            os.truncate(descriptor, size)
            # Private: somebody who writes into a factor changes his own copy of the page.
            mapped = torch.from_file(name, shared=False, size=size, dtype=torch.uint8)
        finally:
            os.close(descriptor)
            os.unlink(name)
    except (OSError, RuntimeError) as error:
        reason = f"{size} bytes of factors cannot be paged out ({error})"
        raise EnvironmentLackError(
            f"{reason}; free disk space or raise the memory budget", code="E_WRITE"
        ) from error
    for tensor, begin in zip(tensors, begins, strict=True):
        tensor.data = mapped[begin : begin + tensor.nbytes].view(tensor.dtype).view(tensor.shape)


def _tensors(adapter: Adapter) -> list[Tensor]:
    """Every tensor of every layer that lies on the CPU: the very objects that the updates hold."""
    found = (tensor for update in adapter.layers.values() for tensor in update.tensors().values())
    return [tensor for tensor in found if tensor.device.type == "cpu"]


def _nbytes(adapter: Adapter) -> int:
    return sum(tensor.nbytes for tensor in _tensors(adapter))


def _write(descriptor: int, tensor: Tensor, at: int) -> None:
    left = memoryview(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    while left:
        done = os.pwrite(descriptor, left, at)
        left, at = left[done:], at + done

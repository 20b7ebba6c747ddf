"""Running out of memory: told from other errors, whatever it is called where it happened."""

from __future__ import annotations

import torch

# RuntimeErrors of torch's CPU allocator, of oneDNN and of drivers that have no class for it.
_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "could not allocate", "alloc_failed")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was lacking, so that a smaller batch may do."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def free_memory() -> None:
    """Give back what torch holds in reserve on a GPU."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()

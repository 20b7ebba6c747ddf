"""In which type a machine multiplies fast: bfloat16 where it has instructions for it, else float32.

A processor without them emulates bfloat16, fifty times slower than float32 (AVX2, torch 2.13).

Comes in: a device. Goes out: the name of a type, or the context to compute in.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from counterpoise.errors import UsageError

Dtype = Literal["float32", "bfloat16"]
ASKED = ("auto", "float32", "bfloat16")
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # as torch.cpu.get_capabilities names them


def resolved(asked: str, device: torch.device | str) -> Dtype:
    """What a request for "auto", "float32" or "bfloat16" means on a device. UsageError for another name."""
    if asked not in ASKED:
        raise UsageError(f"dtype {asked!r}: expected one of {', '.join(ASKED)}", code="E_DTYPE")
    if asked == "auto":
        return "bfloat16" if _has_bfloat16(torch.device(device).type) else "float32"
    return "bfloat16" if asked == "bfloat16" else "float32"


def computed_in(asked: str, device: torch.device | str) -> AbstractContextManager[Any]:
    """The context in which float32 weights compute in the type asked for, as `resolved` has it."""
    if resolved(asked, device) == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def _has_bfloat16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    told: Mapping[str, Any] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # newer than the oldest torch that is supported
    return any(told.get(name) for name in _INSTRUCTIONS)

"""Counterpoise: find a text-to-image model's biases, repair them with a low-rank update, prove it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from counterpoise.lora import Adapter, Host

__all__ = ["Adapter", "Host"]


def __getattr__(name: str) -> object:
    # Lazy: `counterpoise --help` must not pay for importing torch.
    if name in __all__:
        from counterpoise import lora

        return getattr(lora, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

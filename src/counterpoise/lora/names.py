"""What a name may hold, how it is shown, and which names are near it."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping

from counterpoise.errors import shown

LONGEST_KEY = 512
_ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
ADAPTER_NAME_RULE = "1 to 64 letters, digits, '_' or '-', beginning with a letter or digit"


def key_fault(key: str) -> str | None:
    """Why `key` cannot be the name of a tensor or layer, or None where it can."""
    if not key:
        return "is empty"
    if len(key) > LONGEST_KEY:
        return f"has {len(key)} characters, more than {LONGEST_KEY}"
    # Cc: NUL, ANSI escapes. Cf: bidi overrides, zero-width. Cs: lone surrogates. They hide what a name says.
    if any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in key):
        return "holds control, invisible or bidirectional characters"
    if "/" in key or "\\" in key:
        return "looks like a file path"
    if "" in key.split("."):
        return "has an empty part between dots"
    return None


def is_adapter_name(name: object) -> bool:
    """Whether `name` may name a mounted adapter (see `ADAPTER_NAME_RULE`)."""
    return isinstance(name, str) and _ADAPTER_NAME.fullmatch(name) is not None


def nearest(
    name: str, known: Iterable[str], count: int = 3, *, meant: Mapping[str, str] | None = None
) -> str:
    """A clause such as "; nearest: a, b" naming the known names most like `name`, or "".

    `meant` has, for known names, what to show in their place.
    """
    found = difflib.get_close_matches(name, list(known), n=count, cutoff=0.6)
    told = [shown(n if meant is None else meant[n]) for n in found]
    return f"; nearest: {', '.join(told)}" if told else ""

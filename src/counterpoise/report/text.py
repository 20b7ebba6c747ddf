"""Text as a reader may safely see it: invisible characters made visible, numbers with their intervals."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable

NOT_MEASURED = "not measured"

# Cc control, Cf format (bidi overrides, zero-width joiners, tags), Cs lone surrogates, line and
# paragraph separators: each can hide text or turn it round, so none reaches the page as itself.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


# Spelt out rather than as control pictures (U+241B): many systems have no glyph for those.
_NAMES = tuple(
    "NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE "  # noqa: SIM905 (a table on two lines)
    "DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US".split()
)


def visible(text: str) -> str:
    """The text with every control, format or surrogate character spelt out: ⟨ESC⟩, ⟨U+202E⟩."""
    return "".join(_spelt(c) if unicodedata.category(c) in _HIDDEN else c for c in text)


def _spelt(char: str) -> str:
    code = ord(char)
    return f"⟨{_NAMES[code]}⟩" if code < len(_NAMES) else f"⟨U+{code:04X}⟩"


def clip(text: str, limit: int) -> str:
    """The text made visible and cut to at most `limit` characters, the last of them an ellipsis if cut."""
    shown = visible(text)
    return shown if len(shown) <= limit else shown[: limit - 1].rstrip() + "…"


def distinct(texts: Iterable[str], limit: int) -> dict[str, str]:
    """Each text -> a clipped label that no other text has: charts join rows by their labels."""
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for text in dict.fromkeys(texts):
        label, count = clip(text, limit) or "(empty)", 1
        while label in taken:
            count += 1
            label = clip(text, limit - len(f" ({count})")) + f" ({count})"
        taken.add(label)
        labels[text] = label
    return labels


def number(value: float, digits: int = 3) -> str:
    """A plain number to `digits` decimals, or "not measured" for NaN and infinities."""
    return f"{value:.{digits}f}" if math.isfinite(value) else NOT_MEASURED


def percent(value: float) -> str:
    """A share in [0, 1] as "20.3 %", or "not measured"."""
    return f"{100 * value:.1f}\u00a0%" if math.isfinite(value) else NOT_MEASURED


def percent_interval(low: float, high: float) -> str:
    """An interval of shares as "[16.1, 24.9]"; empty where there is none."""
    return f"[{100 * low:.1f}, {100 * high:.1f}]" if math.isfinite(low + high) else ""


def interval(low: float, high: float) -> str:
    """An interval of plain numbers as "[0.041, 0.120]"; empty where there is none."""
    return f"[{low:.3f}, {high:.3f}]" if math.isfinite(low + high) else ""

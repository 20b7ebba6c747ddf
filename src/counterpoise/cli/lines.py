"""Lines of results on stdout that hold user text: whole on any width, escaped where stdout lacks a letter."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from counterpoise.cli import console


def show(lines: Iterable[str]) -> None:
    """Print each line unbroken; what stdout's encoding cannot show stands as \\xe9 and the like."""
    encoding = console.out.encoding or "ascii"
    for line in lines:
        console.out.print(line.encode(encoding, "backslashreplace").decode(encoding))


def write_text(path: Path | None, text: str) -> None:
    """Write a file that an option named, if it did, with the folders above it."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

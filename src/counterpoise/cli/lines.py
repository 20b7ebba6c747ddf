"""Lines of results on stdout that hold user text: whole on any width, escaped where stdout lacks a letter."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path


def show(lines: Iterable[str]) -> None:
    """Write each line unbroken; what stdout's encoding cannot show stands as \\xe9 and the like.

    A reader that went away (`| head -1`) is no error here: a verb's exit code must stay what it found.
    """
    encoding = sys.stdout.encoding or "ascii"
    try:
        for line in lines:
            sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Else the interpreter's own flush at exit would meet the closed pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_text(path: Path | None, text: str) -> None:
    """Write a file that an option named, if it did, with the folders above it."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

"""Writing a file so that a reader sees the old one or the new one, never half of either.

`write_atomic` for what a user keeps: synced, and refused in words. `whole` and `write_whole` for what can be
made again, `remembered` for what should not have to be.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from counterpoise.errors import EnvironmentLackError, shown

T = TypeVar("T")


def write_atomic(path: Path, pieces: Iterable[bytes]) -> None:
    """Write `pieces` to `path` through a temporary file in its folder, synced before it takes the name.

    The folder is made if it is missing. EnvironmentLackError E_WRITE if the disk refuses; whatever
    happens, an existing file keeps its bytes until the new one is whole.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Mode 0666 less the umask, as open() would: mkstemp's 0600 would hide the file from others.
            descriptor = os.open(
                temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666
            )
            with os.fdopen(descriptor, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        reason = (
            f"{shown(path, 300)}: cannot be written ({error.strerror or error}); check space and permissions"
        )
        raise EnvironmentLackError(reason, code="E_WRITE", file=str(path)) from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the name `path` when the block ends and goes if it fails.

    The folder is made if it is missing. A kill leaves the old file or the new, and perhaps a `.tmp` beside it
    that the next call overwrites. Not synced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write text as `whole` does."""
    with whole(path) as unfinished:
        unfinished.write_text(text, "utf-8")


def remembered(file: Path, make: Callable[[], T]) -> T:
    """What `make` gives, which JSON can say, or what it gave before the work was interrupted."""
    if file.exists():
        saved: T = json.loads(file.read_text("utf-8"))
        return saved
    made = make()
    write_whole(file, json.dumps(made))
    return made


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open a folder for syncing.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

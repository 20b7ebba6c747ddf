"""Picture files of a run: encoded, written so that a kill leaves whole files or none."""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

IMAGES = "images"
_OURS = re.compile(r"\d+\.png(\.tmp)?")
_TEMPORARY = re.compile(r"(environment\.json|results\.json|observations\.\w+)\.[0-9a-f]{8}\.tmp")


def picture_file(arm: tuple[int, str], prompt: tuple[int, str], seed: int) -> str:
    """Where a picture lies in its run folder. Ids keep names apart that file systems confuse ("A", "a")."""
    slug = re.sub(r"[^a-z0-9]+", "-", prompt[1].lower()).strip("-")[:40].strip("-")
    return f"{IMAGES}/{arm[0]}-{arm[1]}/{prompt[0]:04d}-{slug}/{seed}.png"


def png_bytes(picture: np.ndarray, *, text: PngInfo | None = None) -> bytes:
    """uint8 (height, width, 3) as PNG with these text chunks, the same bytes each time."""
    stream = io.BytesIO()
    # Run lengths only: a quarter of the time of Pillow's default at the same size (64 x 64, 0.14 ms), since
    # sampled pictures carry noise in which a search for longer repeats finds nothing.
    Image.fromarray(picture).save(stream, "PNG", compress_type=zlib.Z_RLE, pnginfo=text)
    return stream.getvalue()


def write_pictures(folder: Path, named: Sequence[tuple[str, bytes]]) -> None:
    """Write a batch of files, each whole or not at all, before any row speaks of them.

    They are not synced one by one: that costs 0.2 to 0.9 ms a picture, more than all the rest. A kill needs
    no sync, since the system holds what was written. After a power cut a file may be missing or empty
    though its row is safe; but a picture can be drawn again and its row knows its sha256, so whoever opens
    the run next finds out (`intact`) and draws it again. `settle` syncs everything when a run ends.
    """
    for shelf in {name.rpartition("/")[0] for name, _ in named}:
        (folder / shelf).mkdir(parents=True, exist_ok=True)
    for name, data in named:
        # Plain strings: with Path objects a third of the time went into joining them.
        file = f"{folder}/{name}"
        with open(file + ".tmp", "wb") as stream:
            stream.write(data)
        os.replace(file + ".tmp", file)


def intact(path: Path, size: int, digest: str) -> bool:
    """Whether a picture's file still has the bytes that its row says."""
    try:
        return path.stat().st_size == size and sha256(path.read_bytes()) == digest
    except FileNotFoundError:
        return False


def probe(folder: Path, name: str) -> None:
    """Write and delete a file where the longest-named picture will lie: OSError before any drawing."""
    if name:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        file = f"{folder}/{name}.tmp"
        with open(file, "wb"):
            pass
        os.unlink(file)


def settle() -> None:
    """Have the system write out all that it still holds in memory (a no-op where it offers no such call)."""
    if hasattr(os, "sync"):
        os.sync()


def write_atomically(path: Path, data: bytes) -> None:
    """Write one file so that readers and kills see the old bytes or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(5):
        # A name of its own: two processes that end one run together both write what they found.
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            temporary.write_bytes(data)
            _sync(temporary)
            os.replace(temporary, path)
            break
        except FileNotFoundError:
            # Swept by a process that took it for a dead one's (`sweep_temporaries`), unless the folder went.
            if attempt == 4 or not path.parent.is_dir():
                raise
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    _sync(path.parent)


def sweep_temporaries(folder: Path) -> None:
    """Delete what `write_atomically` left in a folder when it was killed."""
    for path in folder.glob("*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def sweep(folder: Path, known: set[str]) -> int:
    """Delete picture files (ours by their name) that no row speaks of; return how many."""
    orphans = [
        path
        for path in (folder / IMAGES).glob("*/*/*")
        if _OURS.fullmatch(path.name) and path.relative_to(folder).as_posix() not in known
    ]
    for path in orphans:
        path.unlink()
    return len(orphans)


def sha256(data: bytes) -> str:
    """The hex digest that a picture's row carries."""
    return hashlib.sha256(data).hexdigest()


def _sync(path: Path | str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

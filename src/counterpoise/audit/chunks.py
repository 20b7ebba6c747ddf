"""What a PNG says of itself in text: written as others expect it, and read whoever wrote it.

`parameters` is the block that AUTOMATIC1111's web UI writes and most tools show; as its format is made of
lines and commas, a prompt with odd characters is only told there as well as it can be. `counterpoise` is
ours: ASCII JSON, in which any prompt survives to the letter.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from PIL.PngImagePlugin import PngInfo

from counterpoise.audit.digest import canonical
from counterpoise.diffusion.arm import Arm, Cell

SCHEMA = 1
KEYWORD = "counterpoise"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_FILE, _MAX_TEXT = 256_000_000, 4_000_000


@final
@dataclass(frozen=True, slots=True)
class Chunks:
    """texts: every (keyword, text) in the file's order, repeated keywords too. notes: what was wrong."""

    texts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()

    def all(self, keyword: str) -> list[str]:
        """The texts under a keyword, in order."""
        return [text for name, text in self.texts if name == keyword]

    def ours(self) -> dict[str, object] | None:
        """What our own chunk says; None without one, or if there are several or it is no JSON object."""
        found = self.all(KEYWORD)
        try:
            said = json.loads(found[0]) if len(found) == 1 else None
        except (ValueError, RecursionError):
            return None
        return said if isinstance(said, dict) else None


def picture_chunks(cell: Cell, arm: Arm, *, size: tuple[int, int], told: Mapping[str, object]) -> PngInfo:
    """The text chunks of a cell's picture of (width, height).

    told: `sampler` (may be absent), the digests `run` and `arm` that name what drew it, and `drawn`, the
    prompt that it was drawn with, where the arm rewrites prompts.
    """
    info = PngInfo()
    info.add_text("parameters", _parameters(cell, arm, size, told))
    ours = {
        "schema": SCHEMA,
        "arm": cell.arm,
        "prompt": cell.prompt,
        "seed": cell.seed,
        "negative_prompt": arm.negative_prompt,
        "arm_sha256": told["arm"],
        "run_sha256": told["run"],
        **({"drawn": told["drawn"]} if "drawn" in told else {}),
        **({"pushed": arm.pushed, "push": arm.push} if arm.pushed else {}),
    }
    info.add_text(KEYWORD, canonical(ours))
    return info


def read_chunks(path: Path | str) -> Chunks:
    """Every text chunk of a PNG file; never raises: what cannot be read is a note.

    tEXt, zTXt and iTXt, up to 4 MB a text; nothing in them is interpreted.
    """
    try:
        path = Path(path)
        if not path.is_file():
            return Chunks((), ("no regular file",))
        if path.stat().st_size > _MAX_FILE:
            return Chunks((), (f"larger than {_MAX_FILE} bytes",))
        return _walk(path.read_bytes())
    except (OSError, ValueError) as error:
        return Chunks((), (f"cannot be read: {getattr(error, 'strerror', None) or error}",))


def _parameters(cell: Cell, arm: Arm, size: tuple[int, int], told: Mapping[str, object]) -> str:
    """In the order in which A1111 writes it. The prompt is the one that was drawn, since readers draw it
    again; the one that was asked stands behind it, quoted as A1111 quotes texts."""
    sampler, drawn = str(told.get("sampler") or ""), str(told.get("drawn", cell.prompt))
    settings = [f"Steps: {arm.steps}"]
    settings += [f"Sampler: {sampler}"] if sampler else []
    settings += [
        f"CFG scale: {arm.guidance:g}",
        f"Seed: {cell.seed}",
        f"Size: {size[0]}x{size[1]}",
        f"Model hash: {arm.model_sha256[:10]}",
    ]
    settings += [f"Prompt asked: {json.dumps(cell.prompt)}"] if drawn != cell.prompt else []
    lines = [drawn]
    lines += [f"Negative prompt: {arm.negative_prompt}"] if arm.negative_prompt else []
    # PNG ends a text at a NUL.
    return "\n".join([*lines, ", ".join(settings)]).replace("\0", "\N{REPLACEMENT CHARACTER}")


def _walk(data: bytes) -> Chunks:
    if not data.startswith(_SIGNATURE):
        return Chunks((), ("not a PNG",))
    texts: list[tuple[str, str]] = []
    notes: list[str] = []
    at = len(_SIGNATURE)
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        end = at + 12 + length
        if end > len(data):
            notes.append(f"cut off in chunk {kind!r}")
            break
        if kind in _READERS:
            if zlib.crc32(kind + body) != int.from_bytes(data[end - 4 : end], "big"):
                notes.append(f"wrong checksum of a {kind.decode('ascii')} chunk")
            try:
                texts.append(_READERS[kind](body))
            except (ValueError, zlib.error) as error:
                notes.append(f"a {kind.decode('ascii')} chunk cannot be read: {error}")
        if kind == b"IEND":
            break
        at = end
    else:
        notes.append("cut off before its end")
    return Chunks(tuple(texts), tuple(notes))


def _plain(body: bytes) -> tuple[str, str]:
    keyword, text = _split(body)
    if len(text) > _MAX_TEXT:
        raise ValueError(f"{len(text)} bytes of text")
    return keyword, text.decode("latin-1")


def _deflated(body: bytes) -> tuple[str, str]:
    keyword, rest = _split(body)
    return keyword, _inflate(rest[1:]).decode("latin-1")


def _international(body: bytes) -> tuple[str, str]:
    keyword, rest = _split(body)
    packed = rest[:1] == b"\1"
    parts = rest[2:].split(b"\0", 2)
    if len(parts) != 3:
        raise ValueError("its parts are missing")
    text = _inflate(parts[2]) if packed else parts[2]
    if len(text) > _MAX_TEXT:
        raise ValueError(f"{len(text)} bytes of text")
    return keyword, text.decode("utf-8", "replace")


def _split(body: bytes) -> tuple[str, bytes]:
    keyword, _, rest = body.partition(b"\0")
    return keyword.decode("latin-1"), rest


def _inflate(packed: bytes) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(packed, _MAX_TEXT)
    if inflater.unconsumed_tail:
        raise ValueError(f"more than {_MAX_TEXT} bytes of text")
    return text


_READERS = {b"tEXt": _plain, b"zTXt": _deflated, b"iTXt": _international}

"""Texts inside PNG pictures: iTXt chunks, put in and taken out without touching pixels or other chunks."""

from __future__ import annotations

import zlib

from counterpoise.errors import RefusedInputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_BYTES = 4_000_000  # of one text


def with_text(png: bytes, keyword: str, text: str) -> bytes:
    """The same PNG with the text under the keyword before its end, in place of any that it had there.

    RefusedInputError E_PLAN_PICTURE for bytes that are no whole PNG.
    """
    head = keyword.encode("ascii") + b"\0"
    # Not compressed, no language, no translated keyword: PNG 3rd edition, 11.3.3.3.
    body = head + b"\0\0\0\0" + text.encode("utf-8")
    made = [SIGNATURE]
    for kind, data in _chunks(png, "picture"):
        if kind == b"iTXt" and data.startswith(head):
            continue
        if kind == b"IEND":
            made.append(_chunk(b"iTXt", body))
        made.append(_chunk(kind, data))
    return b"".join(made)


def texts_of(png: bytes, keyword: str, *, where: str) -> list[str]:
    """Every text under the keyword; RefusedInputError E_PLAN_PICTURE for a damaged picture or text."""
    head = keyword.encode("ascii") + b"\0"
    return [
        _international(body[len(head) :], where)
        for kind, body in _chunks(png, where)
        if kind == b"iTXt" and body.startswith(head)
    ]


def refused(where: str, reason: str) -> RefusedInputError:
    """What is wrong with a picture's file."""
    return RefusedInputError(f"{where}: {reason}", code="E_PLAN_PICTURE", file=where)


def _international(rest: bytes, where: str) -> str:
    packed, parts = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
    try:
        raw = parts[2]
        if packed:
            inflater = zlib.decompressobj()
            raw = inflater.decompress(raw, MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise refused(where, f"a text of it has more than {MAX_BYTES} bytes")
        return raw.decode("utf-8")
    except (IndexError, ValueError, zlib.error) as error:
        raise refused(where, f"a text of it cannot be read ({error})") from None


def _chunks(data: bytes, where: str) -> list[tuple[bytes, bytes]]:
    """(kind, data) of every chunk, checked."""
    found: list[tuple[bytes, bytes]] = []
    at = len(SIGNATURE)
    if not data.startswith(SIGNATURE):
        raise refused(where, "not a PNG")
    while not found or found[-1][0] != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body, end = data[at + 8 : at + 8 + length], at + 12 + length
        if end > len(data):
            raise refused(where, "cut off before its end: is the download complete?")
        if zlib.crc32(kind + body) != int.from_bytes(data[end - 4 : end], "big"):
            raise refused(where, f"wrong checksum of its {kind!r} chunk: the file is damaged")
        found.append((kind, body))
        at = end
    return found


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

"""Plans on disk: JSON files, and pictures that carry their plan in an iTXt chunk of a PNG."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.files import write_atomic
from counterpoise.measure.cards import make_card, read_text
from counterpoise.scenes.plan import Plan, check_plan

KEYWORD = "counterpoise-scene"
MAX_BYTES = 4_000_000
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BOX = re.compile(r'"box": \[([\d\s.,e-]+)\]')  # quotes inside texts are escaped: this is no text
_MAX_PICTURE = 256_000_000


def plan_json(plan: Plan) -> str:
    """The plan as it is written: indented, one line a box, ending in a newline."""
    text = json.dumps(plan.model_dump(mode="json"), ensure_ascii=False, allow_nan=False, indent=2)
    return _BOX.sub(lambda box: '"box": [' + " ".join(box[1].split()) + "]", text) + "\n"


def save_plan(path: Path, plan: Plan) -> None:
    """Write the plan whole or not at all; EnvironmentLackError E_WRITE if the disk refuses."""
    write_atomic(path, [plan_json(plan).encode("utf-8")])


def load_plan(path: Path) -> Plan:
    """The plan in a JSON file, or in a PNG picture that carries one.

    UsageError E_PLAN_FILE (none, too large, not UTF-8), E_PLAN_JSON (with its line), E_PLAN (a key or
    value) or as `check_plan`; RefusedInputError E_PLAN_PICTURE for a picture that is damaged or carries no
    plan.
    """
    if _is_png(path):
        return parse_plan(_embedded(path), where=str(path))
    try:
        text = read_text(path)
    except UsageError as error:
        raise UsageError(str(error), code="E_PLAN_FILE", file=str(path)) from None
    return parse_plan(text, where=str(path))


def parse_plan(text: str, *, where: str = "plan") -> Plan:
    """The plan that a JSON text describes; UsageError as `load_plan`."""
    if len(text) > MAX_BYTES:
        raise UsageError(
            f"{where}: more than {MAX_BYTES} characters; is it a plan?", code="E_PLAN_FILE", file=where
        )
    try:
        content = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        said = f"not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}; correct it there"
    except RecursionError:
        said = "nested too deeply to be a plan"
    except ValueError as error:
        said = f"{error}"
    else:
        return make_plan(content, where=where)
    raise UsageError(f"{where}: {said}", code="E_PLAN_JSON", file=where)


def make_plan(content: object, *, where: str = "plan") -> Plan:
    """The plan that plain values describe; UsageError E_PLAN, or as `check_plan`."""
    try:
        plan = make_card(Plan, content, where=where)
    except UsageError as error:
        raise UsageError(str(error), code="E_PLAN", file=where) from None
    return check_plan(plan, where=where)


def embed(png: bytes, plan: Plan) -> bytes:
    """The same PNG with the plan in an iTXt chunk before its end, in place of a plan that it had.

    RefusedInputError E_PLAN_PICTURE for bytes that are no whole PNG. Pixels and other chunks are kept as
    they are.
    """
    text = json.dumps(
        plan.model_dump(mode="json"), ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    # Keyword, not compressed, no language, no translated keyword: PNG 3rd edition, 11.3.3.3.
    body = KEYWORD.encode("ascii") + b"\0\0\0\0\0" + text.encode("utf-8")
    made = [_SIGNATURE]
    for kind, data in _chunks(png, "picture"):
        if kind == b"iTXt" and data.startswith(KEYWORD.encode("ascii") + b"\0"):
            continue
        if kind == b"IEND":
            made.append(_chunk(b"iTXt", body))
        made.append(_chunk(kind, data))
    return b"".join(made)


def _embedded(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_PICTURE:
            raise _refused(str(path), f"larger than {_MAX_PICTURE} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror})", code="E_PLAN_FILE", file=str(path)
        ) from None
    head = KEYWORD.encode("ascii") + b"\0"
    texts = [
        body[len(head) :]
        for kind, body in _chunks(data, str(path))
        if kind == b"iTXt" and body.startswith(head)
    ]
    if len(texts) != 1:
        found = "no plan" if not texts else f"{len(texts)} plans"
        raise _refused(str(path), f"carries {found}: expected a picture that scene draw wrote, with one")
    return _international(texts[0], str(path))


def _international(rest: bytes, where: str) -> str:
    packed, parts = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
    try:
        raw = parts[2]
        if packed:
            inflater = zlib.decompressobj()
            raw = inflater.decompress(raw, MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise _refused(where, f"its plan has more than {MAX_BYTES} bytes")
        return raw.decode("utf-8")
    except (IndexError, ValueError, zlib.error) as error:
        raise _refused(where, f"its plan cannot be read ({error})") from None


def _chunks(data: bytes, where: str) -> list[tuple[bytes, bytes]]:
    """(kind, data) of every chunk, checked; RefusedInputError for bytes that are no whole PNG."""
    found: list[tuple[bytes, bytes]] = []
    at = len(_SIGNATURE)
    if not data.startswith(_SIGNATURE):
        raise _refused(where, "not a PNG")
    while not found or found[-1][0] != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body, end = data[at + 8 : at + 8 + length], at + 12 + length
        if end > len(data):
            raise _refused(where, "cut off before its end: is the download complete?")
        if zlib.crc32(kind + body) != int.from_bytes(data[end - 4 : end], "big"):
            raise _refused(where, f"wrong checksum of its {kind!r} chunk: the file is damaged")
        found.append((kind, body))
        at = end
    return found


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def _is_png(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(len(_SIGNATURE)) == _SIGNATURE
    except OSError:
        return False


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"has the key {key!r:.60} twice in one table: delete one")
        made[key] = value
    return made


def _no_constant(name: str) -> float:
    raise ValueError(f"holds {name}, which is no number: write a number")


def _refused(where: str, reason: str) -> RefusedInputError:
    return RefusedInputError(f"{where}: {reason}", code="E_PLAN_PICTURE", file=where)

"""A spec file in, an `AuditSpec` out; or one line that names the key, the value seen and the next step."""

from __future__ import annotations

import codecs
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import UsageError
from .spec import AuditSpec, ClaimQuestion, DisparityQuestion, Drawing

MAX_BYTES = 4_000_000
_TABLES: dict[str, type[BaseModel]] = {
    "drawing": Drawing,
    "claim": ClaimQuestion,
    "disparity": DisparityQuestion,
}
# Longest mark first: UTF-32's little-endian mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def load_spec(path: Path | str) -> AuditSpec:
    """Read a TOML spec (UTF-8, or UTF-16/32 with a byte order mark; LF or CRLF).

    Raises UsageError, one line, for a missing or unreadable file, bad TOML (with its line) or a bad value.
    """
    text = _read(Path(path))
    try:
        content = tomllib.loads(text)
    except RecursionError:
        raise UsageError(
            f"{path}: nested too deeply to be a spec; see the example", code="E_SPEC_TOML", file=str(path)
        ) from None
    except ValueError as error:
        lines = text.count("\n") + 1
        where = str(error).replace("at end of document", f"at line {lines}, the end of the file")
        raise UsageError(
            f"{path}: not valid TOML: {where}; correct that line", code="E_SPEC_TOML", file=str(path)
        ) from None
    return make_spec(content, file=str(path))


def make_spec(content: Mapping[str, object], *, file: str | None = None) -> AuditSpec:
    """The spec that a mapping (laid out as the TOML file is) describes; UsageError where it is wrong."""
    try:
        return AuditSpec.model_validate(dict(content))
    except ValidationError as error:
        # A misspelt key is also a missing one: what was written is the better news.
        problems = sorted(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        code = "E_SPEC_KEY" if problems[0]["type"] in ("extra_forbidden", "missing") else "E_SPEC_VALUE"
        prefix = f"{file}: " if file else ""
        raise UsageError(prefix + _line(problems[0]) + more, code=code, file=file) from None


def nearest(name: str, options: Iterable[str]) -> str:
    """`did you mean "skin"? (known: ...)`: the closest option, if any is close, and what there is."""
    known = sorted(options)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return (f'did you mean "{close[0]}"? ' if close else "") + f"(known: {listed})"


def _read(path: Path) -> str:
    file = str(path)
    try:
        # A FIFO or a device would block or never end: only regular files are opened.
        if path.exists() and not path.is_file():
            raise UsageError(
                f"{path}: not a regular file; name the spec's file", code="E_SPEC_FILE", file=file
            )
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{path}: cannot read the spec ({reason}); check the path", code="E_SPEC_FILE", file=file
        ) from None
    if len(raw) > MAX_BYTES:
        raise UsageError(f"{path}: more than {MAX_BYTES} bytes; is it a spec?", code="E_SPEC_FILE", file=file)
    mark, encoding = next(((m, e) for m, e in _MARKS if raw.startswith(m)), (b"", "utf-8"))
    try:
        return raw[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: not {encoding.upper()} at byte {len(mark) + error.start} ({error.reason}); "
            "save it as UTF-8",
            code="E_SPEC_ENCODING",
            file=file,
        ) from None


def _line(problem: Any) -> str:
    """One pydantic error as one line: path, value seen, what was expected, next step."""
    loc, kind = problem["loc"], problem["type"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    model = _TABLES.get(str(loc[0]), AuditSpec) if len(loc) > 1 else AuditSpec
    if kind == "extra_forbidden":
        known = [field.alias or name for name, field in model.model_fields.items()]
        return f"{path} is not a key that a spec has; {nearest(str(loc[-1]), known)}"
    expected = _expected(model, loc)
    context = problem.get("ctx", {})
    special = {
        "missing": f"is missing: expected {expected}; add it",
        "value_error": str(context.get("error", "")),
        "string_unicode": f"is {problem['input']!r:.60}: not Unicode text (a lone surrogate); write it again",
        "string_too_long": f"is longer than {context.get('max_length')} characters; shorten it",
    }
    usual = f"is {problem['input']!r:.60}: expected {expected}; correct the value"
    return f"{path} {special.get(kind, usual)}".strip()


def _expected(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """The description of the deepest field on the path: it says what is expected there."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    named = [fields[part] for part in loc if isinstance(part, str) and part in fields]
    return (named[-1].description if named else None) or "a table of keys and values"

"""What users write for judges (TOML, JSON): read strictly, refused in one line that names the key.

A card is a frozen pydantic model. A wrong key is told with the nearest right one, a wrong value with what its
field's description expects.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from counterpoise.errors import RefusedInputError, UsageError

MAX_BYTES = 64_000_000


class Card(BaseModel):
    """Refuses unknown keys, nan and inf; frozen, since a judge's version is made of it. Abstract."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


C = TypeVar("C", bound=Card)


def make_card(kind: type[C], content: object, *, where: str) -> C:
    """The card that plain values describe; UsageError E_CARD, one line beginning with `where`."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = sorted(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UsageError(f"{where}: {_line(kind, problems[0])}{more}", code="E_CARD", file=where) from None


def load_toml(kind: type[C], path: Path) -> C:
    """The card in a TOML file; UsageError E_CARD_FILE where it is missing or not TOML, E_CARD where wrong."""
    try:
        content = tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(
            f"{path}: not valid TOML ({error}); correct that line", code="E_CARD_FILE", file=str(path)
        ) from None
    return make_card(kind, content, where=str(path))


def load_json(kind: type[C], path: Path, *, what: str) -> C:
    """The card in a JSON file that counterpoise wrote; RefusedInputError E_CARD_FILE where it is not one."""
    try:
        content = json.loads(read_text(path), parse_constant=_no_constant)
        return make_card(kind, content, where=str(path))
    except (ValueError, RecursionError) as error:
        detail = f"not valid JSON ({error})"
    except UsageError as error:
        detail = str(error).removeprefix(f"{path}: ")
    raise RefusedInputError(f"{path}: {detail}; expected {what}", code="E_CARD_FILE", file=str(path))


def read_text(path: Path) -> str:
    """A regular UTF-8 file's text (with or without a byte order mark); UsageError E_CARD_FILE otherwise."""
    try:
        if not path.is_file():
            raise UsageError(f"{path}: no such file; check the path", code="E_CARD_FILE", file=str(path))
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: more than {MAX_BYTES} bytes", code="E_CARD_FILE", file=str(path))
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8", code="E_CARD_FILE", file=str(path)
        ) from None
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror})", code="E_CARD_FILE", file=str(path)
        ) from None


def nearest(name: str, options: Iterable[str]) -> str:
    """`did you mean "skin"? (known: ...)`: the closest option, if any is close, and what there is."""
    known = sorted(options)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return (f'did you mean "{close[0]}"? ' if close else "") + f"(known: {listed})"


def canonical(content: Mapping[str, object]) -> str:
    """JSON with sorted keys and no spaces: what versions are made of."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _line(kind: type[BaseModel], problem: Any) -> str:
    loc = problem["loc"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    owner, expected = _owner(kind, loc)
    if problem["type"] == "extra_forbidden":
        return f"{path} is not a key here; {nearest(str(loc[-1]), owner.model_fields)}"
    if problem["type"] == "missing":
        return f"{path} is missing: expected {expected}; add it"
    if problem["type"] == "value_error":
        return f"{path} {problem['ctx']['error']}".strip()
    return f"{path} is {problem['input']!r:.60}: expected {expected}; correct the value"


def _owner(kind: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[type[BaseModel], str]:
    """The model in which the path ends, and the description of the deepest field on it."""
    owner, expected = kind, "other values"
    for i, part in enumerate(loc):
        found = owner.model_fields.get(str(part)) if isinstance(part, str) else None
        if found is None:
            continue
        expected = found.description or expected
        inner = _model_in(found.annotation)
        if inner is not None and i < len(loc) - 1:
            owner = inner
    return owner, expected


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for m in map(_model_in, get_args(annotation)) if m is not None), None)


def _no_constant(name: str) -> float:
    raise ValueError(f"holds {name}, which is no number")

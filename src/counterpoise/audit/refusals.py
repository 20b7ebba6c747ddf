"""What pydantic found wrong with a spec, as one line: path, value seen, what was expected, next step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from counterpoise.audit.fields import KeyProblem
from counterpoise.audit.spec import (
    AuditSpec,
    Card,
    Case,
    ClaimQuestion,
    DisparityQuestion,
    Drawing,
    DriftQuestion,
    Negative,
    ReachabilityQuestion,
)
from counterpoise.errors import UsageError
from counterpoise.measure.cards import nearest

# Where a table lies: its path without the numbers.
_TABLES: dict[tuple[str, ...], type[BaseModel]] = {
    (): AuditSpec,
    ("drawing",): Drawing,
    ("confusion",): Card,
    ("claim",): ClaimQuestion,
    ("disparity",): DisparityQuestion,
    ("reachability",): ReachabilityQuestion,
    ("reachability", "cases"): Case,
    ("reachability", "negative"): Negative,
    ("drift",): DriftQuestion,
}


def refusal(error: ValidationError, *, file: str | None = None) -> UsageError:
    """The first of a spec's problems as a UsageError E_SPEC_KEY or E_SPEC_VALUE; the others are counted."""
    return first_problem(error, _line, kind="SPEC", file=file)


def first_problem(
    error: ValidationError, line: Callable[[Any], str], *, kind: str, file: str | None
) -> UsageError:
    """The first of the problems in the words of `line`, of code E_<kind>_KEY or E_<kind>_VALUE."""
    # A misspelt key is also a missing one: what was written is the better news.
    problems = sorted(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    about_key = problems[0]["type"] in ("extra_forbidden", "missing")
    prefix = f"{file}: " if file else ""
    code = f"E_{kind}_{'KEY' if about_key else 'VALUE'}"
    return UsageError(prefix + literal(line(problems[0])) + more, code=code, file=file)


def literal(text: str) -> str:
    """The text with what cannot be seen written out (an escape sequence, a change of direction)."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def keys_of(model: type[BaseModel]) -> list[str]:
    """A table's keys as they are written in the file."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _line(problem: Any) -> str:
    loc, kind = problem["loc"], problem["type"]
    model, table = _table(loc)
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    if kind == "extra_forbidden":
        return f"{path} is not a key that a spec has; {_elsewhere(str(loc[-1]), table)}{_near(model, loc)}"
    context = problem.get("ctx", {})
    said = context.get("error", "")
    if isinstance(said, KeyProblem):
        path = f"{path}{said.key}" if said.key.startswith("[") else f"{path}.{said.key}".lstrip(".")
    expected = _expected(model, loc)
    special = {
        "missing": f"is missing: expected {expected}; add it",
        "value_error": str(said),
        "string_unicode": f"is {problem['input']!r:.60}: not Unicode text (a lone surrogate); write it again",
        "string_too_long": f"is longer than {context.get('max_length')} characters; shorten it",
    }
    usual = f"is {problem['input']!r:.60}: expected {expected}; correct the value"
    return f"{path} {special.get(kind, usual)}".strip()


def _table(loc: tuple[int | str, ...]) -> tuple[type[BaseModel], tuple[str, ...]]:
    """The deepest table that the location's last part is a key of (or a list in), and where it lies."""
    named = tuple(part for part in loc[:-1] if isinstance(part, str))
    at = max((where for where in _TABLES if where == named[: len(where)]), key=len)
    return _TABLES[at], at


def _near(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    return nearest(str(loc[-1]), keys_of(model))


def _elsewhere(key: str, here: tuple[str, ...]) -> str:
    """Where a key of that very name belongs, if it stands in the wrong table."""
    tables = [where for where, model in _TABLES.items() if where != here and key in keys_of(model)]
    if not tables:
        return ""
    lists = {"claim", "disparity", "reachability", "drift"}
    names = [
        "the top of the file" if not w else f"[[{w[0]}]]" if w[0] in lists else f"[{w[0]}]"
        for w in tables
        if len(w) < 2
    ]
    return f"it belongs in {' or '.join(dict.fromkeys(names))}; " if names else ""


def _expected(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """The description of the deepest field on the path: it says what is expected there."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    named = [fields[part] for part in loc if isinstance(part, str) and part in fields]
    return (named[-1].description if named else None) or "a table of keys and values"

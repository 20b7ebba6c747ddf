"""The types that a spec's keys have, and what is said when a value is not of its type.

Where a value may take several forms, one validator checks it whole: pydantic's own report of a union has a
line for every form that it is not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

MAX_N = 100_000
MAX_PROMPT = 10_000
MAX_WORD = 200
# Seeds stay exact in JSON and in SQLite's 64-bit integers, with room for seed + n.
MAX_SEED = 2**53 - 1 - MAX_N
TARGET_TOLERANCE = 1e-6
PICTURES = f"a whole number of pictures from 1 to {MAX_N}"
DISTANCE = "a number above 0 and below 0.5, such as 0.05 for 5 points"
SCOPES = '"prompt" (each prompt by itself) or "model" (the prompts as a sample of what is asked of it)'


@final
class KeyProblem(ValueError):  # noqa: N818  # it is reported as pydantic's, never caught by its name
    """What is wrong with one key of a table, found when the table was looked at as a whole."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class Strict(BaseModel):
    """Refuses unknown keys, nan and inf; frozen, since a run's identity is made of it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


def not_blank(text: str) -> str:
    """The text; ValueError if there is nothing to be seen in it."""
    if not text.strip():
        raise ValueError("is blank: expected some text; write it or delete the entry")
    return text


def no_duplicates(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The texts; ValueError if any is there twice."""
    repeated = [text for text, times in Counter(texts).items() if times > 1]
    if repeated:
        raise ValueError(
            f"holds {repeated[0]!r:.60} more than once: expected each one once; delete the copies"
        )
    return texts


def text_problem(value: object, limit: int) -> str | None:
    """What keeps a value from being a text of 1 to `limit` characters, if anything does."""
    if not isinstance(value, str):
        return f"is {value!r:.60}: expected text"
    if not value.strip():
        return "is blank: expected some text; write it or delete the entry"
    if len(value) > limit:
        return f"is longer than {limit} characters; shorten it"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return f"is {value!r:.60}: not Unicode text (a lone surrogate); write it again"
    return None


def _texts(value: object, what: str, limit: int) -> tuple[str, ...]:
    """A list of distinct texts, at least one; ValueError says which is wrong, and what was expected."""
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"is {value!r:.60}: expected {what}")
    for i, item in enumerate(value):
        if problem := text_problem(item, limit):
            raise KeyProblem(f"[{i}]", problem)
    return no_duplicates(tuple(value))


def _one_or_many(what: str, limit: int = MAX_WORD) -> BeforeValidator:
    """A text, or a list of distinct texts (a list of one is that text)."""

    def check(value: object) -> object:
        if isinstance(value, str):
            if problem := text_problem(value, limit):
                raise ValueError(problem)
            return value
        texts = _texts(value, what, limit)
        return texts[0] if len(texts) == 1 else texts

    return BeforeValidator(check)


def _options(value: object) -> object:
    """The words of a slot: a list, or a table label -> word."""
    if not isinstance(value, Mapping):
        return _texts(value, "a list of words, or a table of label = word", MAX_WORD)
    if not value:
        raise ValueError("is {}: expected a list of words, or a table of label = word")
    for label, word in value.items():
        if problem := text_problem(label, MAX_WORD) or text_problem(word, MAX_WORD):
            raise KeyProblem(str(label), problem)
    no_duplicates(tuple(value.values()))
    return dict(value)


def _slots(value: object) -> object:
    if not isinstance(value, Mapping):
        raise ValueError(f'is {value!r:.60}: expected a table of slots, like {{ who = ["boss", "nurse"] }}')
    found = {}
    for name, options in value.items():
        try:
            found[name] = _options(options)
        except KeyProblem as problem:
            raise KeyProblem(f"{name}{_joined(problem.key)}", str(problem)) from None
        except ValueError as problem:
            raise KeyProblem(str(name), str(problem)) from None
    return found


def _joined(key: str) -> str:
    return key if key.startswith("[") else f".{key}"


def _attributes(value: object) -> object:
    """A drift's attributes: each a name, or a list of names that are looked at together."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"is {value!r:.60}: expected a list of attributes, each a name or a list of names")
    found: list[str | tuple[str, ...]] = []
    for i, item in enumerate(value):
        if isinstance(item, str):
            if problem := text_problem(item, MAX_WORD):
                raise KeyProblem(f"[{i}]", problem)
            found.append(item)
            continue
        try:
            texts = _texts(item, "an attribute's name or a list of names", MAX_WORD)
        except KeyProblem as problem:
            raise KeyProblem(f"[{i}]{problem.key}", str(problem)) from None
        except ValueError as problem:
            raise KeyProblem(f"[{i}]", str(problem)) from None
        found.append(texts[0] if len(texts) == 1 else texts)
    if len(set(found)) < len(found):
        raise ValueError("names an attribute twice: expected each one once; delete the copies")
    return tuple(found)


def _target(value: object) -> object:
    """A target in any of its forms: "uniform", shares, a prompt, or one for each of several attributes."""
    if value == "uniform":
        return value
    if not isinstance(value, Mapping) or not value:
        raise ValueError(
            f'is {value!r:.60}: expected "uniform", shares like {{ pale = 0.2, ... }}, or '
            '{ prompt = "another prompt" }'
        )
    if isinstance(value.get("prompt"), str):
        if problem := text_problem(value["prompt"], MAX_PROMPT):
            raise KeyProblem("prompt", problem)
        if len(value) > 1:
            raise ValueError('has more than the prompt: expected { prompt = "another prompt" } alone')
        return dict(value)
    if all(part == "uniform" or isinstance(part, Mapping) for part in value.values()):
        return {
            name: part if part == "uniform" else _shares(part, f" for {name}") for name, part in value.items()
        }
    return _shares(value)


def _shares(value: Mapping[str, object], whose: str = "") -> dict[str, float]:
    total = []
    for name, share in value.items():
        number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not number or not math.isfinite(share) or not 0.0 <= share <= 1.0:  # type: ignore[arg-type, operator]
            raise ValueError(f"gives {name!r:.60} the share {share!r:.60}: expected a number from 0 to 1")
        total.append(float(share))  # type: ignore[arg-type]
    if abs(math.fsum(total) - 1.0) > TARGET_TOLERANCE:
        raise ValueError(
            f"sums to {math.fsum(total):.6g}{whose}: expected 1 (within {TARGET_TOLERANCE:g}); correct the "
            "shares"
        )
    return dict(zip(value, total, strict=True))


def as_tuple(value: str | Iterable[str]) -> tuple[str, ...]:
    """One text or several, as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def options_of(value: tuple[str, ...] | Mapping[str, str]) -> dict[str, str]:
    """label -> word, of words that may be their own labels."""
    return dict(value) if isinstance(value, Mapping) else {word: word for word in value}


Shares = dict[str, float]
Target = Annotated[
    Literal["uniform"] | Shares | dict[str, str] | dict[str, Literal["uniform"] | Shares],
    BeforeValidator(_target),
]
Prompt = Annotated[str, Field(max_length=MAX_PROMPT), AfterValidator(not_blank)]
Word = Annotated[str, Field(max_length=MAX_WORD), AfterValidator(not_blank)]
Count = Annotated[int, Field(strict=True, ge=1, le=MAX_N, description=PICTURES)]
Distance = Annotated[float, Field(strict=True, gt=0.0, lt=0.5, description=DISTANCE)]
Prompts = Annotated[tuple[Prompt, ...], AfterValidator(no_duplicates)]
Attribute = Annotated[
    str | tuple[str, ...], _one_or_many("an attribute's name, or a list of names looked at together")
]
Attributes = Annotated[tuple[str | tuple[str, ...], ...], BeforeValidator(_attributes)]
Values = Annotated[str | tuple[str, ...], _one_or_many("a value, or a list of values counted together")]
Names = Annotated[str | tuple[str, ...], _one_or_many("a measurer's name, or a list of names")]
Templates = Annotated[
    str | tuple[str, ...], _one_or_many("a prompt with slots, or a list of them", MAX_PROMPT)
]
Options = Annotated[tuple[str, ...] | dict[str, str], BeforeValidator(_options)]
Slots = Annotated[dict[str, tuple[str, ...] | dict[str, str]], BeforeValidator(_slots)]
Scope = Literal["prompt", "model"]

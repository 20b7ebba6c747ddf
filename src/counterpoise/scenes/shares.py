"""What a user writes of proportions in, exact shares out: "skin: dark 2/5, tan 1/5, light 40 %"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from numbers import Rational
from typing import Any

from counterpoise.errors import UsageError
from counterpoise.measure.cards import nearest

Shares = dict[str, Fraction]
# A share of 1/1000 already asks for a thousand people before it is one person. It bounds the work too.
MAX_DENOMINATOR = 1000
UNIFORM = ("uniform", "mixed", "any", "equal")
_NUMBER = re.compile(r"(?P<name>.*\S)\s+(?P<number>\d+/\d+|\d*\.?\d+\s*%|\d+\.\d*|\.\d+|\d+)")


def parse_share(text: str) -> tuple[str, dict[str, str]]:
    """One axis as it is written: its name and value -> number as text ("" where none stands there).

    "skin: dark 2/5, tan 1/5", "hair: mixed", "skin + hair: dark + black 1/2, ...". UsageError E_SCENE_SHARE.
    """
    axis, colon, rest = text.partition(":")
    items = [item.strip() for item in rest.split(",")]
    if not colon or not axis.strip() or not all(items):
        raise share_error(f'{text!r:.80} is no share: expected "axis: value number, value number"')
    written: dict[str, str] = {}
    for item in items:
        found = _NUMBER.fullmatch(item)
        name, number = (found["name"], found["number"]) if found else (item, "")
        if name in written:
            raise share_error(f"{text!r:.80} names {name!r:.40} twice: expected each value once")
        written[name] = number
    return " ".join(axis.split()), written


def exact_shares(axis: str, written: Mapping[str, Any], *, values: Iterable[str], people: int) -> Shares:
    """value -> share, exact and in all 1, for what was written of an axis that has these values.

    Numbers may be fractions ("2/5"), decimals (0.4), percentages ("40 %") or whole counts that sum to
    `people`; without numbers all are alike, and "mixed" alone means all the axis's values. UsageError
    E_SCENE_VALUE for a value that the axis lacks, E_SCENE_SHARE for a wrong number or sum.
    """
    known = list(values)
    if len(written) == 1 and next(iter(written)).lower() in UNIFORM and not next(iter(written.values())):
        return {value: Fraction(1, len(known)) for value in known}
    for value in written:
        if value not in known:
            raise UsageError(
                f"{axis} has no value {value!r:.60}; {nearest(value, known)}", code="E_SCENE_VALUE"
            )
    if all(number == "" for number in written.values()):
        return {value: Fraction(1, len(written)) for value in written}
    numbers = {value: _exact(axis, value, number) for value, number in written.items()}
    total = sum(numbers.values())
    counts = all(_is_count(number) for number in written.values())
    if counts and total == people:
        return {value: number / people for value, number in numbers.items()}
    if total != 1:
        as_counts = f", or counts that sum to {people}" if counts else ""
        raise share_error(
            f"{axis}: {', '.join(f'{v} {n}' for v, n in written.items())} sums to {_shown(total)}: expected 1"
            f"{as_counts}; correct the numbers (thirds are written 1/3)"
        )
    if any(share.denominator > MAX_DENOMINATOR for share in numbers.values()):
        raise share_error(
            f"{axis}: shares finer than 1/{MAX_DENOMINATOR} are not kept; write simple fractions (1/3, 7/20)"
        )
    return numbers


def shown_shares(shares: Mapping[str, Fraction]) -> str:
    """ "dark 2/5, tan 1/5": as they can be written again."""
    return ", ".join(f"{value} {share}" for value, share in shares.items())


def share_error(message: str) -> UsageError:
    """A UsageError of the code that all wrong proportions have."""
    return UsageError(message, code="E_SCENE_SHARE")


def _exact(axis: str, value: str, number: Any) -> Fraction:
    try:
        if isinstance(number, bool):
            raise ValueError
        if isinstance(number, Rational):
            exact = Fraction(number)
        elif isinstance(number, float):
            near = Fraction(number).limit_denominator(MAX_DENOMINATOR)  # OverflowError for inf
            exact = near if abs(float(near) - number) < 1e-9 else Fraction(number)
        else:
            text = str(number).strip()
            exact = Fraction(text[:-1].strip()) / 100 if text.endswith("%") else Fraction(text)
    except (ValueError, OverflowError, ZeroDivisionError):
        raise share_error(
            f"{axis}: {value} has the share {number!r:.40}: expected 2/5, 0.4, 40 % or a count"
        ) from None
    if exact < 0:
        raise share_error(f"{axis}: {value} has the share {number!s:.40}: expected at least 0")
    return exact


def _is_count(number: object) -> bool:
    return isinstance(number, int) or (isinstance(number, str) and number.strip().isdigit())


def _shown(total: Fraction | int) -> str:
    return str(total) if Fraction(total).denominator <= MAX_DENOMINATOR else f"{float(total):.6g}"

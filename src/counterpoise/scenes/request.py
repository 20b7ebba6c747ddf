"""What a user asks for, checked before anything is planned: a prompt, a number of people, shares, a
canvas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any, final

from counterpoise.errors import UsageError
from counterpoise.scenes.guards import Told, read_prompt, reason_to_leave
from counterpoise.scenes.layout import check_people
from counterpoise.scenes.profiles import CanvasProfile, profile_named
from counterpoise.scenes.shares import exact_shares, parse_share, share_error, shown_shares
from counterpoise.scenes.short_form import parse_short
from counterpoise.scenes.state import Unit
from counterpoise.scenes.vocabulary import Vocabulary, load_vocabulary

MAX_SEED = 2**53 - 1


@final
@dataclass(frozen=True, slots=True)
class SceneRequest:
    """A request that can be planned.

    units: what is counted. roles: axis -> value -> people in every picture. fixed: axis -> value that the
    prompt says of everybody. each: whether every picture shows every value. notes: what was decided, for
    the user.
    """

    prompt: str
    told: Told
    people: int
    units: tuple[Unit, ...]
    roles: Mapping[str, Mapping[str, int]]
    fixed: Mapping[str, str]
    each: bool
    seed: int
    profile: CanvasProfile
    vocabulary: Vocabulary
    notes: tuple[str, ...]


def scene_request(
    prompt: str,
    *,
    people: int | None = None,
    shares: Sequence[str] | Mapping[str, Mapping[str, Any]] = (),
    profile: str = "sdxl",
    vocabulary: Vocabulary | None = None,
    each: bool = False,
    seed: int = 0,
    insist: bool = False,
) -> SceneRequest:
    """The request for a prompt, or for a short form ("5 women basketball team | hair: mixed").

    shares: as texts ("skin: dark 2/5, tan 3/5"), or axis -> value -> fraction, number or text. vocabulary:
    the profile's own by default. each: every picture is to show every value. insist: plan in spite of a
    guard. UsageError: E_SCENE_PROMPT, E_SCENE_PEOPLE, E_SCENE_SHARE, E_SCENE_ATTRIBUTE, E_SCENE_VALUE,
    E_SCENE_PROFILE, E_SCENE_SEED, E_SCENE_STATED (the prompt names several values), E_SCENE_LEFT_ALONE
    (named or historical people).
    """
    canvas = profile_named(profile)
    words = vocabulary or load_vocabulary(canvas.vocabulary)
    number, text, more = parse_short(prompt)
    whole = prompt.partition("|")[0].strip()
    if people is not None and number != people:
        number, text = None, whole  # "1943 soldiers" begins with a year
    told = read_prompt(text, words)
    counted = people if people is not None else number if number is not None else told.people
    if counted is None:
        raise UsageError(
            'how many people? The prompt gives no number, or several: add --people 5, or begin it with "5 "',
            code="E_SCENE_PEOPLE",
        )
    check_people(counted, canvas)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise UsageError(
            f"seed {seed!r:.40}: expected a whole number from 0 to 2^53 - 1", code="E_SCENE_SEED"
        )
    notes = [
        f"the prompt says {said} people, {counted} are planned"
        for said in (told.people,)
        if said not in (None, counted)
    ]
    asked = [*_written(shares), *map(parse_share, more)]
    units, roles, fixed, found = _targets(asked, told, words, people=counted)
    if (units or roles) and not insist and (reason := reason_to_leave(whole, words)):
        raise UsageError(
            f"left alone: {reason}. Nobody's attributes are changed; draw the prompt as it is, or, if "
            "that is not so here, plan with --insist",
            code="E_SCENE_LEFT_ALONE",
        )
    return SceneRequest(
        prompt=text,
        told=told,
        people=counted,
        units=units,
        roles=roles,
        fixed=fixed,
        each=each,
        seed=seed,
        profile=canvas,
        vocabulary=words,
        notes=(*notes, *found),
    )


Written = tuple[str, Mapping[str, Any]]


def _written(shares: Sequence[str] | Mapping[str, Mapping[str, Any]]) -> list[Written]:
    if isinstance(shares, Mapping):
        return [(axis, dict(values)) for axis, values in shares.items()]
    return [parse_share(text) for text in shares]


def _targets(
    asked: Iterable[Written], told: Told, words: Vocabulary, *, people: int
) -> tuple[tuple[Unit, ...], dict[str, dict[str, int]], dict[str, str], list[str]]:
    """Units, roles, what is fixed, and notes. The prompt's own words win, then the user's shares, then
    vague words.
    """
    notes: list[str] = []
    units: dict[str, Unit] = {}
    roles: dict[str, dict[str, int]] = {}
    fixed: dict[str, str] = {}
    taken: set[str] = set()
    for name, written in asked:
        axes = tuple(axis.strip() for axis in name.split("+"))
        if twice := taken & set(axes) or {axis for axis in axes if axes.count(axis) > 1}:
            raise share_error(f"{sorted(twice)[0]} has shares twice: expected each attribute once; join them")
        taken |= set(axes)
        if words.axis(axes[0]).per_picture and len(axes) == 1:
            roles[name] = _per_picture(name, written, words, people)
        elif stated := [axis for axis in axes if _one_value(axis, told, axes, written)]:
            notes.append(f"{name}: the prompt itself says {_said(stated, told)}, which wins over the shares")
        else:
            units[name] = _unit(axes, written, words, people)
    for axis, values in told.stated.items():
        if axis in taken and axis in {a for unit in units.values() for a in unit.axes} | set(roles):
            continue
        if len(values) > 1:
            raise UsageError(
                f"the prompt names several values of {axis} ({', '.join(values)}): say how many of each, "
                f'--share "{axis}: {values[0]} 2, {values[1]} 3"',
                code="E_SCENE_STATED",
            )
        fixed[axis] = values[0]
        if axis in told.single and people > 1:
            notes.append(
                f"{axis}: {values[0]}, which the prompt says of one person, is taken for all {people}; "
                "say otherwise with --share"
            )
    for word, lines in told.vague.items():
        notes += _vague(word, lines, words, people=people, units=units, known=taken | set(told.stated))
    return tuple(units.values()), roles, fixed, notes


def _one_value(axis: str, told: Told, axes: tuple[str, ...], written: Mapping[str, Any]) -> bool:
    """Whether the prompt settles the axis; several values that the shares are about leave it to the
    shares.
    """
    values = told.stated.get(axis, ())
    if axis in told.single and len(axes) == 1 and values[0] in written:
        return False  # "a female boss" among several: the shares say what the others are
    return len(values) == 1 or (len(values) > 1 and len(axes) == 1 and not set(values) <= set(written))


def _vague(
    word: str,
    lines: Sequence[str],
    words: Vocabulary,
    *,
    people: int,
    units: dict[str, Unit],
    known: set[str],
) -> list[str]:
    notes = []
    for line in lines:
        axis, written = parse_share(line)
        if axis in known:
            notes.append(f"{word!r}: {axis} is already said, and stays as it is")
            continue
        known.add(axis)
        units[axis] = _unit((axis,), written, words, people)
        shown = shown_shares(dict(zip((c[0] for c in units[axis].cells), units[axis].shares, strict=True)))
        notes.append(
            f"{word!r} is taken for {axis}: {shown} (table [vague] of the vocabulary {words.name!r})"
        )
    return notes


def _unit(axes: tuple[str, ...], written: Mapping[str, Any], words: Vocabulary, people: int) -> Unit:
    """One axis, or a joint table whose values are written "dark + red"."""
    for axis in axes:
        if words.axis(axis).per_picture and len(axes) > 1:
            raise share_error(f"{axis} is counted in every picture: it cannot be part of a joint table")
    cells = list(product(*(words.axis(axis).values for axis in axes)))
    names = {" + ".join(cell): cell for cell in cells}
    tidy = {
        " + ".join(part.strip() for part in value.split("+")): number for value, number in written.items()
    }
    exact = exact_shares(" + ".join(axes), tidy, values=names, people=people)
    return Unit(axes, tuple(names[value] for value in exact), tuple(exact.values()))


def _per_picture(axis: str, written: Mapping[str, Any], words: Vocabulary, people: int) -> dict[str, int]:
    known = words.axis(axis).values
    counts: dict[str, int] = {}
    for value, number in written.items():
        if value not in known:
            exact_shares(axis, {value: 1}, values=known, people=people)  # raises, with the nearest value
        if not str(number).isdigit() or isinstance(number, bool):
            raise share_error(
                f"{axis} is counted in every picture: {value} {number!s:.20} is no count; write {value} 1"
            )
        counts[value] = int(number)
    if sum(counts.values()) > people:
        raise share_error(
            f"{axis}: {sum(counts.values())} in every picture of {people} people; lower the counts"
        )
    return counts


def _said(axes: Sequence[str], told: Told) -> str:
    return ", ".join(f"{axis}: {' and '.join(told.stated[axis])}" for axis in axes)


def quotas_of(units: Sequence[Unit]) -> dict[str, dict[str, Fraction]]:
    """axis -> value -> share, over all units; zero shares too."""
    found: dict[str, dict[str, Fraction]] = {}
    for unit in units:
        found |= unit.margins()
    return found

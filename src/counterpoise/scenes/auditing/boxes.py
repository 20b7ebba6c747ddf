"""Whether boxes hold what was planned: all attributes, each attribute, how many were read, who is counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from counterpoise.scenes.auditing.figures import LEVEL, Figure, over_pictures
from counterpoise.scenes.auditing.seen import Seen
from counterpoise.stats import clopper_pearson

Judged = Mapping[str, tuple[str, ...]]


def box_figures(seen: Sequence[Seen], judged: Judged) -> Iterator[Figure]:
    """ "correct" of everything and of each attribute; "unread"; "count"."""
    both = [(one, one.asked(judged)) for one in seen]
    shares = [
        sum(_right(read, asked) for read, asked in zip(one.read, people, strict=True) if asked)
        / sum(bool(asked) for asked in people)
        for one, people in both
        if any(people)
    ]
    yield _figure("correct", "", shares, "no planned attribute is one that the judge reads")
    axes = dict.fromkeys(axis for one in seen for person in one.plan.people for axis in person.attributes)
    for axis in axes:
        why = f"the judge does not read {axis}" if axis not in judged else f"its values of {axis} are others"
        yield _figure("correct", axis, _shares(both, axis), why)
    unread = []
    for one, people in both:
        asked = [(read, axis) for read, own in zip(one.read, people, strict=True) for axis in own]
        if asked:
            unread.append(sum(read[axis] is None for read, axis in asked) / len(asked))
    yield _figure("unread", "", unread, "nothing that the judge reads was asked")
    yield count_figure(seen)


def count_figure(seen: Sequence[Seen]) -> Figure:
    """How often as many people are counted as were planned."""
    counted = [one for one in seen if one.people is not None]
    if not counted:
        return Figure("count", "", None, "people are counted by rule in the world's pictures alone")
    right = sum(one.people == len(one.plan.people) for one in counted)
    return Figure("count", "", clopper_pearson(right, len(counted), confidence=LEVEL))


def wrong_of(one: Seen, judged: Judged) -> list[str]:
    """What is read otherwise than planned in a picture, a line a box."""
    lines = []
    for person, read, asked in zip(one.plan.people, one.read, one.asked(judged), strict=True):
        parts = [
            f"{axis} {'unread' if read[axis] is None else read[axis]} for {value}"
            for axis, value in asked.items()
            if read[axis] != value
        ]
        if parts:
            lines.append(f"{person.id}: {', '.join(parts)}")
    return lines


def _shares(both: Sequence[tuple[Seen, list[dict[str, str]]]], axis: str) -> list[float]:
    shares = []
    for one, people in both:
        own = [(read, asked[axis]) for read, asked in zip(one.read, people, strict=True) if axis in asked]
        if own:
            shares.append(sum(read[axis] == value for read, value in own) / len(own))
    return shares


def _right(read: Mapping[str, str | None], asked: Mapping[str, str]) -> bool:
    return all(read[axis] == value for axis, value in asked.items())


def _figure(kind: str, of: str, shares: Sequence[float], why_not: str) -> Figure:
    return Figure(kind, of, over_pictures(shares)) if shares else Figure(kind, of, None, why_not)

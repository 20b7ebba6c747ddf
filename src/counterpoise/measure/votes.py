"""Labels that people gave: a CSV file in, votes on pictures out, every line accounted for.

Columns, by their header: picture (the file's sha256, its name or path, or a sheet's id), attribute, value,
and optionally rater and group. "cannot tell" as a value is an answer too.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import final

from counterpoise.errors import UsageError
from counterpoise.measure.cards import nearest, read_text
from counterpoise.measure.pictures import Picture
from counterpoise.measure.reading import Reading

CANNOT_TELL = "cannot tell"
COLUMNS = ("picture", "attribute", "value", "rater", "group")
_NEEDED = COLUMNS[:3]


@final
@dataclass(frozen=True, slots=True)
class Vote:
    """One rater's answer on one attribute of one picture, and the line it stands on."""

    picture: str
    attribute: str
    value: str
    rater: str
    group: str | None
    line: int


def read_votes(path: Path) -> tuple[Vote, ...]:
    """Every vote in a CSV file (UTF-8; commas, semicolons or tabs).

    UsageError E_LABELS, with the line, for a missing column or cell or an empty file.
    """
    text = read_text(path)
    first = text.split("\n", 1)[0]
    delimiter = max((",", ";", "\t"), key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip().lower() for cell in next(rows, [])]
        places = _places(header, path)
        votes = tuple(
            _vote(row, places, (path, rows.line_num)) for row in rows if any(c.strip() for c in row)
        )
    except csv.Error as error:
        raise _wrong(path, rows.line_num, str(error)) from None
    if not votes:
        raise UsageError(f"{path}: no labels below the header; is it the right file?", code="E_LABELS")
    return votes


def votes_by_picture(
    votes: Sequence[Vote], find: Callable[[Vote], str | None]
) -> tuple[dict[str, tuple[Vote, ...]], tuple[Vote, ...]]:
    """(picture's key -> its votes, the votes for which `find` knew no picture).

    UsageError E_LABELS when one rater answered one question on one picture in two ways.
    """
    found: dict[str, dict[tuple[str, str], Vote]] = {}
    lost: list[Vote] = []
    for vote in votes:
        key = find(vote)
        if key is None:
            lost.append(vote)
            continue
        before = found.setdefault(key, {}).setdefault((vote.attribute, vote.rater), vote)
        if before.value != vote.value:
            who = f"rater {vote.rater!r:.60}" if vote.rater else "a label without a rater"
            raise UsageError(
                f"line {vote.line}: {who} says {vote.attribute} is {vote.value!r:.60}, and on line "
                f"{before.line} "
                f"{before.value!r:.60}, of one picture ({vote.picture!r:.60}): keep one, or name two raters",
                code="E_LABELS",
            )
    return {key: tuple(each.values()) for key, each in found.items()}, tuple(lost)


def finder(pictures: Sequence[Picture]) -> Callable[[Vote], str | None]:
    """From a vote to the pixel_sha256 of the picture it means, among these.

    The finder raises UsageError E_LABELS where a bare name fits several different pictures.
    """
    by_key: dict[str, set[str]] = {}
    for each in pictures:
        parts = PurePath(each.path).parts
        names = {"/".join(parts[i:]) for i in range(len(parts))} | {str(each.path)}
        for key in (*names, each.file_sha256, each.pixel_sha256):
            by_key.setdefault(key, set()).add(each.pixel_sha256)

    def find(vote: Vote) -> str | None:
        name = vote.picture.replace("\\", "/").removeprefix("./")
        fits = by_key.get(name) or by_key.get(name.lower()) or set()
        if len(fits) > 1:
            raise UsageError(
                f"line {vote.line}: {vote.picture!r:.80} is the name of {len(fits)} different pictures; "
                "write more of "
                "the path, or the file's sha256",
                code="E_LABELS",
            )
        return next(iter(fits), None)

    return find


def majority(answers: Mapping[str, str]) -> Reading:
    """What raters (rater -> value) say together: the most frequent answer; a tie abstains.

    confidence: the share of raters who gave the answer.
    """
    if not answers:
        return Reading(None, 0.0, "not labelled")
    ranked = Counter(answers.values()).most_common()
    value, count = ranked[0]
    share = round(count / len(answers), 6)
    if len(ranked) > 1 and ranked[1][1] == count:
        return Reading(None, share, "raters disagree")
    if value == CANNOT_TELL:
        return Reading(None, share, "raters cannot tell")
    return Reading(value, share)


def group_of(votes: Sequence[Vote]) -> str | None:
    """The group that a picture's labels name; UsageError E_LABELS when they name two."""
    named = {vote.group: vote.line for vote in votes if vote.group is not None}
    if len(named) > 1:
        told = " and ".join(f"{group!r:.60} (line {line})" for group, line in sorted(named.items()))
        raise UsageError(f"one picture is put into the groups {told}: keep one", code="E_LABELS")
    return next(iter(named), None)


def _places(header: Sequence[str], path: Path) -> dict[str, int]:
    missing = [name for name in _NEEDED if name not in header]
    # A sheet's own column is "id", since its ids name no file.
    if "picture" in missing and "id" in header:
        missing.remove("picture")
    if missing:
        raise UsageError(
            f"{path}: no column {missing[0]!r} in its first line; expected picture,attribute,value and, if "
            "you have "
            f"them, rater and group; {nearest(missing[0], header)}",
            code="E_LABELS",
            file=str(path),
        )
    repeated = [name for name in (*COLUMNS, "id") if header.count(name) > 1]
    if repeated:
        raise UsageError(f"{path}: two columns are named {repeated[0]!r}; keep one", code="E_LABELS")
    places = {name: header.index(name) for name in COLUMNS if name in header}
    return places if "picture" in places else {"picture": header.index("id"), **places}


def _vote(row: Sequence[str], places: Mapping[str, int], where: tuple[Path, int]) -> Vote:
    cells = {name: row[at].strip() if at < len(row) else "" for name, at in places.items()}
    for name in _NEEDED:
        if not cells[name]:
            raise _wrong(*where, f"no {name}; write one (a value may be {CANNOT_TELL!r}), or delete the line")
    return Vote(
        cells["picture"],
        cells["attribute"],
        cells["value"],
        cells.get("rater", ""),
        cells.get("group") or None,
        where[1],
    )


def _wrong(path: Path, line: int, what: str) -> UsageError:
    return UsageError(f"{path}, line {line}: {what}", code="E_LABELS", file=str(path))

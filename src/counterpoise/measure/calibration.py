"""A judge's measured error: readings of pictures whose truth people labelled, counted by group.

In: a measurer's readings and the truth. Out: a `Calibration`, which `stats` turns into intervals that hold in
spite of the judge's error. It keeps counts, abstentions among them, and never rates.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self, final

import numpy as np
from pydantic import Field, model_validator

from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.measure.cards import Card, canonical, load_json, make_card, nearest
from counterpoise.measure.reading import Measurer, Reading

ABSTAINED = "(abstained)"
_Count = Annotated[int, Field(strict=True, ge=0)]


@final
class Confusion(Card):
    """How one attribute of one group's pictures was read. counts[i][j]: pictures of truth[i] read as
    read[j].
    """

    attribute: str = Field(description="an attribute that the measurer reads")
    group: str | None = Field(default=None, description="the group's name; none where labels named no groups")
    truth: tuple[str, ...] = Field(min_length=1, description="the true values, in the measurer's order")
    read: tuple[str, ...] = Field(min_length=2, description=f'the measurer\'s values, then "{ABSTAINED}"')
    counts: tuple[tuple[_Count, ...], ...] = Field(description="whole numbers, a row a true value")

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        if self.read[-1] != ABSTAINED or len(set(self.read)) != len(self.read):
            raise ValueError(f'read is {self.read!r:.80}: expected distinct values, "{ABSTAINED}" last')
        if not set(self.truth) <= set(self.read[:-1]) or len(set(self.truth)) != len(self.truth):
            raise ValueError(f"truth is {self.truth!r:.80}: expected distinct values, all of them in read")
        shape = {len(row) for row in self.counts}
        if len(self.counts) != len(self.truth) or shape != {len(self.read)}:
            raise ValueError(f"counts: expected {len(self.truth)} rows of {len(self.read)} whole numbers")
        return self

    @property
    def n(self) -> int:
        """The pictures behind it."""
        return sum(map(sum, self.counts))


@final
class Judge(Card):
    """Whose error it is."""

    name: str
    version: str
    attributes: dict[str, tuple[str, ...]]


@final
class Calibration(Card):
    """A calibration card: a judge's confusions, and where they come from.

    pictures: read. unlabelled: pictures given for which no label was found or raters tied. unreadable: files
    left out. reasons: abstentions by reason. sha256: of the pictures' digests, sorted, so that two cards made
    of one set can be told.
    """

    format: Literal["counterpoise-calibration"] = "counterpoise-calibration"
    schema_version: Literal[1] = 1
    measurer: Judge
    judge_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    made: str = Field(
        pattern=r"^\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?$", description="a date or UTC time, ISO 8601"
    )
    source: str = Field(description="who labelled which pictures, in words")
    pictures: _Count
    unlabelled: _Count = 0
    unreadable: _Count = 0
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    reasons: dict[str, _Count] = Field(default_factory=dict)
    confusions: tuple[Confusion, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _belongs_to_its_judge(self) -> Self:
        if self.judge_sha256 != _digest_of(self.measurer):
            raise ValueError("judge_sha256 is not that of the measurer it names: the card was edited")
        keys = [(each.attribute, each.group) for each in self.confusions]
        if len(set(keys)) != len(keys):
            raise ValueError("confusions holds one attribute and group twice")
        for each in self.confusions:
            if each.read[:-1] != self.measurer.attributes.get(each.attribute):
                raise ValueError(f"confusion of {each.attribute!r:.60}: its values are not the measurer's")
        return self


@final
@dataclass(frozen=True, slots=True)
class Truth:
    """What people say of one picture: attribute -> value, and the group it belongs to, if any was named."""

    values: Mapping[str, str]
    group: str | None = None


def calibrate(
    measurer: Measurer,
    readings: Sequence[Mapping[str, Reading]],
    truths: Sequence[Truth],
    *,
    digests: Sequence[str],
    source: str,
    made: str | None = None,
    unlabelled: int = 0,
    unreadable: int = 0,
) -> Calibration:
    """The card of these readings: readings[i] and truths[i] are of the picture with digests[i].

    made: an ISO 8601 date or UTC time, default now. UsageError E_LABELS when a truth names an attribute or
    value that the measurer does not have, or nothing is labelled.
    """
    tables: dict[tuple[str, str | None], Counter[tuple[str, str]]] = {}
    reasons: Counter[str] = Counter()
    for reading, truth in zip(readings, truths, strict=True):
        for attribute, value in truth.values.items():
            _known(measurer, attribute, value)
            seen = reading[attribute]
            if seen.value is None:
                reasons[seen.reason] += 1
            table = tables.setdefault((attribute, truth.group), Counter())
            table[value, ABSTAINED if seen.value is None else seen.value] += 1
    if not tables:
        raise UsageError("no picture has a label: check the labels' picture column", code="E_LABELS")
    judge = describe(measurer)
    places = list(judge.attributes)
    order = sorted(tables, key=lambda key: (places.index(key[0]), key[1] or ""))
    return make_card(
        Calibration,
        {
            "measurer": judge,
            "judge_sha256": _digest_of(judge),
            "made": made or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "source": source,
            "pictures": len(readings),
            "unlabelled": unlabelled,
            "unreadable": unreadable,
            "sha256": hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest(),
            "reasons": dict(sorted(reasons.items())),
            "confusions": tuple(_table(key, tables[key], judge.attributes[key[0]]) for key in order),
        },
        where="calibration card",
    )


def describe(measurer: Measurer) -> Judge:
    """A measurer's identity."""
    attributes = {name: tuple(values) for name, values in measurer.attributes.items()}
    return Judge(name=measurer.name, version=measurer.version, attributes=attributes)


def load_calibration(path: Path, measurer: Measurer | None = None) -> Calibration:
    """The card in a file, of this measurer if one is given.

    Raises RefusedInputError E_CARD_FILE when it is not a card, E_CALIBRATION when it is another measurer's.
    """
    card = load_json(Calibration, path, what="a card that `counterpoise measure calibrate` wrote")
    if measurer is not None:
        theirs, ours = card.measurer, describe(measurer)
        if theirs != ours:
            raise RefusedInputError(
                f"{path} is the error of {theirs.name} version {theirs.version}, not of {ours.name} version "
                f"{ours.version}: another version errs otherwise; calibrate this one",
                code="E_CALIBRATION",
                file=str(path),
            )
    return card


def _table(
    key: tuple[str, str | None], cells: Counter[tuple[str, str]], values: tuple[str, ...]
) -> Confusion:
    truth = tuple(value for value in values if any(true == value for true, _ in cells))
    read = (*values, ABSTAINED)
    counts = np.array([[cells[t, r] for r in read] for t in truth], dtype=int)
    return Confusion(
        attribute=key[0], group=key[1], truth=truth, read=read, counts=tuple(map(tuple, counts.tolist()))
    )


def _known(measurer: Measurer, attribute: str, value: str) -> None:
    if attribute not in measurer.attributes:
        raise UsageError(
            f"labels name the attribute {attribute!r:.60}, which {measurer.name} does not read; "
            f"{nearest(attribute, measurer.attributes)}",
            code="E_LABELS",
        )
    if value not in measurer.attributes[attribute]:
        raise UsageError(
            f"labels give {attribute} the value {value!r:.60}, which {measurer.name} cannot answer; "
            f"{nearest(value, measurer.attributes[attribute])}",
            code="E_LABELS",
        )


def _digest_of(judge: Judge) -> str:
    return hashlib.sha256(canonical(judge.model_dump(mode="json")).encode()).hexdigest()

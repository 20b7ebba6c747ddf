"""Human labels as a judge: what raters said of a picture, found again by its pixels.

In: votes. Out: a `LabelFile` on disk, and a Measurer over it. A picture that nobody labelled abstains.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, final

import numpy as np
from pydantic import Field, model_validator

from counterpoise.errors import UsageError
from counterpoise.measure.agreement import Agreement, agreement
from counterpoise.measure.cards import Card, canonical, load_json, nearest
from counterpoise.measure.pictures import pixel_digest
from counterpoise.measure.reading import Reading
from counterpoise.measure.votes import CANNOT_TELL, Vote, majority


@final
class LabelFile(Card):
    """pictures: pixel_sha256 -> attribute -> rater -> value (or "cannot tell")."""

    format: Literal["counterpoise-labels"] = "counterpoise-labels"
    schema_version: Literal[1] = 1
    attributes: dict[str, tuple[str, ...]] = Field(min_length=1)
    pictures: dict[str, dict[str, dict[str, str]]] = Field(min_length=1)

    @model_validator(mode="after")
    def _answers_are_values(self) -> Self:
        for picture, answers in self.pictures.items():
            for attribute, by_rater in answers.items():
                known = (*self.attributes.get(attribute, ()), CANNOT_TELL)
                strange = [value for value in by_rater.values() if value not in known]
                if strange or attribute not in self.attributes:
                    raise ValueError(
                        f"pictures.{picture[:12]}.{attribute} holds {strange or by_rater}: expected {known}"
                    )
        return self


@final
@dataclass(frozen=True, slots=True)
class HumanLabels:
    """A Measurer: the raters' most frequent answer on exactly this picture. Ties and unknown pictures
    abstain.
    """

    name: str
    version: str
    attributes: Mapping[str, tuple[str, ...]]
    pictures: Mapping[str, Mapping[str, Mapping[str, str]]]

    def __call__(self, images: np.ndarray) -> list[dict[str, Reading]]:
        """images: uint8 (n, height, width, 3), RGB."""
        return [self._read(pixel_digest(image)) for image in images]

    def _read(self, digest: str) -> dict[str, Reading]:
        answers = self.pictures.get(digest, {})
        return {attribute: majority(answers.get(attribute, {})) for attribute in self.attributes}


def make_labels(
    votes: Mapping[str, Sequence[Vote]], attributes: Mapping[str, Sequence[str]] | None = None
) -> LabelFile:
    """The label file of votes by pixel_sha256; attributes default to the values that occur, sorted.

    UsageError E_LABELS, with the line, where a vote is on none of `attributes` or its value is none of
    theirs.
    """
    every = [vote for each in votes.values() for vote in each]
    known = {name: tuple(values) for name, values in (attributes or _occurring(every)).items()}
    for vote in every:
        if vote.attribute not in known:
            raise UsageError(
                f"line {vote.line}: attribute {vote.attribute!r:.60}; {nearest(vote.attribute, known)}",
                code="E_LABELS",
            )
        if vote.value != CANNOT_TELL and vote.value not in known[vote.attribute]:
            told = nearest(vote.value, (*known[vote.attribute], CANNOT_TELL))
            raise UsageError(
                f"line {vote.line}: {vote.attribute} is {vote.value!r:.60}; {told}", code="E_LABELS"
            )
    pictures: dict[str, dict[str, dict[str, str]]] = {}
    for digest in sorted(votes):
        for vote in votes[digest]:
            pictures.setdefault(digest, {}).setdefault(vote.attribute, {})[vote.rater] = vote.value
    return LabelFile(attributes=known, pictures=pictures)


def save_labels(labels: LabelFile, path: Path) -> None:
    """Write a label file as JSON."""
    path.write_text(json.dumps(labels.model_dump(mode="json"), indent=1, sort_keys=True) + "\n", "utf-8")


def load_labels(path: Path) -> HumanLabels:
    """The judge over a label file; RefusedInputError E_CARD_FILE when it is none."""
    labels = load_json(LabelFile, path, what="a file that `counterpoise measure import` wrote")
    version = hashlib.sha256(canonical(labels.model_dump(mode="json")).encode()).hexdigest()[:16]
    return HumanLabels("human labels", version, dict(labels.attributes), labels.pictures)


def agreements(labels: LabelFile) -> dict[str, Agreement]:
    """How far the raters agree on each attribute; "cannot tell" counts as an answer of its own."""
    return {
        attribute: agreement(
            [
                list(answers[attribute].values())
                for answers in labels.pictures.values()
                if attribute in answers
            ]
        )
        for attribute in labels.attributes
    }


def _occurring(votes: Iterable[Vote]) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for vote in votes:
        found.setdefault(vote.attribute, set()).update({vote.value} - {CANNOT_TELL})
    return {attribute: tuple(sorted(values)) for attribute, values in sorted(found.items())}

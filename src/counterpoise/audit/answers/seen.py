"""What was read, as arrays: one whole number a seed, read from the evidence once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import numpy as np

if TYPE_CHECKING:
    from counterpoise.audit.evidence import Evidence

UNREAD = -1
UNDRAWN = -2


@final
@dataclass(frozen=True, slots=True)
class Seen:
    """An evidence's readings on seeds first .. first + longest - 1."""

    evidence: Evidence
    attributes: Mapping[str, tuple[str, ...]]
    first: int
    longest: int
    _read: dict[tuple[tuple[str, str], str], np.ndarray] = field(default_factory=dict)

    def codes(self, cell: tuple[str, str], attributes: tuple[str, ...], n: int) -> np.ndarray:
        """Of the n first seeds of an (arm, prompt): the joint value's place (see targets.joint_values).

        UNREAD where one of the attributes was not read, UNDRAWN where there is no picture.
        """
        found = self._one(cell, attributes[0])
        for name in attributes[1:]:
            other = self._one(cell, name)
            joint = found * len(self.attributes[name]) + other
            found = np.where(np.minimum(found, other) < 0, np.minimum(found, other), joint)
        return found[:n]

    def drawn(self, cell: tuple[str, str], attribute: str) -> int:
        """How many pictures of an (arm, prompt) the judge was shown for an attribute, on those seeds."""
        return int((self._one(cell, attribute) != UNDRAWN).sum())

    def _one(self, cell: tuple[str, str], attribute: str) -> np.ndarray:
        known = self._read.get((cell, attribute))
        if known is None:
            places = {value: i for i, value in enumerate(self.attributes[attribute])}
            known = np.full(self.longest, UNDRAWN)
            for seed, reading in self.evidence.readings(*cell, attribute).items():
                if 0 <= seed - self.first < self.longest:
                    known[seed - self.first] = UNREAD if reading.value is None else places[reading.value]
            self._read[cell, attribute] = known
        return known


def tally(codes: np.ndarray, classes: int) -> tuple[list[int], int]:
    """Pictures of each value [classes], and pictures that were not read."""
    return np.bincount(codes[codes >= 0], minlength=classes).tolist(), int((codes == UNREAD).sum())


def looks(n: int, *, most: int = 60) -> np.ndarray:
    """Numbers of pictures up to n at which a path is shown, at most `most`, n among them."""
    return np.unique(np.linspace(1, n, min(n, most)).round().astype(int)) if n else np.zeros(0, dtype=int)


def prefixes(codes: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At each look [P] at drawn pictures, in the order of seeds: n [P], counts [P, classes], unread [P]."""
    drawn = codes[codes != UNDRAWN]
    at = looks(len(drawn))
    counts = (drawn[:, None] == np.arange(classes)).cumsum(axis=0)[at - 1]
    return at, counts, (drawn == UNREAD).cumsum()[at - 1]

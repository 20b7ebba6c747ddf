"""Several judges on one picture, as one judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from counterpoise.errors import UsageError
from counterpoise.measure.reading import Measurer, Reading


@final
@dataclass(frozen=True, slots=True)
class Joint:
    """A Measurer of all of its judges' attributes; made by `joint`."""

    name: str
    version: str
    attributes: Mapping[str, tuple[str, ...]]
    judges: tuple[Measurer, ...]

    def __call__(self, images: np.ndarray) -> list[dict[str, Reading]]:
        """images: uint8 (n, height, width, 3), RGB."""
        answers = [judge(images) for judge in self.judges]
        return [dict(pair for row in rows for pair in row.items()) for rows in zip(*answers, strict=True)]


def joint(judges: Sequence[Measurer]) -> Measurer:
    """One judge that asks them all; UsageError E_JUDGES when two read an attribute of one name, or there are
    none.
    """
    if not judges:
        raise UsageError("no measurer is named; name one", code="E_JUDGES")
    if len(judges) == 1:
        return judges[0]
    attributes: dict[str, tuple[str, ...]] = {}
    for judge in judges:
        clash = sorted(set(attributes) & set(judge.attributes))
        if clash:
            raise UsageError(
                f"{judge.name} and a judge before it both read {clash[0]!r}: readings of one name would be "
                "mixed; "
                "name one of them only",
                code="E_JUDGES",
            )
        attributes |= {name: tuple(values) for name, values in judge.attributes.items()}
    version = "; ".join(f"{judge.name} {judge.version}" for judge in judges)
    return Joint(" + ".join(judge.name for judge in judges), version, attributes, tuple(judges))

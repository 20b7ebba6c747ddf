"""What a measurer says of a picture: a value for each attribute, or an abstention with a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np


@final
@dataclass(frozen=True, slots=True)
class Reading:
    """One attribute of one picture as a measurer perceives it.

    value: one of the attribute's values, or None when the measurer abstains. confidence: in [0, 1].
    reason: why it abstained ("unsure", "blank picture"); empty otherwise.
    """

    value: str | None
    confidence: float
    reason: str = ""


class Measurer(Protocol):
    """Pictures in, one mapping attribute -> Reading a picture out.

    name and version identify the judge (version changes whenever its answers may change);
    attributes lists, for each attribute, the values it can emit.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def attributes(self) -> Mapping[str, tuple[str, ...]]: ...

    def __call__(self, images: np.ndarray) -> Sequence[Mapping[str, Reading]]:
        """images: uint8 (n, height, width, 3)."""
        ...

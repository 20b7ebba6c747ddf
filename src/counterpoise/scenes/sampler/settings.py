"""How strongly and how long people are drawn apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from counterpoise.errors import UsageError

# Of mending. A box that failed keeps nothing: at .6, .8 and 1, .985, .985 and .990 of 200 boxes came right.
TRIES, STRENGTH = 3, 1.0


@final
@dataclass(frozen=True, slots=True)
class Regional:
    """base_ratio: the base prompt's share in a person's tokens. regional_until, fence_until: shares of the
    sampler's steps in which people have prompts of their own, and in which their tokens see only themselves
    and the background. feather: the border in which a person's prompt fades, in shorter sides of the box.
    person_tokens: of a person's prompt where text is joint with the image (T5's part); UNets need no limit.
    """

    base_ratio: float = 0.0
    regional_until: float = 1.0
    fence_until: float = 0.3
    feather: float = 0.0
    person_tokens: int = 64

    def __post_init__(self) -> None:
        for name in ("base_ratio", "regional_until", "fence_until", "feather"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UsageError(f"{name} is {value}: expected a share from 0 to 1", code="E_REGIONAL")
        if self.person_tokens < 1:
            raise UsageError(f"person_tokens is {self.person_tokens}: expected 1 or more", code="E_REGIONAL")

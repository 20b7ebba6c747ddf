"""The noun in which everything meets: an Arm is one way of drawing, a Cell one picture of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np


@final
@dataclass(frozen=True, slots=True)
class Arm:
    """One way of drawing, described well enough to be drawn again.

    name: unique in a run ("base", "repaired"). model: "world" or a folder. model_sha256: of the weights
    that draw, after any folding. adapters: (sha256 or name of the adapter, strength) pairs mounted beside
    the weights. guidance: classifier-free guidance scale (1 = none). steps: sampler steps.
    batch_size: pictures drawn together; part of the identity, since float sums depend on it.
    pushed: more of a negative prompt, at `push` times its usual strength (1 is written as negative_prompt).
    rewrite: what turned each prompt into the one that was drawn; "" where the prompt itself was.
    """

    name: str
    model: str
    model_sha256: str
    adapters: tuple[tuple[str, float], ...] = ()
    guidance: float = 1.0
    steps: int = 20
    negative_prompt: str = ""
    batch_size: int = 32
    dtype: str = "float32"
    pushed: str = ""
    push: float = 1.0
    rewrite: str = ""


@final
@dataclass(frozen=True, slots=True)
class Cell:
    """One picture to be drawn: an arm's name, the full prompt text, and the seed of its noise."""

    arm: str
    prompt: str
    seed: int


class Drawer(Protocol):
    """Draws cells: len(prompts) == len(seeds) == n in, uint8 array (n, height, width, 3) out.

    A picture depends on its own prompt and seed (and the arm), never on its neighbours in the call.
    """

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray: ...


class Rewrite(Protocol):
    """Turns prompts into the prompts that are drawn, one for each; row i depends on its own prompt and seed.

    identity: says all that the rewriting depends on, as it stands in the arm's record. avoiding: the same
    rewriting where a negative prompt acts beside it, which it must not contradict.
    """

    @property
    def identity(self) -> str: ...

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]: ...

    def avoiding(self, negative: str) -> Rewrite: ...


@final
@dataclass(frozen=True, slots=True)
class Rewriting:
    """A Drawer that draws what `rewrite` makes of the prompts; an audit puts both into a picture's record."""

    drawer: Drawer
    rewrite: Rewrite

    @property
    def sampler(self) -> str | None:
        """The drawer's own, if it tells."""
        return getattr(self.drawer, "sampler", None)

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """As the drawer's."""
        return self.drawer(self.rewrite(prompts, seeds), seeds)

"""What the attention layers share while one batch of scenes is drawn: whose tokens, which step, which half.

Made for one batch and thrown away after it: nothing of a layout outlives its pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.scenes.sampler.groups import Group, Part, stacked
from counterpoise.scenes.sampler.owners import Grid, holds, owners
from counterpoise.scenes.sampler.scene import Scene
from counterpoise.scenes.sampler.settings import Regional


class Row(NamedTuple):
    """A row of the model's batch. people: who reads a text of their own in it; empty is a plain row."""

    scene: int
    people: tuple[int, ...]
    fenced: bool
    positive: bool


class Text(NamedTuple):
    """Where text lies in a joint sequence. tokens: all of it, 0 for none. base, each: tokens of the base
    prompt and of one person's. first: whether text comes before the image."""

    tokens: int = 0
    base: int = 0
    each: int = 0
    first: bool = False


NO_TEXT = Text()


@final
class Run:
    """The state of one drawing. alternating: guidance's halves are calls of their own, positive first."""

    def __init__(
        self, scenes: Sequence[Scene], settings: Regional, *, guided: bool, alternating: bool = False
    ) -> None:
        self.scenes = tuple(scenes)
        self.settings = settings
        self.guided = guided
        self.alternating = alternating
        self.grid: Grid = (0, 0)
        self.text = NO_TEXT
        self._calls = 0
        self._share = 0.0
        self._made: dict[Any, Any] = {}
        self.texts: dict[tuple[int, int, bool], int] = {}
        for positive in (True, False):
            for s, scene in enumerate(self.scenes):
                for i, person in enumerate(scene.people):
                    own = person.negative not in (None, scene.negative) or person.adapter is not None
                    if positive or own:
                        self.texts[s, i, positive] = len(self.texts)

    def begin(self, scheduler: Any, timestep: Tensor | float, *, scale: float = 1.0) -> None:
        """A call of the model begins: the step is where its timestep stands in the scheduler's list."""
        self._calls += 1
        now = float(torch.as_tensor(timestep).flatten()[0]) * scale
        steps = scheduler.timesteps.float().cpu()
        self._share = int((steps - now).abs().argmin()) / len(steps)

    def rows(self, batch: int) -> tuple[Row, ...]:
        """What each row of the model's batch is at this step."""
        n = len(self.scenes)
        share, settings = self._share, self.settings
        on = share < settings.regional_until and settings.base_ratio < 1
        fenced = share < settings.fence_until
        if self.alternating:
            halves = [not self.guided or self._calls % 2 == 1]
        else:
            halves = [False, True] if self.guided and batch == 2 * n else [True]
        if batch != n * len(halves):
            reason = f"the model sees a batch of {batch}, but {n} scenes are being drawn"
            raise UsageError(f"{reason}; draw one picture a scene", code="E_BATCH")
        return tuple(
            Row(
                s,
                tuple(i for i in range(len(scene.people)) if on and (s, i, half) in self.texts),
                fenced and half,
                half,
            )
            for half in halves
            for s, scene in enumerate(self.scenes)
        )

    def owners(self, scene: int, grid: Grid) -> Tensor:
        """int64 (tokens,) of one scene, made once a grid."""
        key = ("owners", scene, grid)
        if key not in self._made:
            self._made[key] = owners(self.scenes[scene], grid)
        owner: Tensor = self._made[key]
        return owner

    def strength(self, rows: tuple[Row, ...], grid: Grid, like: Tensor) -> Tensor:
        """(rows * tokens, 1, 1): the share of a person's own text in each image token, in like's dtype."""
        key = ("strength", rows, grid, like.dtype, like.device)
        if key not in self._made:
            self._made[key] = self._strength(rows, grid).to(like)
        made: Tensor = self._made[key]
        return made

    def reading(self, rows: tuple[Row, ...], grid: Grid, device: torch.device) -> tuple[Group, ...]:
        """Cross-attention: each person's tokens, and the number of the text that they read."""
        key = ("reading", rows, grid, device)
        if key not in self._made:
            parts = [
                Part(r, _of(self.owners(row.scene, grid), i), text=self.texts[row.scene, i, row.positive])
                for r, row in enumerate(rows)
                for i in row.people
            ]
            self._made[key] = stacked(parts, grid[0] * grid[1], device)
        groups: tuple[Group, ...] = self._made[key]
        return groups

    def resting(self, rows: tuple[Row, ...], grid: Grid, device: torch.device) -> tuple[Group, ...]:
        """Cross-attention: whose tokens read the base text of their row; all do where it is blended in."""
        key = ("resting", rows, grid, device)
        if key not in self._made:
            blended = self.settings.base_ratio > 0 or self.settings.feather > 0
            parts = []
            for r, row in enumerate(rows):
                if blended or not row.people:
                    parts.append(Part(r, None))
                else:
                    mine = _mine(self.owners(row.scene, grid), row)
                    parts.append(Part(r, (~mine).nonzero()[:, 0], text=r))
            self._made[key] = stacked(parts, grid[0] * grid[1], device)
        groups: tuple[Group, ...] = self._made[key]
        return groups

    def seeing(
        self, rows: tuple[Row, ...], grid: Grid, device: torch.device, *, text: Text = NO_TEXT
    ) -> tuple[Group, ...]:
        """Self-attention, or joint attention of text and image: who sees whom."""
        key = ("seeing", rows, grid, device, text)
        if key not in self._made:
            tokens = grid[0] * grid[1]
            parts = [
                part
                for r, row in enumerate(rows)
                for part in _parts(r, row, self.owners(row.scene, grid), text=text)
            ]
            self._made[key] = stacked(parts, tokens + text.tokens, device)
        groups: tuple[Group, ...] = self._made[key]
        return groups

    def seeing_plainly(
        self, rows: tuple[Row, ...], grid: Grid, device: torch.device, *, text: Text
    ) -> tuple[tuple[Group, ...], Tensor]:
        """The people's image tokens that read the base text and all the image, for the base ratio, and the
        strengths (rows * sequence,) of their own text there; no groups where nothing is to be blended."""
        key = ("plainly", rows, grid, device, text)
        if key not in self._made:
            tokens = grid[0] * grid[1]
            start = text.tokens if text.first else 0
            laid = torch.zeros(len(rows), tokens + text.tokens)
            laid[:, start : start + tokens] = self._strength(rows, grid).reshape(len(rows), tokens)
            parts = []
            for r, row in enumerate(rows):
                mine = _mine(self.owners(row.scene, grid), row)
                blended = mine & (laid[r, start : start + tokens] < 1)
                parts.append(Part(r, blended.nonzero()[:, 0] + start, _base_keys(tokens, text)))
            groups = stacked(parts, tokens + text.tokens, device) if bool((laid < 1).any()) else ()
            self._made[key] = groups, laid.flatten()[:, None, None].to(device)
        made: tuple[tuple[Group, ...], Tensor] = self._made[key]
        return made

    def _strength(self, rows: tuple[Row, ...], grid: Grid) -> Tensor:
        strengths = []
        for row in rows:
            mine = _mine(self.owners(row.scene, grid), row)
            held = holds(self.scenes[row.scene], grid, feather=self.settings.feather)
            strengths.append(torch.where(mine, held, 0.0) * (1 - self.settings.base_ratio))
        return torch.cat(strengths)[:, None, None]


def _mine(owner: Tensor, row: Row) -> Tensor:
    """Which tokens are of people who read a text of their own in this row."""
    return torch.isin(owner, torch.tensor(row.people, dtype=torch.int64))


def _of(owner: Tensor, person: int) -> Tensor:
    return (owner == person).nonzero()[:, 0]


def _base_keys(tokens: int, text: Text) -> Tensor:
    """The base text and all the image."""
    image = torch.arange(tokens) + (text.tokens if text.first else 0)
    words = torch.arange(text.base) + (0 if text.first else tokens)
    return torch.cat([words, image])


def _parts(r: int, row: Row, owner: Tensor, *, text: Text) -> list[Part]:
    """Row r's parts. Fenced, a person's tokens see their own text, themselves and the background; their text
    sees them alone; the base text, which would carry one person to the next, sees the background alone.
    Without a fence every text sees all the image. The background sees the base text and all the image."""
    tokens = len(owner)
    at, words = (text.tokens, 0) if text.first else (0, tokens)
    image = torch.arange(tokens) + at
    base = torch.arange(text.base) + words
    if not row.people or not (row.fenced or text.tokens):
        if not text.tokens:
            return [Part(r, None)]
        plain = torch.cat([base, image])
        return [Part(r, plain, plain)]
    mine = _mine(owner, row)
    background = (~mine).nonzero()[:, 0] + at
    everything = torch.cat([base, image])
    if row.fenced:
        parts = [Part(r, background, everything), Part(r, base, torch.cat([base, background]))]
    else:
        parts = [Part(r, torch.cat([base, background]), everything)]
    for i in row.people:
        own = _of(owner, i) + at
        script = torch.arange(text.each) + words + text.base + i * text.each
        if row.fenced:
            parts.append(Part(r, own, torch.cat([script, own, background])))
            parts.append(Part(r, script, torch.cat([script, own])))
        else:
            both = torch.cat([script, own])
            parts.append(Part(r, both, torch.cat([script, image])))
    return parts

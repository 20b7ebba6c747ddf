"""The directions that a closed-form edit may take, and pictures drawn part of the way along them.

In: a painter and a goal. Out: for each edit and each class that its variants read as, the linear map of text
embeddings that moves the edit's neutral prompts by the variants' say and leaves the kept prompts alone. Maps
add: an edit is a weight for each, and every picture of a batch can have weights of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from counterpoise.diffusion.painter import Painter
from counterpoise.measure.reading import Reading
from counterpoise.remedies.cross_attention import Move, aligned, kept_share
from counterpoise.remedies.goal import Edit, Goal, Variant
from counterpoise.remedies.normal_equations import RIDGE, solve

Cell = tuple[tuple[str, str], ...]
"""(attribute, value) pairs that a variant is read as."""


def cell_of(edit: Edit, variant: Variant) -> Cell:
    """What an audit should read of the variant."""
    return tuple(edit.cell(variant).items())


def cells(edit: Edit) -> tuple[Cell, ...]:
    """The different ones that the edit's variants read as, in their order."""
    return tuple(dict.fromkeys(cell_of(edit, variant) for variant in edit.variants))


def target(edit: Edit) -> list[float]:
    """The share of each of `cells`."""
    return [
        sum(variant.share for variant in edit.variants if cell_of(edit, variant) == cell)
        for cell in cells(edit)
    ]


def class_of(edit: Edit, row: Mapping[str, Reading]) -> int:
    """The number of the cell that a picture was read as; -1 where it is none of them or was not read."""
    for k, cell in enumerate(cells(edit)):
        if all(row[attribute].value == value for attribute, value in cell):
            return k
    return -1


def says(
    goal: Goal, edit: Edit, template: str, *, weights: Sequence[float], donors: Sequence[str] = ()
) -> Move:
    """The neutral prompt in a template, moved by a weight for each cell, which its variants share, and then
    for each donor."""
    whole = target(edit)
    heard: dict[str, float] = {}
    for variant in edit.variants:
        k = cells(edit).index(cell_of(edit, variant))
        prompt = template.format(variant.phrase)
        heard[prompt] = heard.get(prompt, 0.0) + weights[k] * variant.share / whole[k]
    for donor, weight in zip(donors, weights[len(whole) :], strict=True):
        prompt = template.format(donor)
        heard[prompt] = heard.get(prompt, 0.0) + weight
    return Move(template.format(edit.neutral), heard, whole=is_bare(goal, edit.neutral))


def is_bare(goal: Goal, phrase: str) -> bool:
    """Whether a phrase says nothing but its subject, as far as the goal tells: no other phrase of the goal is
    the beginning of it, as "a woman" is of "a woman with tan skin"."""
    known = {*goal.keep, *(edit.neutral for edit in goal.edits)}
    return not any(phrase.startswith(f"{other} ") for other in known)


def preserved(goal: Goal) -> list[str]:
    """Prompts that are to go on saying what they say, in the templates that a repair may see: the phrases to
    keep, the variants' own, and the empty prompt."""
    phrases = [*goal.keep, *(variant.phrase for edit in goal.edits for variant in edit.variants)]
    edited = {edit.neutral for edit in goal.edits}
    kept = [phrase for phrase in dict.fromkeys(phrases) if phrase not in edited]
    return [template.format(phrase) for template in goal.templates for phrase in kept] + [""]


@final
@dataclass(frozen=True, slots=True)
class Directions:
    """maps: for each edit [cells + donors, width, width], float64: an embedding c moves by
    c @ (weights . maps). donors: of each edit, phrases."""

    goal: Goal
    maps: tuple[Tensor, ...]
    donors: tuple[tuple[str, ...], ...]

    def at(self, weights: Sequence[np.ndarray]) -> Tensor:
        """The whole map [width, width] at weights for each edit."""
        whole = torch.zeros(self.maps[0].shape[1:], dtype=torch.float64)
        for own, each in zip(weights, self.maps, strict=True):
            whole += torch.einsum("k,kab->ab", torch.as_tensor(own, dtype=torch.float64), each)
        return whole

    def moves(self, weights: Sequence[np.ndarray]) -> list[Move]:
        """The same as moves of every edit's neutral prompts."""
        return [
            says(self.goal, edit, template, weights=own.tolist(), donors=donors)
            for edit, own, donors in zip(self.goal.edits, weights, self.donors, strict=True)
            for template in self.goal.templates
        ]


def directions(
    painter: Painter,
    goal: Goal,
    *,
    keep: float = 1.0,
    ridge: float = RIDGE,
    donors: Sequence[Sequence[str]] = (),
) -> Directions:
    """The maps of a goal; keep and ridge as in `moved`, whose adapter draws the same. donors: phrases for
    each edit, none by default."""
    width = painter.embed([""]).shape[-1]
    kept = painter.embed(preserved(goal)).cpu().flatten(0, 1)
    borrowed = tuple(tuple(own) for own in donors) or ((),) * len(goal.edits)
    sizes = [len(cells(edit)) + len(own) for edit, own in zip(goal.edits, borrowed, strict=True)]
    owned = [
        (
            e,
            template,
            aligned(painter, says(goal, edit, template, weights=[0.0] * sizes[e], donors=borrowed[e]))[0],
        )
        for e, edit in enumerate(goal.edits)
        for template in goal.templates
    ]
    edited = torch.cat([rows for _, _, rows in owned])
    share = kept_share(keep, edited, kept)
    identity = torch.eye(width, dtype=torch.float64)
    found = []
    for e, edit in enumerate(goal.edits):
        each = []
        for unit in np.eye(sizes[e]).tolist():
            goals = [
                aligned(painter, says(goal, edit, template, weights=unit, donors=borrowed[e]))[1]
                if own == e
                else rows
                for own, template, rows in owned
            ]
            update = solve(identity, edited, torch.cat(goals), kept, keep=share, ridge=ridge)
            each.append(update.dense(torch.float64).T)
        found.append(torch.stack(each))
    return Directions(goal, tuple(found), borrowed)


def drawn(
    painter: Painter, prompts: Sequence[str], seeds: Sequence[int], *, maps: Sequence[Tensor], common: Tensor
) -> np.ndarray:
    """Pictures of n prompts, each as an adapter of its own map would draw it; `common` moves the negative.

    An edit of all keys and values alike is an edit of what they read: no adapter has to be mounted, and one
    batch can try as many as it has pictures.
    """
    parts = []
    size = painter.batch_size
    for start in range(0, len(prompts), size):
        part = slice(start, start + size)
        own = {painter.negative_prompt: _moved(painter, painter.negative_prompt, common)}
        names = []
        for i, (prompt, each) in enumerate(zip(prompts[part], maps[part], strict=True)):
            names.append(f"{i}\0{prompt}")
            own[names[-1]] = _moved(painter, prompt, each)
        parts.append(replace(painter, _embeddings=own)(names, seeds[part]))
    return np.concatenate(parts)


def _moved(painter: Painter, prompt: str, each: Tensor) -> Tensor:
    said = painter.embed([prompt])
    return said + (said.double().cpu() @ each).to(said)

"""Which noise becomes which variant.

A picture's variant could be drawn by lot, whatever its noise. Then a student that sees the noise has nothing
to go by at first: it predicts the mean of the variants, and a mean of pale and tan skin is light skin. But a
mixture leaves free which noise gets which variant, so long as all noise together stays Gaussian. Here the
variants share out the quantiles of one direction in the space of noise, that in which their pictures differ
most: neighbours in the pictures are neighbours in the noise, the ways to them hardly cross, and the student
can decide at once. (The idea of couplings that straighten ways: arXiv:2302.00482.)

One direction orders variants along one line. An edit of several attributes therefore has a direction for
each, at right angles, so that their quantiles are independent: the first attribute shares out the quantiles
of its own, each of its values shares out the second's, and so on. Every edit of an attribute shares that
attribute's direction, so that the student learns one function of the noise and not one a subject.

Comes in: a painter, edits' explicit prompts. Goes out: for a seed and shares, the variant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import NamedTuple, final

import torch

from counterpoise.diffusion.painter import Painter
from counterpoise.diffusion.record import record

PROBES = 16  # seeds that a direction is found from
POOLED = 4  # the same where many edits share the direction
PROBE_SEED = 4_000_000
SEARCHED = 100_000  # seeds at most
_BLOCK = 250

Box = tuple[tuple[float, float], ...]
"""The quantiles of a variant: an interval a level."""


@final
@dataclass(frozen=True, slots=True)
class Coupling:
    """directions: (levels, channels, h, w), orthonormal. classes: for each variant, its class at each level.
    orders: for each level, the classes along its direction, lowest first. Variants of the same classes up to
    a level share out the next one's quantiles; no two variants have the same classes throughout."""

    directions: torch.Tensor
    classes: tuple[tuple[int, ...], ...]
    orders: tuple[tuple[int, ...], ...]

    def quantiles(self, noise: torch.Tensor) -> torch.Tensor:
        """Where Gaussian noise (n, channels, h, w) lies along the directions, float64 (n, levels)."""
        flat = noise.double().flatten(1)
        along = [(flat * direction.flatten()).sum(1) for direction in self.directions]
        return torch.special.ndtr(torch.stack(along, 1))

    def boxes(self, shares: Sequence[float]) -> dict[int, Box]:
        """Variant -> the quantiles that it gets: together as many as its share."""
        return self._split(range(len(shares)), shares, 0)

    @property
    def whole(self) -> Box:
        """All quantiles."""
        return ((0.0, 1.0),) * len(self.orders)

    def _split(self, members: Sequence[int], shares: Sequence[float], level: int) -> dict[int, Box]:
        if level == len(self.orders):
            return dict.fromkeys(members, ())
        groups = [[m for m in members if self.classes[m][level] == own] for own in self.orders[level]]
        groups = [group for group in groups if group]
        whole = sum(shares[m] for m in members) if level else 1.0
        ends = list(accumulate((sum(shares[m] for m in group) / whole for group in groups), initial=0.0))
        ends[-1] = max(1.0, ends[-1])  # rounding must leave no noise to nobody
        return {
            member: ((ends[i], ends[i + 1]), *rest)
            for i, group in enumerate(groups)
            for member, rest in self._split(group, shares, level + 1).items()
        }


def couple(painter: Painter, prompts: Sequence[str], probes: int = PROBES) -> Coupling:
    """All variants along one line: the direction in which the frozen model's pictures of the prompts differ
    most, from their mean final latents over the same `probes` seeds."""
    ends = mean_ends(painter, prompts, probes)
    direction, order = _line(ends - ends.mean(0))
    return Coupling(direction[None], tuple((i,) for i in range(len(prompts))), (order,))


def mean_ends(painter: Painter, prompts: Sequence[str], probes: int) -> torch.Tensor:
    """The mean final noisy latent of each prompt over the same seeds, float64 (prompts, channels, h, w)."""
    asked = [prompt for prompt in prompts for _ in range(probes)]
    ways = record(painter, asked, [PROBE_SEED + i for i in range(probes)] * len(prompts))
    return ways.noisy[:, -1].double().unflatten(0, (len(prompts), probes)).mean(1)


@final
@dataclass(frozen=True, slots=True)
class Line:
    """An attribute's direction, (channels, h, w) of length 1, and its values along it, lowest first."""

    direction: torch.Tensor
    values: tuple[str, ...]


class Probed(NamedTuple):
    """What the frozen model draws for one edit. cells: attribute -> value for each variant, without what it
    says nothing of. attributes: of all of them, in order. ends: mean_ends."""

    attributes: tuple[str, ...]
    cells: tuple[Mapping[str, str], ...]
    ends: torch.Tensor


def lines(probed: Sequence[Probed]) -> dict[str, Line]:
    """One direction for every attribute of the edits, each at right angles to those before it.

    A value's difference is taken among variants that are alike in every attribute before it.
    """
    found: dict[str, Line] = {}
    for attribute in dict.fromkeys(name for probe in probed for name in probe.attributes):
        apart: dict[str, list[torch.Tensor]] = {}
        for probe in probed:
            for members in _alike(probe, attribute):
                centre = probe.ends[members].mean(0)
                for member in members:
                    apart.setdefault(probe.cells[member][attribute], []).append(probe.ends[member] - centre)
        each = torch.stack([torch.stack(parts).mean(0) for parts in apart.values()])
        before = [line.direction for line in found.values()]
        direction, order = _line(_without(each, before))
        found[attribute] = Line(direction, tuple(list(apart)[i] for i in order))
    return found


def _alike(probe: Probed, attribute: str) -> list[list[int]]:
    """The variants that say the attribute, apart by what they say of those before it."""
    if attribute not in probe.attributes:
        return []
    before = probe.attributes[: probe.attributes.index(attribute)]
    groups: dict[tuple[str | None, ...], list[int]] = {}
    for i, cell in enumerate(probe.cells):
        if attribute in cell:
            groups.setdefault(tuple(cell.get(name) for name in before), []).append(i)
    return list(groups.values())


def couple_cells(probe: Probed, shared: Mapping[str, Line]) -> Coupling:
    """Attribute by attribute; variants of the same values then share out a direction of their own.

    Variants that say nothing of an attribute are one class of it, beyond its last value.
    """
    attributes = [name for name in probe.attributes if len({cell.get(name) for cell in probe.cells}) > 1]
    directions = [shared[name].direction for name in attributes]
    values = [
        (*shared[name].values, *([None] if any(name not in cell for cell in probe.cells) else []))
        for name in attributes
    ]
    classes = [
        tuple(own.index(cell.get(name)) for name, own in zip(attributes, values, strict=True))
        for cell in probe.cells
    ]
    orders = [tuple(range(len(own))) for own in values]
    if len(set(classes)) < len(classes):
        centres = [probe.ends[[other == own for other in classes]].mean(0) for own in classes]
        direction, order = _line(_without(probe.ends - torch.stack(centres), directions))
        directions.append(direction)
        orders.append(order)
        classes = [(*own, i) for i, own in enumerate(classes)]
    return Coupling(torch.stack(directions), tuple(classes), tuple(orders))


def _without(apart: torch.Tensor, directions: Sequence[torch.Tensor]) -> torch.Tensor:
    """What is left of (n, ...) beside the orthonormal directions."""
    flat = apart.flatten(1)
    for direction in directions:
        flat = flat - (flat @ direction.flatten())[:, None] * direction.flatten()
    return flat.reshape(apart.shape)


def _line(apart: torch.Tensor) -> tuple[torch.Tensor, tuple[int, ...]]:
    """The direction that holds most of (n, ...) differences, and their numbers along it."""
    flat = apart.flatten(1)
    direction = torch.linalg.svd(flat, full_matrices=False)[2][0]
    return direction.reshape(apart.shape[1:]), tuple(torch.argsort(flat @ direction).tolist())


class Found(NamedTuple):
    """A seed, and the quantiles where its noise lies."""

    seed: int
    quantiles: tuple[float, ...]


class Wanted(NamedTuple):
    """A box, how many intervals each of its levels is cut into, and the parts that a seed is wanted for."""

    box: Box
    sides: tuple[int, ...]
    parts: frozenset[int]


def seeds_in(
    painter: Painter, coupling: Coupling, wanted: Mapping[int, Wanted], *, first: int
) -> dict[int, dict[int, Found]]:
    """For every variant and each wanted part of its box the first seed from `first` on.

    After SEARCHED seeds what was found is returned: a share near nothing has next to no noise.
    """
    left = {variant: set(own.parts) for variant, own in wanted.items() if own.parts}
    found: dict[int, dict[int, Found]] = {variant: {} for variant in wanted}
    for start in range(first, first + SEARCHED, _BLOCK):
        if not left:
            break
        seeds = range(start, start + _BLOCK)
        for seed, u in zip(seeds, coupling.quantiles(painter.noise(seeds)).tolist(), strict=True):
            for variant in [v for v in left if is_in(u, wanted[v].box)]:
                part = part_of(u, wanted[variant].box, wanted[variant].sides)
                if part in left[variant]:
                    found[variant][part] = Found(seed, tuple(u))
                    left[variant].discard(part)
                    if not left[variant]:
                        del left[variant]
    return found


def is_in(quantiles: Sequence[float], box: Box) -> bool:
    """Whether the quantiles lie in the box."""
    return all(low <= u < high for u, (low, high) in zip(quantiles, box, strict=True))


def grid(parts: int, boundaries: Sequence[int]) -> tuple[int, ...]:
    """How many intervals each level is cut into to make at most `parts` equal parts.

    boundaries: how many a level has between its classes; what has more of them is cut more finely, and one
    level alone into exactly `parts`.
    """
    if len(boundaries) == 1:
        return (max(1, parts),)
    sides = [1] * len(boundaries)
    while True:
        at = max(range(len(sides)), key=lambda i: max(1, boundaries[i]) / sides[i])
        finer = [side + (i == at) for i, side in enumerate(sides)]
        if prod(finer) > parts:
            return tuple(sides)
        sides = finer


def part_of(quantiles: Sequence[float], box: Box, sides: Sequence[int]) -> int:
    """Which of the equal parts of a box the quantiles in it lie in, from 0."""
    part = 0
    for u, (low, high), count in zip(quantiles, box, sides, strict=True):
        at = min(count - 1, int((u - low) / (high - low) * count)) if high > low else 0
        part = part * count + at
    return part


def spread_noise(painter: Painter, coupling: Coupling, count: int, *, first: int) -> list[Found]:
    """At most `count` seeds from `first` on, one in each equal part of all quantiles, by seed."""
    sides = grid(count, [len(order) - 1 for order in coupling.orders])
    return sorted(spread(painter, coupling, sides, first=first).values())


def spread(painter: Painter, coupling: Coupling, sides: tuple[int, ...], *, first: int) -> dict[int, Found]:
    """The first seed from `first` on in each part of all quantiles, cut into `sides`."""
    wanted = Wanted(coupling.whole, sides, frozenset(range(prod(sides))))
    return seeds_in(painter, coupling, {0: wanted}, first=first)[0]

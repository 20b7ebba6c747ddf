"""Which noise becomes which variant.

A picture's variant could be drawn by lot, whatever its noise. Then a student that sees the noise has nothing
to go by at first: it predicts the mean of the variants, and a mean of pale and tan skin is light skin. But a
mixture leaves free which noise gets which variant, so long as all noise together stays Gaussian. Here the
variants share out the quantiles of one direction in the space of noise, that in which their pictures differ
most: neighbours in the pictures are neighbours in the noise, the ways to them hardly cross, and the student
can decide at once. (The idea of couplings that straighten ways: arXiv:2302.00482.)

Comes in: a painter, an edit's explicit prompts. Goes out: for a seed and shares, the variant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, final

import torch

from counterpoise.diffusion.painter import Painter
from counterpoise.diffusion.record import record

PROBES = 16  # seeds that a direction is found from
PROBE_SEED = 4_000_000
SEARCHED = 100_000  # seeds at most
_BLOCK = 250


@final
@dataclass(frozen=True, slots=True)
class Coupling:
    """direction: (channels, h, w), of length 1. order: the variants' numbers along it, lowest first."""

    direction: torch.Tensor
    order: tuple[int, ...]

    def quantile(self, noise: torch.Tensor) -> torch.Tensor:
        """Where Gaussian noise (n, channels, h, w) lies along the direction, in (0, 1): float64 (n,)."""
        along = (noise.double() * self.direction).flatten(1).sum(1)
        return torch.special.ndtr(along)

    def bins(self, shares: Sequence[float]) -> dict[int, tuple[float, float]]:
        """Variant -> the quantiles that it gets: as many as its share, in order."""
        ends = list(accumulate((shares[variant] for variant in self.order), initial=0.0))
        return {variant: (ends[i], ends[i + 1]) for i, variant in enumerate(self.order)}


def couple(painter: Painter, prompts: Sequence[str]) -> Coupling:
    """The direction in which the frozen model's pictures of the prompts differ most, from their mean
    final latents over the same seeds."""
    asked = [prompt for prompt in prompts for _ in range(PROBES)]
    ways = record(painter, asked, [PROBE_SEED + i for i in range(PROBES)] * len(prompts))
    ends = ways.noisy[:, -1].double().unflatten(0, (len(prompts), PROBES)).mean(1)
    apart = ends - ends.mean(0)
    direction = torch.linalg.svd(apart.flatten(1), full_matrices=False)[2][0]
    along = apart.flatten(1) @ direction
    order = tuple(torch.argsort(along).tolist())
    return Coupling(direction.reshape(apart.shape[1:]), order)


class Found(NamedTuple):
    """A seed, and the quantile where its noise lies."""

    seed: int
    quantile: float


def seeds_in(
    painter: Painter,
    coupling: Coupling,
    within: tuple[float, float],
    *,
    parts: int,
    wanted: set[int],
    first: int,
) -> dict[int, Found]:
    """For each wanted one of `parts` equal parts of the quantiles `within`, the first seed from `first` on.

    After SEARCHED seeds what was found is returned: a share near nothing has next to no noise.
    """
    low, high = within
    found: dict[int, Found] = {}
    for start in range(first, first + SEARCHED, _BLOCK):
        if found.keys() >= wanted:
            break
        seeds = range(start, start + _BLOCK)
        for seed, u in zip(seeds, coupling.quantile(painter.noise(seeds)).tolist(), strict=True):
            part = part_of(u, within, parts)
            if low <= u < high and part in wanted:
                found.setdefault(part, Found(seed, u))
    return found


def part_of(quantile: float, within: tuple[float, float], parts: int) -> int:
    """Which of `parts` equal parts of `within` a quantile in it lies in."""
    low, high = within
    return min(parts - 1, int((quantile - low) / (high - low) * parts)) if high > low else 0

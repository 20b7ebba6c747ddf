"""Edits of several attributes: every noise has one variant, as often as its share, and a direction each."""

from __future__ import annotations

from math import prod
from typing import cast

import pytest
import torch

from counterpoise.diffusion.painter import Painter
from counterpoise.remedies.coupling import (
    Coupling,
    Probed,
    couple_cells,
    grid,
    is_in,
    lines,
    part_of,
    spread_noise,
)

SHAPE = (2, 3, 3)
CELLS = (
    {"who": "woman", "tone": "pale"},
    {"who": "woman", "tone": "dark", "wears": "hoodie"},
    {"who": "woman", "tone": "dark", "wears": "top"},
    {"who": "man", "tone": "pale"},
    {"who": "man", "tone": "dark"},
)
SHARES = [0.2, 0.27, 0.03, 0.1, 0.4]
DIRECTIONS = torch.linalg.qr(torch.randn(18, 3, generator=torch.Generator().manual_seed(3)).double())[0].T


class Noise:
    """What a painter offers to a coupling: noise of a seed."""

    def noise(self, seeds: range | list[int]) -> torch.Tensor:
        return torch.stack([torch.randn(SHAPE, generator=torch.Generator().manual_seed(s)) for s in seeds])


def probed(cells: tuple[dict[str, str], ...] = CELLS) -> Probed:
    """Pictures that differ by one known direction an attribute."""
    where = {"woman": -3.0, "man": 3.0, "pale": -2.0, "dark": 2.0, "hoodie": -1.0, "top": 1.0}
    names = ("who", "tone", "wears")
    ends = [
        sum((where[value] * DIRECTIONS[names.index(name)] for name, value in cell.items()), torch.zeros(18))
        for cell in cells
    ]
    return Probed(names, cells, torch.stack(ends).reshape(-1, *SHAPE).double())


def coupling() -> Coupling:
    return couple_cells(probed(), lines([probed()]))


def test_each_attribute_has_the_direction_in_which_its_pictures_differ() -> None:
    found = lines([probed()])
    for i, name in enumerate(("who", "tone", "wears")):
        along = float(found[name].direction.flatten() @ DIRECTIONS[i])
        assert abs(along) == pytest.approx(1, abs=0.02)
    stacked = torch.stack([line.direction.flatten() for line in found.values()])
    assert torch.allclose(stacked @ stacked.T, torch.eye(3).double(), atol=1e-9)


def test_edits_of_one_attribute_share_its_direction() -> None:
    other = probed(({"tone": "dark"}, {"tone": "pale"}))._replace(attributes=("tone",))
    shared = lines([probed(), other])
    assert torch.equal(couple_cells(other, shared).directions[0], shared["tone"].direction)
    assert torch.equal(couple_cells(probed(), shared).directions[1], shared["tone"].direction)


def test_every_noise_has_one_variant_as_often_as_its_share() -> None:
    own = coupling()
    boxes = own.boxes(SHARES)
    volumes = [prod(high - low for low, high in boxes[i]) for i in range(len(SHARES))]
    assert volumes == pytest.approx(SHARES)
    quantiles = own.quantiles(Noise().noise(range(4000)))
    assert torch.allclose(torch.corrcoef(quantiles.T), torch.eye(3).double(), atol=0.07)
    counts = [0] * len(SHARES)
    for place in quantiles.tolist():
        owners = [variant for variant, box in boxes.items() if is_in(place, box)]
        assert len(owners) == 1
        counts[owners[0]] += 1
    for count, share in zip(counts, SHARES, strict=True):
        assert abs(count / 4000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5


def test_variants_that_read_alike_share_a_direction_of_their_own() -> None:
    cells = ({"who": "woman"}, {"who": "woman"}, {"who": "man"})
    ends = torch.zeros(3, 18).double()
    ends[0], ends[1], ends[2] = -DIRECTIONS[0] - DIRECTIONS[2], -DIRECTIONS[0] + DIRECTIONS[2], DIRECTIONS[0]
    probe = Probed(("who",), cells, ends.reshape(-1, *SHAPE))
    own = couple_cells(probe, lines([probe]))
    assert abs(float(own.directions[1].flatten() @ DIRECTIONS[2])) == pytest.approx(1)
    volumes = {i: prod(h - lo for lo, h in box) for i, box in own.boxes([0.1, 0.3, 0.6]).items()}
    assert [volumes[i] for i in range(3)] == pytest.approx([0.1, 0.3, 0.6])


def test_spread_noise_reads_shares_more_sharply_than_noise_by_lot() -> None:
    own = coupling()
    boxes = own.boxes(SHARES)

    def error(places: list[tuple[float, ...]]) -> float:
        read = [sum(is_in(place, boxes[i]) for place in places) / len(places) for i in range(len(SHARES))]
        return sum(abs(a - b) for a, b in zip(read, SHARES, strict=True)) / 2

    painter = cast(Painter, Noise())
    spread = [
        [found.quantiles for found in spread_noise(painter, own, 120, first=9999 * k)] for k in range(16)
    ]
    by_lot = [own.quantiles(Noise().noise(range(9999 * k, 9999 * k + 120))).tolist() for k in range(16)]
    assert sum(map(error, spread)) < 0.75 * sum(map(error, by_lot))


def test_parts_are_cut_more_finely_where_more_classes_meet() -> None:
    assert grid(55, [4]) == (55,)
    assert grid(220, [1, 4, 2]) == (3, 12, 6)
    assert grid(1, [1, 1]) == (1, 1)
    box = ((0.5, 1.0), (0.0, 0.2))
    numbers = {
        part_of((0.5 + 0.5 * (i + 0.5) / 3, 0.2 * (j + 0.5) / 4), box, (3, 4))
        for i in range(3)
        for j in range(4)
    }
    assert numbers == set(range(12))

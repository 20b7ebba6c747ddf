"""Whose each token is: a partition, in any grid, whatever the order of people; bad boxes are refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from regional_models import row_of

from counterpoise.errors import UsageError
from counterpoise.scenes.sampler.families import grids
from counterpoise.scenes.sampler.hold import checked_levels
from counterpoise.scenes.sampler.owners import BACKGROUND, check_cells, holds, owners
from counterpoise.scenes.sampler.scene import Figure, Scene, check_scene, pixels

sides = st.integers(0, 39).flatmap(lambda start: st.tuples(st.just(start), st.integers(start + 1, 40)))
edges = st.tuples(sides, sides).map(lambda both: (both[0][0], both[1][0], both[0][1], both[1][1]))
people = st.lists(st.tuples(edges, st.integers(0, 1)), min_size=1, max_size=5)


def scene_of(boxes: Any) -> Scene:
    return Scene(40, 40, "", tuple(Figure(box, "", z=z) for box, z in boxes))


@given(people, st.tuples(st.integers(1, 17), st.integers(1, 17)), st.randoms())
@settings(max_examples=40, deadline=None)
def test_a_token_has_one_owner_whose_box_holds_its_centre(boxes: Any, grid: Any, chance: Any) -> None:
    scene = scene_of(boxes)
    owner = owners(scene, grid)
    for token, i in enumerate(owner.tolist()):
        x, y = (token % grid[1] + 0.5) * 40 / grid[1], (token // grid[1] + 0.5) * 40 / grid[0]
        inside = [box[0] <= x < box[2] and box[1] <= y < box[3] for box, _ in boxes]
        near = any(
            abs(edge - at) < 1e-6 for box, _ in boxes for edge, at in zip(box, (x, y) * 2, strict=True)
        )
        if not near:  # a centre on an edge goes by rounding
            assert (i == BACKGROUND) == (not any(inside))
            assert i == BACKGROUND or (
                inside[i] and boxes[i][1] == max(z for (_, z), k in zip(boxes, inside, strict=True) if k)
            )
    order = list(range(len(boxes)))
    chance.shuffle(order)
    again = owners(scene_of([boxes[k] for k in order]), grid)
    same = [i if i == BACKGROUND else boxes[order[i]] for i in again.tolist()]
    assert same == [i if i == BACKGROUND else boxes[i] for i in owner.tolist()]


def test_the_front_wins_and_at_one_depth_the_nearer_centre() -> None:
    boxes = [((0, 0, 24, 40), 0), ((16, 0, 40, 40), 0)]
    assert owners(scene_of(boxes), (1, 40)).tolist() == [0] * 20 + [1] * 20
    boxes[0] = (boxes[0][0], 1)
    assert owners(scene_of(boxes), (1, 40)).tolist() == [0] * 24 + [1] * 16


def test_a_feather_fades_to_the_background_but_not_to_the_canvas_s_edge() -> None:
    scene = scene_of([((0, 0, 20, 40), 0)])
    held = holds(scene, (4, 40), feather=0.2).reshape(4, 40)
    assert torch.equal(held, held[:1].expand(4, 40))
    assert held[0, :16].tolist() == [1.0] * 16
    assert torch.allclose(held[0, 16:20], torch.tensor([0.875, 0.625, 0.375, 0.125]))
    assert held[0, 20:].abs().max() == 0
    assert holds(scene, (4, 40), feather=0.0)[:20].tolist() == [1.0] * 20


def test_pixels_and_fractions_are_the_same_boxes() -> None:
    in_pixels = row_of(3, gap=8)
    in_shares = replace(
        in_pixels,
        boxes="xyxy_normalised",
        people=tuple(
            replace(p, box=box) for p, box in zip(in_pixels.people, in_pixels.fractions(), strict=True)
        ),
    )
    assert torch.equal(owners(in_pixels, (7, 13)), owners(in_shares, (7, 13)))
    assert pixels(in_shares) == tuple(p.box for p in in_pixels.people)


@pytest.mark.parametrize(
    ("scene", "code", "words"),
    [
        (Scene(32, 16, "", ()), "E_PEOPLE", "0 people"),
        (row_of(65), "E_PEOPLE", "65 people"),
        (Scene(32, 16, "", (Figure((8, 0, 8, 16), ""),)), "E_BOX", "no area"),
        (Scene(32, 16, "", (Figure((16, 0, 8, 16), ""),)), "E_BOX", "no area"),
        (Scene(32, 16, "", (Figure((20, 0, 36, 16), ""),)), "E_BOX", "outside the canvas"),
        (Scene(32, 16, "", (Figure((-1, 0, 16, 16), ""),)), "E_BOX", "outside the canvas"),
        (Scene(32, 16, "", (Figure((0, 0, math.nan, 16), ""),)), "E_BOX", "finite"),
        (Scene(32, 16, "", (Figure((0, 0, 0.5, 1), ""),), boxes="cxcywh"), "E_BOX", "xyxy_pixels"),
    ],
)
def test_bad_scenes_are_refused_in_a_line(scene: Scene, code: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        check_scene(scene)
    assert error.value.code == code


def test_a_tiny_or_hidden_box_is_refused_with_the_least_size() -> None:
    with pytest.raises(UsageError, match="make it 8 x 8 pixels or more"):
        check_cells(scene_of([((0, 0, 7, 40), 0)]), (10, 10))
    with pytest.raises(UsageError, match="person 1 is hidden"):
        check_cells(scene_of([((8, 8, 24, 24), 0), ((4, 4, 28, 28), 1)]), (10, 10))
    check_cells(scene_of([((0, 0, 8, 8), 0)]), (10, 10))


@pytest.mark.parametrize("latent", [(8, 16), (5, 9), (7, 6)])
def test_the_grids_are_those_that_the_layers_see_at_odd_sizes_too(sd: Any, latent: tuple[int, int]) -> None:
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    seen = []
    blocks = [part for part in sd.unet.modules() if isinstance(part, Transformer2DModel)]
    handles = [
        block.register_forward_pre_hook(lambda _m, args: seen.append(tuple(args[0].shape[-2:])))
        for block in blocks
    ]
    try:
        sd.unet(torch.zeros(1, 4, *latent), 1, torch.zeros(1, 3, 16))
    finally:
        for handle in handles:
            handle.remove()
    assert set(grids(sd, latent)) == set(seen)


def test_scenes_of_several_canvases_are_not_drawn_together(sd: Any) -> None:
    with pytest.raises(UsageError, match="one canvas"):
        checked_levels(sd, [row_of(2), row_of(3)])
    with pytest.raises(UsageError, match="multiples of 8 pixels"):
        checked_levels(sd, [Scene(33, 16, "", (Figure((0, 0, 16, 16), ""),))])

"""Boxes: inside, apart, large enough, on the grid, and of the world's own geometry."""

from __future__ import annotations

import pytest

from counterpoise.errors import UsageError
from counterpoise.scenes.layout import lay_out
from counterpoise.scenes.profiles import PROFILES, profile_named

EVERY = [(name, n) for name, profile in PROFILES.items() for n in range(1, profile.limit + 1)]


@pytest.mark.parametrize(("name", "people"), EVERY)
def test_boxes_fit_their_canvas_and_keep_apart(name: str, people: int) -> None:
    profile = profile_named(name)
    for seed in range(12):
        layout = lay_out(people, profile, seed=seed)
        assert len(layout.boxes) == people == sum(layout.rows)
        assert layout.width % profile.multiple == layout.height % profile.multiple == 0
        for i, (left, top, right, bottom) in enumerate(layout.boxes):
            assert 0 <= left < right <= layout.width
            assert 0 <= top < bottom <= layout.height
            assert min(right - left, bottom - top) >= profile.smallest
            assert all(side % profile.multiple == 0 for side in (left, top, right, bottom))
            for other in layout.boxes[:i]:
                assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
        assert layout == lay_out(people, profile, seed=seed)


@pytest.mark.parametrize("people", range(1, 17))
def test_the_worlds_canvas(people: int) -> None:
    columns = people if people <= 4 else -(-people // 2)
    rows = 1 if people <= 4 else 2
    seen = set()
    for seed in range(30):
        layout = lay_out(people, profile_named("world"), seed=seed)
        assert (layout.width, layout.height) == (64 * columns, 64 * rows)
        assert all((r - left, b - t) == (64, 64) for left, t, r, b in layout.boxes)
        assert all(box[0] % 64 == 0 and box[1] in (0, 64) for box in layout.boxes)
        reading = sorted(layout.boxes, key=lambda box: (box[1], box[0]))
        assert list(layout.boxes) == reading
        seen.add(layout.boxes)
    assert len(seen) == (columns if people % rows else 1)  # a place that stays empty moves with the seed


def test_one_row_up_to_four_two_up_to_eight_more_above() -> None:
    rows = {n: len(lay_out(n, profile_named("sdxl"), seed=0).rows) for n in range(1, 25)}
    assert [rows[n] for n in range(1, 9)] == [1] * 4 + [2] * 4
    assert all(rows[n] >= 3 for n in range(9, 25))


def test_a_back_row_is_higher_and_smaller_where_the_profile_says_so() -> None:
    layout = lay_out(8, profile_named("sdxl"), seed=1)
    heights = [bottom - top for _, top, _, bottom in layout.boxes]
    assert max(heights[:4]) < min(heights[4:])
    assert max(box[3] for box in layout.boxes[:4]) <= min(box[1] for box in layout.boxes[4:])


@pytest.mark.parametrize("people", [0, -3, 60, 25, True, 2.5])
def test_other_numbers_of_people_are_refused_with_the_limit(people: int) -> None:
    with pytest.raises(UsageError, match="expected 1 to 24") as refused:
        lay_out(people, profile_named("sdxl"), seed=0)
    assert refused.value.code == "E_SCENE_PEOPLE"
    if people == 60:
        assert "two cells" in str(refused.value)


def test_an_unknown_canvas_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match='did you mean "sdxl"'):
        profile_named("sdlx")

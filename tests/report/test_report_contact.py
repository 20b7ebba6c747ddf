"""Contact sheets: every picture where it belongs, labels that fit, wrong shapes refused."""

from __future__ import annotations

import numpy as np
import pytest

from counterpoise.errors import UsageError
from counterpoise.report import contact_sheet


def planes(count: int) -> np.ndarray:
    return np.stack([np.full((20, 30, 3), 10 * i, np.uint8) for i in range(count)])


def test_pictures_lie_row_by_row_unchanged() -> None:
    images = planes(5)
    sheet = np.asarray(contact_sheet(images, 3))
    for index, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):
        top, left = 4 + row * 24, 4 + column * 34
        assert np.array_equal(sheet[top : top + 20, left : left + 30], images[index])
    assert (sheet[28:48, 72:] == 255).all()


def test_labels_are_written_below_and_cut_to_width() -> None:
    plain = np.asarray(contact_sheet(planes(2), 2, ["", ""]))
    labelled = np.asarray(contact_sheet(planes(2), 2, ["\x1b" + "long " * 999, ""]))
    assert plain.shape == labelled.shape
    changed = (plain != labelled).any(axis=(0, 2)).nonzero()[0]
    assert changed.size
    assert changed.max() < 4 + 30 + 4


@pytest.mark.parametrize(
    ("images", "columns", "labels"),
    [
        (planes(1)[:0], 1, None),
        (planes(1).astype(float), 1, None),
        (planes(1)[0], 1, None),
        (planes(2), 0, None),
        (planes(2), 1, ["one"]),
    ],
    ids=["none", "floats", "one picture bare", "no columns", "labels missing"],
)
def test_wrong_shapes_are_refused(images: np.ndarray, columns: int, labels: list[str] | None) -> None:
    with pytest.raises(UsageError, match="expected"):
        contact_sheet(images, columns, labels)

"""Counts the people of a scene and says where each stands: by rule, without anything learnt.

A person is a run of columns, in one row of people, that differ from the scene's background; people stand
apart from each other by some background at the height of the neck, whatever their hair.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from counterpoise.world.drawing import BACKGROUND, SIZE
from counterpoise.world.team import Box

FAR = 36.0  # of colours, Euclidean, 0 to 441: more than a decoder's noise, less than tops from any background
FEW = 3  # pixels of a column that may differ
NARROW, WIDE = 20, 92  # columns: less is a speck, more is two people grown together


def find_people(picture: np.ndarray) -> list[Box]:
    """Where people stand in a uint8 picture (height, width, 3), rows from the top, each from the left.

    A box is SIZE square around its person's middle, moved into the canvas. Rows of people are SIZE high.
    """
    boxes = []
    height, width = picture.shape[:2]
    for top in range(0, height - SIZE // 2, SIZE):
        band = picture[top : top + SIZE]
        filled = ndimage.binary_opening(_foreground(band), np.ones((2, 2), bool))
        columns = filled.sum(0) > FEW
        labels, found = ndimage.label(ndimage.binary_closing(columns, np.ones(3, bool)))
        for run in ndimage.find_objects(labels, max_label=found):
            start, stop = run[0].start, run[0].stop
            if not NARROW <= stop - start <= WIDE:
                continue
            left = min(max(0, (start + stop - SIZE) // 2), width - SIZE)
            boxes.append((left, top, left + SIZE, top + SIZE))
    return boxes


def _foreground(band: np.ndarray) -> np.ndarray:
    """Which pixels are not of the background, which is the palette's colour that most of the rim is near."""
    rim = np.concatenate([band[:4].reshape(-1, 3), band[:, :2].reshape(-1, 3), band[:, -2:].reshape(-1, 3)])
    palette = np.array([[int(code[i : i + 2], 16) for i in (1, 3, 5)] for code in BACKGROUND.values()])
    nearest = np.linalg.norm(rim[:, None].astype(float) - palette, axis=2).argmin(1)
    own = rim[nearest == np.bincount(nearest, minlength=len(palette)).argmax()]
    return np.linalg.norm(band.astype(float) - np.median(own, axis=0), axis=2) > FAR

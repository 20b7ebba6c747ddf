"""Which pixels of a picture are a person's skin, so that no tone is easier to find than another.

In: one uint8 picture. Out: the Lab colours of its skin, or the reason why there are none.

Fixed colour rules (Cr and Cb in a box, red above green by so much) drop the lightest and the darkest skin,
which is nearly grey. So colour only says what skin *could* be, widely, and at each lightness for itself;
what it is then is decided by where it lies: colours of the middle of the picture that its rim does not share.
It does not know a person from a wooden horse: ask another judge whether there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from PIL import Image
from scipy import ndimage

from counterpoise.measure.colour import distance, lab_of

SIDE = 96  # the longer side after shrinking: averages noise away, and bounds the work
FLAT = 6.0  # Lab: a picture all of whose pixels lie this close to its median shows one colour
LEAST = 0.005  # of the picture: a smaller piece of skin is a speck
COLOURS = 4  # that are looked at
WITHIN = 0.2  # of the surrounding colour's weight: eyes, mouths and glasses lie within faces and weigh less
SHARED = 0.6  # a colour that is the middle's by less than this is the rim's as well
# What skin can be: chroma by lightness, hue in degrees. The ten Monk tones lie at chroma 3.8 to 28 and hue 49
# to 89; the room around them is for shade, pinker skin, and what JPEG does to colours that are nearly grey.
_LIGHTNESS = (4.0, 12.0, 22.0, 32.0, 45.0, 60.0, 80.0, 90.0, 95.0, 99.0)
_CHROMA_FROM = (1.2, 1.8, 3.0, 5.0, 7.0, 8.0, 6.5, 4.2, 3.4, 3.4)
_CHROMA_TO = (8.0, 16.0, 28.0, 36.0, 42.0, 46.0, 40.0, 30.0, 22.0, 12.0)
_HUES = (22.0, 98.0)
# Lab in bins of these units; a* from -16, b* from -8.
_BIN = np.array([4.0, 3.0, 3.0])
_FIRST = np.array([0.0, -16.0, -8.0])
_BINS = (26, 28, 28)


@final
@dataclass(frozen=True, slots=True)
class Skin:
    """lab: float64 (n, 3), the colours of the skin pixels, n = 0 where there are none; share: of the picture.

    reason: why there are none; empty otherwise.
    """

    lab: np.ndarray
    share: float
    reason: str = ""


def skin_of(picture: np.ndarray) -> Skin:
    """The skin pixels of one uint8 (height, width, 3) picture, found on a copy of at most 96 pixels a
    side.
    """
    lab = lab_of(_shrunk(picture))
    flat = lab.reshape(-1, 3)
    could = could_be_skin(lab)
    middle = np.median(flat, axis=0)
    if np.quantile(np.linalg.norm(flat - middle, axis=1), 0.99) <= FLAT:
        # A swatch, or nothing but skin: no rim to tell it from.
        return Skin(flat, 1.0) if could_be_skin(middle) else _none("blank picture")
    if not could.any():
        return _none("no skin-coloured pixels")
    chosen = _one_colour(lab, could)
    share = float(chosen.mean())
    if share < LEAST:
        return _none("too few skin pixels")
    return Skin(lab[chosen], share)


def could_be_skin(lab: np.ndarray) -> np.ndarray:
    """Whether a colour, float (..., 3) in Lab, lies within the range of skin of any tone in any light."""
    chroma, hue = np.hypot(lab[..., 1], lab[..., 2]), np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
    least = np.interp(lab[..., 0], _LIGHTNESS, _CHROMA_FROM)
    most = np.interp(lab[..., 0], _LIGHTNESS, _CHROMA_TO)
    lit = (lab[..., 0] > _LIGHTNESS[0]) & (lab[..., 0] < _LIGHTNESS[-1])
    inside: np.ndarray = lit & (chroma >= least) & (chroma <= most) & (hue >= _HUES[0]) & (hue <= _HUES[1])
    return inside


def _one_colour(lab: np.ndarray, could: np.ndarray) -> np.ndarray:
    """bool (height, width): the candidates of the colour that is most the middle's and least the rim's.

    Of several such colours it is one that another surrounds: hair and hoods lie around faces, never within.
    """
    height, width = could.shape
    y, x = np.mgrid[0:height, 0:width]
    centred = np.exp(
        -0.5 * (((x + 0.5) / width - 0.5) / 0.2) ** 2 - 0.5 * (((y + 0.5) / height - 0.45) / 0.22) ** 2
    )
    # The lower rim of a portrait is shoulders, not what lies behind them.
    rim = (y < 0.05 * height) | (((x < 0.05 * width) | (x >= 0.95 * width)) & (y < 0.7 * height))
    bins = _bins(lab)
    inner, outer = _density(bins, centred), _density(bins, rim.astype(float))
    own = _enclosed_too((inner / (inner + outer + 1e-12))[tuple(bins)], rim)
    weight = centred * own**2
    left = could.copy()
    chosen = np.zeros_like(could)
    for _ in range(COLOURS):
        score = _density(bins, weight * left, blur=1.5)
        if not left.any() or score.max() <= 0:
            break
        mode = np.unravel_index(int(np.argmax(score)), score.shape)
        at = _FIRST + (np.array(mode) + 0.5) * _BIN
        region, near = _region(lab, at, could=could, own=own, weight=weight)
        left &= ~near
        solid = region & ndimage.binary_opening(region, np.ones((3, 3), bool))  # outlines are thin
        heavy = weight[solid].sum() >= WITHIN * weight[chosen].sum()
        if not chosen.any() or (heavy and _surrounds(chosen, region)):
            chosen = region
    return chosen


def _region(
    lab: np.ndarray, at: np.ndarray, *, could: np.ndarray, own: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(the pieces of the colour `at` that matter, all candidates of about that colour), bool (height,
    width).
    """
    off = np.abs(lab - at)
    near = could & (off[..., 0] <= 16) & (np.hypot(off[..., 1], off[..., 2]) <= 10)
    of_it = near
    core = near & (distance(lab, at) <= FLAT)
    if core.any():
        of_it = near & (own >= 0.5 * float(np.median(own[core])))
    pieces, count = ndimage.label(of_it)
    each = np.arange(1, count + 1)
    weights = ndimage.sum_labels(weight, pieces, each)
    # Pieces that weigh a tenth of the best belong to it: hair, glasses and necklaces cut skin up. Specks do
    # not.
    whole = ndimage.sum_labels(of_it, pieces, each) >= LEAST * of_it.size
    kept = np.flatnonzero((weights >= 0.1 * np.max(weights, initial=0.0)) & whole) + 1
    return np.isin(pieces, kept), near


def _surrounds(outer: np.ndarray, inner: np.ndarray) -> bool:
    """Whether most of `inner` has `outer` above it and on both sides."""
    above = np.logical_or.accumulate(outer, axis=0)
    before = np.logical_or.accumulate(outer, axis=1)
    after = np.logical_or.accumulate(outer[:, ::-1], axis=1)[:, ::-1]
    return bool((above & before & after)[inner].mean() > 0.5) if inner.any() else False


def _enclosed_too(own: np.ndarray, rim: np.ndarray) -> np.ndarray:
    """`own`, made 1 where a colour that the rim has too is cut off from it: a pale face in dark hair on a
    pale wall.
    """
    # Opened, since blurred edges between two colours pass through a third and would join them.
    shared = ndimage.binary_opening(own < SHARED, iterations=1)
    pieces, count = ndimage.label(shared)
    behind = np.isin(pieces, np.unique(pieces[rim & shared]))
    return np.where(shared & ~behind, 1.0, own) if count else own


def _bins(lab: np.ndarray) -> np.ndarray:
    """int (3, height, width): each pixel's bin."""
    places = np.floor((lab - _FIRST) / _BIN).astype(int)
    return np.moveaxis(np.clip(places, 0, np.array(_BINS) - 1), -1, 0)


def _density(bins: np.ndarray, weight: np.ndarray, *, blur: float = 0.8) -> np.ndarray:
    """The weights' share in each bin, blurred by `blur` bins."""
    table = np.zeros(_BINS)
    np.add.at(table, tuple(axis.ravel() for axis in bins), weight.ravel())
    density: np.ndarray = ndimage.gaussian_filter(table / max(table.sum(), 1e-12), blur, mode="constant")
    return density


def _shrunk(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    longest = max(height, width)
    if longest <= SIDE:
        return picture
    size = (max(1, round(width * SIDE / longest)), max(1, round(height * SIDE / longest)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def _none(reason: str) -> Skin:
    return Skin(np.empty((0, 3)), 0.0, reason)

"""Skin tone as a picture shows it: skin pixels to the Monk scale (1 to 10) and to the six classes of ITA.

It grades colours under the picture's own light, which nobody has calibrated: the same face in shade is graded
darker. Calibrate it on pictures like those that it is to judge (`counterpoise measure calibrate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np

from counterpoise.measure.colour import distance, ita_of, lab_of
from counterpoise.measure.reading import Reading
from counterpoise.measure.skin_pixels import skin_of

# The ten swatches of the Monk Skin Tone Scale, lightest first. Source: Monk, "The Monk Skin Tone Scale"
# (2019), https://skintone.google/get-started.
MONK = ("f6ede4", "f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a", "292420")
MONK_LAB = lab_of(np.array([list(bytes.fromhex(code)) for code in MONK], np.uint8))
TONES = tuple(str(tone) for tone in range(1, 11))
# Degrees above which each class but the last begins. Source: Del Bino and Bernerd, British J. Dermatology 169
# s3 (2013) 33-40.
ITA_FROM = (55.0, 41.0, 28.0, 10.0, -30.0)
ITA_CLASSES = ("very light", "light", "intermediate", "tan", "brown", "dark")


@final
@dataclass(frozen=True, slots=True)
class SkinTone:
    """A Measurer of `monk_tone` ("1" lightest to "10") and `ita_class`; it abstains where it finds no skin.

    The picture's skin has the median colour of its skin pixels. confidence: the share of those pixels that,
    each graded alone, get the same value.
    """

    name: str = "skin-tone"
    version: str = "1"
    attributes: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"monk_tone": TONES, "ita_class": ITA_CLASSES}
    )

    def __call__(self, images: np.ndarray) -> list[dict[str, Reading]]:
        """images: uint8 (n, height, width, 3), RGB; one mapping attribute -> Reading a picture."""
        return [self._read(image) for image in images]

    def _read(self, image: np.ndarray) -> dict[str, Reading]:
        skin = skin_of(image)
        if skin.reason:
            return {attribute: Reading(None, 0.0, skin.reason) for attribute in self.attributes}
        middle = np.median(skin.lab, axis=0)
        graded = {
            "monk_tone": (monk_tone(skin.lab), monk_tone(middle), TONES),
            "ita_class": (ita_class(skin.lab), ita_class(middle), ITA_CLASSES),
        }
        return {
            attribute: Reading(values[int(at)], round(float((each == at).mean()), 6))
            for attribute, (each, at, values) in graded.items()
        }


def monk_tone(lab: np.ndarray) -> np.ndarray:
    """The place, 0 to 9, of the Monk swatch nearest in Lab: float (..., 3) to int (...)."""
    return np.argmin(distance(lab[..., None, :], MONK_LAB), axis=-1)


def ita_class(lab: np.ndarray) -> np.ndarray:
    """The place, 0 (very light) to 5 (dark), of the class by individual typology angle."""
    return (ita_of(lab)[..., None] <= np.array(ITA_FROM)).sum(axis=-1)

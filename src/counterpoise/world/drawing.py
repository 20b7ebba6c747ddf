"""Draws a person with exactly known attributes: DiceBear assembles the SVG, resvg makes it pixels.

The parts are those of the "avataaars" definition by Pablo Stanley ("Free for personal and commercial
use", https://avataaars.com/); bare-shouldered tops, stripes, lashes, lips and earrings are our own paths.
Needs the extra `counterpoise[world]`; using the trained model does not.
"""

from __future__ import annotations

import copy
import io
import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from counterpoise.errors import EnvironmentLackError
from counterpoise.world.table import Person

SIZE = 64
SKIN = {"pale": "#fae3d4", "light": "#efb88f", "tan": "#cf9048", "brown": "#9c6644", "dark": "#3f261c"}
HAIR_COLOR = {
    "black": "#17141a",
    "brown": "#7a4320",
    "blonde": "#f0cf65",
    "red": "#d2461b",
    "gray": "#a7abb3",
}
CLOTHES_COLOR = {
    "blue": "#2f6fd6",
    "red": "#d8283a",
    "green": "#1f9a55",
    "yellow": "#f4c20d",
    "black": "#2b2e38",
}
BACKGROUND = {
    "white": "#f5f5f2",
    "blue": "#a9dcf5",
    "green": "#bdeec0",
    "pink": "#fcc3d6",
    "purple": "#cdbdf3",
}
HAIR = {"short": "theCaesarAndSidePart", "bob": "bob", "long": "straight02", "bun": "bun", "afro": "fro",
        "spiky": "dreads02"}  # fmt: skip
CLOTHES = {"hoodie": "hoodie", "blazer": "blazerAndShirt", "overalls": "overallShirt",
           "striped shirt": "striped", "tank top": "tankTop", "strapless top": "strapless"}  # fmt: skip
LIPS, BROWS = "#e0115f", "#120c0e"
EYES = ("default", "happy", "side")
MOUTHS = ("smile", "twinkle")


def _path(d: str, fill: Any, **more: str) -> dict[str, Any]:
    return {"name": "path", "type": "element", "attributes": {"d": d, "fill": fill, **more}}


_CLOTHES_FILL = {"type": "color", "name": "clothes"}
_SHIRT = "M63 13.6A72 72 0 0 0 0 85.3v10h200v-10a72 72 0 0 0-63-71.7c-5 16-19 26-37 26s-32-10-37-26z"
_STRIPES = (
    "M22 44h156v10H22zM7 66h186v10H7zM0 88h200v8H0z",
    "M60 24h80v8H60z",
)
_LASHES = (
    "M9 12L0 5M13 7L7-1M75 12l9-7M71 7l6-8",
    {"stroke": "#1a1014", "stroke-width": "4", "stroke-linecap": "round"},
)


@cache
def _style() -> Any:
    try:
        from dicebear import Style
    except ImportError as error:
        raise EnvironmentLackError(
            "drawing the world needs DiceBear and resvg: pip install 'counterpoise[world]'", code="E_EXTRA"
        ) from error
    raw = files("dicebear_styles").joinpath("avataaars.json").read_text("utf-8")
    definition = copy.deepcopy(json.loads(raw))
    clothes = definition["components"]["clothes"]["variants"]
    overall = clothes["overall"]["elements"]
    clothes["overallShirt"] = {"elements": [_path(_SHIRT, "#f4f4f4"), *overall]}
    clothes["striped"] = {
        "elements": [_path(_SHIRT, _CLOTHES_FILL), *(_path(d, "#ffffff") for d in _STRIPES)]
    }
    clothes["tankTop"] = {"elements": [_path(
        "M54 26 L66 18 C66 50 82 66 100 66 C118 66 134 50 134 18 L146 26 C146 52 152 66 166 78 L166 96"
        " H34 L34 78 C48 66 54 52 54 26Z", _CLOTHES_FILL)]}  # fmt: skip
    clothes["strapless"] = {"elements": [_path(
        "M30 74 C50 62 72 64 100 72 C128 64 150 62 170 74 L170 96 H30Z", _CLOTHES_FILL)]}  # fmt: skip
    _add_faces(definition["components"])
    return Style(definition)


def _add_faces(components: dict[str, Any]) -> None:
    eyes = components["eyes"]["variants"]
    for name in EYES:
        lashes = _path(_LASHES[0], "none", **_LASHES[1])
        eyes[f"{name}Lashes"] = {"elements": [*eyes[name]["elements"], lashes]}
    mouths = components["mouth"]["variants"]
    mouths["lipsSmile"] = {"elements": [
        _path("M18 8 Q34 -4 46 3 Q58 -4 74 8 Q68 34 46 34 Q24 34 18 8Z", LIPS),
        _path("M28 11 H64 Q60 21 46 21 Q32 21 28 11Z", "#ffffff")]}  # fmt: skip
    mouths["lipsTwinkle"] = {"elements": [
        _path("M22 13 Q36 0 46 7 Q56 0 70 13 Q60 31 46 31 Q32 31 22 13Z", LIPS)]}  # fmt: skip
    brows = components["eyebrows"]["variants"]
    brows["thick"] = {"elements": [_path(
        "M0 18 Q12 -2 39 6 L39 17 Q17 10 5 25Z M96 18 Q84 -2 57 6 L57 17 Q79 10 91 25Z", BROWS)]}  # fmt: skip
    brows["thin"] = {"elements": [_path(
        "M5 14 Q18 4 36 11 Q18 8 5 14Z M91 14 Q78 4 60 11 Q78 8 91 14Z", "#1a1014",
        **{"fill-opacity": ".75"})]}  # fmt: skip


def _options(person: Person, rng: np.random.Generator) -> dict[str, Any]:
    woman = person["presentation"] == "woman"
    eyes, mouth = EYES[rng.integers(len(EYES))], MOUTHS[rng.integers(len(MOUTHS))]
    hair = HAIR_COLOR[person["hair_color"]]
    return {
        "seed": "counterpoise",
        "topProbability": 100,
        "topVariant": [HAIR[person["hair"]]],
        "hairColor": [hair],
        "facialHairVariant": ["beardMedium"],
        "facialHairProbability": 100 if person["beard"] == "yes" else 0,
        "facialHairColor": [hair],
        "accessoriesVariant": ["prescription02"],
        "accessoriesProbability": 100 if person["glasses"] == "yes" else 0,
        "accessoriesColor": ["#101018"],
        "skinColor": [SKIN[person["skin"]]],
        "clothesVariant": [CLOTHES[person["clothes"]]],
        "clothesColor": [CLOTHES_COLOR[person["clothes_color"]]],
        "eyesVariant": [f"{eyes}Lashes" if woman else eyes],
        "eyebrowsVariant": ["thin" if woman else "thick"],
        "mouthVariant": [f"lips{mouth.capitalize()}" if woman else mouth],
        "backgroundColor": [BACKGROUND[person["background"]]],
    }


def svg(person: Person, rng: np.random.Generator) -> str:
    """The person as SVG text; `rng` decides only what has no name: gaze and smile."""
    from dicebear import Avatar

    return str(Avatar(_style(), _options(person, rng)).to_string())


def draw(person: Person, rng: np.random.Generator, *, size: int = SIZE) -> np.ndarray:
    """The person as uint8 (size, size, 3). Raises EnvironmentLackError without the extra [world]."""
    style = _style()  # first: its error names the missing extra
    assert style is not None
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg(person, rng), width=size, height=size)
    with Image.open(io.BytesIO(bytes(png))) as image:
        return np.asarray(image.convert("RGB"))

"""A blind labelling sheet: pictures in shuffled order under ids that say nothing, in one page that works
offline.

In: pictures and the questions. Out: the page for raters, and a key that only the asker keeps. Pictures are
encoded anew, since files carry prompts and seeds in their metadata.
"""

from __future__ import annotations

import io
import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Literal, final

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image
from pydantic import Field

from counterpoise.errors import UsageError
from counterpoise.measure.cards import Card, load_json
from counterpoise.measure.pictures import Picture
from counterpoise.measure.votes import CANNOT_TELL, Vote

SIDE = 512  # pixels; larger pictures are shrunk, so that a sheet of 200 stays below some 15 MB
KEYS = "123456789"
_LOSSLESS = 256 * 256


@final
class SheetPicture(Card):
    """What an id stands for."""

    pixel_sha256: str
    file_sha256: str
    files: tuple[str, ...]


@final
class SheetKey(Card):
    """The key of a sheet: which picture each id stands for, and what was asked."""

    format: Literal["counterpoise-sheet-key"] = "counterpoise-sheet-key"
    schema_version: Literal[1] = 1
    sheet: str
    seed: int
    attributes: dict[str, tuple[str, ...]] = Field(min_length=1)
    pictures: dict[str, SheetPicture] = Field(min_length=1)


def make_sheet(
    pictures: Sequence[Picture], attributes: Mapping[str, Sequence[str]], *, seed: int
) -> tuple[str, SheetKey]:
    """(the page, its key). Order and ids depend on `seed` alone; a picture that occurs twice is asked once.

    UsageError E_SHEET when an attribute has fewer than two distinct values, or "cannot tell" among them.
    """
    asked = {name: tuple(values) for name, values in attributes.items()}
    for name, values in asked.items():
        if len(set(values)) < 2 or len(set(values)) != len(values) or CANNOT_TELL in values:
            raise UsageError(
                f"attribute {name!r:.60} has the values {values!r:.80}: expected two or more distinct ones "
                f"({CANNOT_TELL!r} is always offered)",
                code="E_SHEET",
            )
    if not asked or not pictures:
        raise UsageError("a sheet needs pictures and at least one attribute", code="E_SHEET")
    distinct: dict[str, list[Picture]] = {}
    for picture in pictures:
        distinct.setdefault(picture.pixel_sha256, []).append(picture)
    rng = np.random.default_rng(seed)
    sheet, *ids = _ids(rng, len(distinct) + 1)
    order = [list(distinct.values())[i] for i in rng.permutation(len(distinct))]
    key = SheetKey(
        sheet=sheet,
        seed=seed,
        attributes=asked,
        pictures={
            each_id: SheetPicture(
                pixel_sha256=same[0].pixel_sha256,
                file_sha256=same[0].file_sha256,
                files=tuple(str(picture.path) for picture in same),
            )
            for each_id, same in zip(ids, order, strict=True)
        },
    )
    shown = [{"id": i, "src": _source(same[0].pixels)} for i, same in zip(ids, order, strict=True)]
    return _page(sheet, asked, shown), key


def key_finder(key: SheetKey) -> Callable[[Vote], str | None]:
    """From a vote on a sheet's id to the pixel_sha256 of the picture it stands for."""

    def find(vote: Vote) -> str | None:
        known = key.pictures.get(vote.picture)
        return None if known is None else known.pixel_sha256

    return find


def load_key(path: Path) -> SheetKey:
    """A sheet's key; RefusedInputError E_CARD_FILE when the file is none."""
    return load_json(SheetKey, path, what="a key that `counterpoise measure sheet` wrote")


def _ids(rng: np.random.Generator, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[rng.bytes(4).hex()] = None
    return list(found)


def _source(pixels: np.ndarray) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    lossless = picture.width * picture.height <= _LOSSLESS
    picture.save(stream, "PNG" if lossless else "JPEG", **({} if lossless else {"quality": 92}))
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{b64encode(stream.getvalue()).decode('ascii')}"


def _page(sheet: str, asked: Mapping[str, tuple[str, ...]], shown: Sequence[Mapping[str, str]]) -> str:
    style, script = _part("sheet.css"), _part("sheet.js")
    questions = [
        {
            "name": name,
            "place": place,
            "answers": [
                {"value": value, "key": KEYS[i] if i < len(KEYS) else ""} for i, value in enumerate(values)
            ]
            + [{"value": CANNOT_TELL, "key": "0"}],
        }
        for place, (name, values) in enumerate(asked.items())
    ]
    # "<" as an escape, so that no name can end the script element.
    data = json.dumps({"sheet": sheet, "pictures": shown}).replace("<", "\\u003c")
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return page.from_string(_part("sheet.html.j2")).render(
        sheet=sheet,
        questions=questions,
        data=Markup(data),
        style=Markup(style),
        script=Markup(script),
        style_digest=_digest(style),
        script_digest=_digest(script),
    )


def _part(name: str) -> str:
    return files("counterpoise.measure").joinpath("templates", name).read_text("utf-8")


def _digest(text: str) -> str:
    return b64encode(sha256(text.encode("utf-8")).digest()).decode("ascii")

"""Thumbnails: what a page embeds of a picture, small, and without what the file says beside its pixels."""

from __future__ import annotations

import io
from base64 import b64encode
from dataclasses import dataclass
from typing import final

from PIL import Image

from counterpoise.errors import RefusedInputError
from counterpoise.report.data import Picture

SIDE = 128  # pixels of the longer side, shown at about 104 CSS pixels
_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_PIXELS = 100_000_000


@final
@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as the page embeds it: a data URL, its size in pixels, and the words it was drawn with where
    those are not the prompt's."""

    source: str
    width: int
    height: int
    drawn: str = ""


def thumbnail(picture: Picture, *, side: int = SIDE) -> Shown:
    """The picture, at most `side` pixels a side: PNG where that is small, else WebP; same bytes, same answer.

    Text chunks (prompts, user names) do not come along. RefusedInputError for what is no PNG.
    """
    head = picture.png[:24]
    if head[:8] != _PNG or head[12:16] != b"IHDR":
        raise _refused(
            picture, f"is not a PNG file (it starts with {picture.png[:8]!r}); encode it as PNG first"
        )
    try:
        with Image.open(io.BytesIO(picture.png), formats=["PNG"]) as opened:
            if opened.width * opened.height > _MOST_PIXELS:
                raise _refused(
                    picture, f"has {opened.width} x {opened.height} pixels; expected at most 100 million"
                )
            small = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _refused(picture, f"cannot be decoded ({error}); draw it again") from error
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    kind, content = "png", _encoded(small, "PNG", optimize=True)
    if len(content) > 8_000:
        kind, content = "webp", _encoded(small, "WEBP", quality=80, method=6)
    data = b64encode(content).decode("ascii")
    return Shown(f"data:image/{kind};base64,{data}", small.width, small.height, picture.drawn)


def _encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    bare = Image.frombytes(picture.mode, picture.size, picture.tobytes())  # pixels only, no text or EXIF
    file = io.BytesIO()
    bare.save(file, kind, **options)
    return file.getvalue()


def _refused(picture: Picture, problem: str) -> RefusedInputError:
    return RefusedInputError(
        f"report: the picture of arm {picture.arm!r}, seed {picture.seed}, {problem}", code="E_REPORT_PICTURE"
    )

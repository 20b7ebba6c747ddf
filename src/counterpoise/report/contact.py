"""Contact sheets: many small pictures on one, for a quick look at what was drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from counterpoise.errors import UsageError
from counterpoise.report.text import visible

_GAP, _LINE, _FONT_SIZE = 4, 16, 11
_PAPER, _INK = (255, 255, 255), (40, 44, 50)


def contact_sheet(images: np.ndarray, columns: int, labels: Sequence[str] | None = None) -> Image.Image:
    """The pictures row by row, `columns` a row, each with its label beneath, cut to the picture's width.

    images: uint8 (n, height, width, 3), n >= 1. labels: n texts. Raises UsageError for any other shape.
    """
    _check(images, columns, labels)
    count, height, width, _ = images.shape
    columns = min(columns, count)
    step_x, step_y = width + _GAP, height + _GAP + (_LINE if labels else 0)
    size = (columns * step_x + _GAP, -(-count // columns) * step_y + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    for index, pixels in enumerate(images):
        left, top = _GAP + index % columns * step_x, _GAP + index // columns * step_y
        sheet.paste(Image.fromarray(pixels), (left, top))
        if labels:
            label = _fitting(visible(labels[index]), width, font)
            pen.text((left, top + height + 1), label, fill=_INK, font=font)
    return sheet


def _check(images: np.ndarray, columns: int, labels: Sequence[str] | None) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise UsageError(
            f"contact sheet: got pictures of {images.dtype} {images.shape}; "
            "expected uint8 (n, height, width, 3) with n at least 1",
            code="E_CONTACT_SHEET",
        )
    if columns < 1:
        raise UsageError(f"contact sheet: columns is {columns}; expected 1 or more", code="E_CONTACT_SHEET")
    if labels is not None and len(labels) != len(images):
        raise UsageError(
            f"contact sheet: {len(labels)} labels for {len(images)} pictures; expected one each",
            code="E_CONTACT_SHEET",
        )


def _fitting(label: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The label, or as much of its start as fits into `width` pixels with an ellipsis."""
    label = label[:200]
    if font.getlength(label) <= width:
        return label
    while label and font.getlength(label + "…") > width:
        label = label[:-1]
    return label + "…"

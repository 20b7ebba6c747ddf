"""Drawn portraits of a known skin tone: shaded faces with hair, clothes and many backgrounds, through JPEG.

Nothing here knows how the judge finds skin. All that varies is drawn from the seed, so that the same portrait
can be had in each of the ten tones. The judges' tests use them too.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from counterpoise.measure.skin import MONK

BACKGROUNDS = {
    "white": "#ffffff", "off-white": "#f4f1ec", "grey": "#8c8f94", "black": "#0c0c0e", "blue": "#5b8fc9",
    "green": "#4d7a4a", "pink": "#f2c9d4", "beige": "#d9c7a8", "wood": "#8a5f3c", "dusk": "#3b3550",
}  # fmt: skip
HAIR = ("#15120f", "#2b1d14", "#5a3a22", "#b8935a", "#8b8b8b", "#7c2d1a", "#e5d3a8")
CLOTHES = ("#20242c", "#f2f2f2", "#7a1f2b", "#1e5aa8", "#c9b18b", "#3f6b3a", "#101010", "#b07d4f")


def portrait(
    tone: int, seed: int, *, background: str | None = None, size: int = 192, quality: int | None = 85
) -> np.ndarray:
    """uint8 (size, size, 3): a person of Monk tone 1 to 10; quality None leaves JPEG out."""
    rng = np.random.default_rng(seed)
    kind = background or list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
    scale = size / 192
    cx, cy = 96 + rng.uniform(-14, 14), 84 + rng.uniform(-12, 12)
    rx, ry = rng.uniform(30, 48), rng.uniform(38, 56)
    hair, clothes = HAIR[rng.integers(len(HAIR))], CLOTHES[rng.integers(len(CLOTHES))]
    long, bald, beard = rng.random() < 0.4, rng.random() < 0.1, rng.random() < 0.2
    light, slope = rng.uniform(0.94, 1.04), rng.uniform(-0.12, 0.12)
    backdrop = _backdrop(kind, size, rng)
    skin = Image.new("L", (size, size))
    canvas = Image.fromarray(backdrop)
    pen, mask = ImageDraw.Draw(canvas), ImageDraw.Draw(skin)

    def oval(
        draw: ImageDraw.ImageDraw, at: tuple[float, float], half: tuple[float, float], fill: Any
    ) -> None:
        (x, y), (w, h) = at, half
        draw.ellipse([(x - w) * scale, (y - h) * scale, (x + w) * scale, (y + h) * scale], fill=fill)

    if not bald:
        oval(pen, (cx, cy - 8), (rx + 9, ry + 10), hair)
        if long:
            pen.rectangle(
                [(cx - rx - 9) * scale, cy * scale, (cx + rx + 9) * scale, (cy + 75) * scale], fill=hair
            )
    oval(pen, (cx, 210), (84, 62), clothes)
    mask.rectangle([(cx - 15) * scale, cy * scale, (cx + 15) * scale, (cy + ry + 22) * scale], fill=255)
    oval(mask, (cx, cy), (rx, ry), 255)
    picture = _painted(canvas, skin, MONK[tone - 1], light=light, slope=slope)
    pen = ImageDraw.Draw(picture)
    if not bald:
        pen.chord(
            [(cx - rx) * scale, (cy - ry - 4) * scale, (cx + rx) * scale, (cy - ry * 0.2) * scale],
            180,
            360,
            fill=hair,
        )
    if beard:
        pen.chord(
            [(cx - rx * 0.8) * scale, cy * scale, (cx + rx * 0.8) * scale, (cy + ry) * scale],
            20,
            160,
            fill=hair,
        )
    for side in (-1, 1):
        oval(pen, (cx + side * rx * 0.42, cy - 4), (7, 4), "#f6f6f2")
        oval(pen, (cx + side * rx * 0.42, cy - 4), (3, 3), "#2a1c12")
    oval(pen, (cx, cy + ry * 0.55), (11, 4), "#a2504a")
    picture = picture.filter(ImageFilter.GaussianBlur(0.6 * scale))
    noisy = np.asarray(picture).astype(float) + rng.normal(0, rng.uniform(0, 4), (size, size, 3))
    done = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return done if quality is None else through_jpeg(done, quality)


def through_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    """The picture as JPEG gives it back."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).convert("RGB"))


def swatch(tone: int, *, size: int = 64) -> np.ndarray:
    """uint8 (size, size, 3): nothing but one Monk tone."""
    return np.full((size, size, 3), list(bytes.fromhex(MONK[tone - 1])), np.uint8)


def _backdrop(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """One colour with a gradient and coarse texture, as a wall or a blurred street has."""
    colour = np.array(list(bytes.fromhex(BACKGROUNDS[kind][1:])), float)
    ramp = np.linspace(-1, 1, size)[:, None, None] * rng.uniform(-14, 14)
    coarse = rng.normal(0, rng.uniform(0, 7), (6, 6, 3))
    texture = np.stack(
        [
            np.asarray(Image.fromarray(coarse[..., c].astype(np.float32)).resize((size, size), 2))
            for c in range(3)
        ],
        -1,
    )
    return np.clip(colour + ramp + texture, 0, 255).astype(np.uint8)


def _painted(canvas: Image.Image, skin: Image.Image, code: str, *, light: float, slope: float) -> Image.Image:
    """Skin in linear light under one lamp: `light` times the swatch, more to one side by `slope`."""
    size = canvas.width
    rgb = np.array(list(bytes.fromhex(code))) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x = np.linspace(-1, 1, size)[None, :, None]
    y = np.linspace(-1, 1, size)[:, None, None]
    lit = np.clip(linear * light * (1 + slope * x * 2 - 0.08 * y), 0, 1)
    srgb = np.where(lit <= 0.0031308, lit * 12.92, 1.055 * lit ** (1 / 2.4) - 0.055)
    face = Image.fromarray(np.rint(np.broadcast_to(srgb, (size, size, 3)) * 255).astype(np.uint8))
    return Image.composite(face, canvas, skin)

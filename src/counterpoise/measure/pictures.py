"""Picture files as judges see them: uint8 RGB in sRGB, upright, one frame; or the reason why a file is none.

In: paths of files and folders. Out: `Pictures`, what could be read and what could not, each with its path.
One loader serves every verb, so that a picture is read in the same way whoever asks.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import final

import numpy as np
from PIL import Image, ImageCms, ImageOps

from counterpoise.errors import RefusedInputError, UsageError

MAX_PIXELS = 40_000_000  # 120 MB decoded; Pillow itself refuses only above 179 million
MAX_BYTES = 200_000_000
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"))
# Named, since Pillow would else try every decoder it has, Ghostscript among them.
# A phone's MPO opens as JPEG.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
BLANK_RANGE = 8  # levels: what JPEG leaves of one flat colour
_SHOWN = 5


@final
@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that could be read.

    pixels: uint8 (height, width, 3). file_sha256: of the file's bytes. pixel_sha256: of size and pixels, the
    same for a copy in another lossless format or with other metadata.
    """

    path: Path
    pixels: np.ndarray
    file_sha256: str
    pixel_sha256: str


@final
@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that is no picture that can be judged, and why."""

    path: Path
    reason: str


@final
@dataclass(frozen=True, slots=True)
class Pictures:
    """read and unreadable, each in the order in which the files were named (a folder's by name)."""

    read: tuple[Picture, ...]
    unreadable: tuple[Unreadable, ...]


def load_pictures(paths: Iterable[Path], *, skip_bad: bool = False) -> Pictures:
    """Every picture of these files and folders (folders are searched to the bottom for picture suffixes).

    Raises UsageError E_NO_PICTURES when nothing is there, RefusedInputError E_PICTURES with paths and reasons
    when a file cannot be read and skip_bad is False, or when not one of them can.
    """
    read: list[Picture] = []
    unreadable: list[Unreadable] = []
    for path in _files(paths):
        try:
            read.append(load_picture(path))
        except RefusedInputError as error:
            unreadable.append(Unreadable(path, str(error).removeprefix(f"{path}: ")))
    if unreadable and not (skip_bad and read):
        listed = "; ".join(f"{each.path}: {each.reason}" for each in unreadable[:_SHOWN])
        more = f"; and {len(unreadable) - _SHOWN} more" if len(unreadable) > _SHOWN else ""
        total = len(read) + len(unreadable)
        raise RefusedInputError(
            f"{len(unreadable)} of {total} pictures cannot be read: {listed}{more}. Mend or remove them"
            + (", or leave them out with --skip-bad, which counts them" if read else ""),
            code="E_PICTURES",
            file=str(unreadable[0].path),
        )
    return Pictures(tuple(read), tuple(unreadable))


def load_picture(path: Path) -> Picture:
    """One picture; RefusedInputError E_PICTURE with the reason why the file is none."""
    if not path.is_file():  # a FIFO would block, a device never end
        raise _refused(path, "not a regular file")
    try:
        size = path.stat().st_size
        if size == 0 or size > MAX_BYTES:
            raise _refused(path, f"{size} bytes; expected 1 to {MAX_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from None
    pixels = _decoded(path, data)
    return Picture(path, pixels, hashlib.sha256(data).hexdigest(), pixel_digest(pixels))


def pixel_digest(pixels: np.ndarray) -> str:
    """sha256 of a uint8 (height, width, 3) picture's size and values, whatever file held it."""
    height, width = pixels.shape[:2]
    return hashlib.sha256(f"{height} {width} ".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def is_blank(pixels: np.ndarray) -> bool:
    """One colour all over, give or take JPEG: what a safety filter leaves; there is nothing to measure."""
    flat = pixels.reshape(-1, pixels.shape[-1])
    return bool((flat.max(0).astype(int) - flat.min(0).astype(int)).max(initial=0) <= BLANK_RANGE)


def batches(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Neighbouring pictures of one size stacked, in order: what a Measurer takes."""
    stacks: list[list[np.ndarray]] = []
    for pixels in pictures:
        if stacks and stacks[-1][0].shape == pixels.shape:
            stacks[-1].append(pixels)
        else:
            stacks.append([pixels])
    return [np.stack(stack) for stack in stacks]


def _files(paths: Iterable[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found |= dict.fromkeys(
                each
                for each in sorted(path.rglob("*"))
                if each.suffix.lower() in SUFFIXES and not each.is_dir()
            )
        elif path.exists():
            found[path] = None
        else:
            raise UsageError(
                f"{path}: no such file or folder; check the path", code="E_NO_PICTURES", file=str(path)
            )
    if not found:
        named = ", ".join(str(path) for path in paths) or "nothing"
        raise UsageError(
            f"no pictures in {named}: expected files ending in {', '.join(sorted(SUFFIXES))}",
            code="E_NO_PICTURES",
        )
    return list(found)


def _decoded(path: Path, data: bytes) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            # Our own limit is lower than the one that Pillow warns of; broken metadata is not the picture's
            # fault.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                width, height = image.size
                if width < 1 or height < 1 or width * height > MAX_PIXELS:
                    raise _refused(
                        path, f"{width} x {height} pixels; expected 1 to {MAX_PIXELS} in all: shrink it"
                    )
                frames = getattr(image, "n_frames", 1)
                if frames > 1 and image.format != "MPO":  # a phone's MPO is a photo and its previews
                    raise _refused(path, f"{frames} frames; expected a still picture: export one frame")
                image.load()
                return np.asarray(_plain(image))
    except RefusedInputError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # a decoder may raise anything on a hostile file
        what = "no picture" if isinstance(error, Image.UnidentifiedImageError) else "damaged"
        told = (
            "its bytes are of no known format" if what == "no picture" else f"{type(error).__name__}: {error}"
        )
        raise _refused(path, f"{what} ({told})") from None


@cache
def _formats() -> tuple[str, ...]:
    """Those that this build of Pillow has: WebP and AVIF are not in every one."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _plain(image: Image.Image) -> Image.Image:
    """Upright, sRGB, 8 bits, transparent parts over white."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        upright = _eight_bits(upright)
    alpha = upright.has_transparency_data
    profile = image.info.get("icc_profile")
    if alpha:
        upright = upright.convert("RGBA")
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright)
    if profile:
        upright = _to_srgb(upright, profile)
    return upright.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey, which Pillow's own conversion would clip at 255; other depths have no known range."""
    values = np.asarray(image)
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 65535:
        raise ValueError(f"mode {image.mode}, values without a known range")
    return Image.fromarray((values.astype(np.uint32) * 255 // 65535).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Skin of a Display P3 photograph is other numbers in sRGB. A profile that cannot be used is left
    aside.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode not in ("RGB", "CMYK", "L"):
            image = image.convert("RGB")
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return image if converted is None else converted


def _refused(path: Path, reason: str) -> RefusedInputError:
    return RefusedInputError(f"{path}: {reason}", code="E_PICTURE", file=str(path))

"""One loader for every picture: what it accepts it makes plain, what it refuses it names with a reason."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from counterpoise.errors import CounterpoiseError, RefusedInputError, UsageError
from counterpoise.measure.pictures import batches, is_blank, load_picture, load_pictures, pixel_digest

NOISE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def png(width: int, height: int) -> bytes:
    """A PNG whose header claims any size and whose data is short."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def animated() -> bytes:
    frames = [Image.fromarray(NOISE), Image.fromarray(NOISE[::-1])]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


BAD = {
    "truncated": (encoded(Image.fromarray(NOISE))[:300], "damaged"),
    "empty": (b"", "0 bytes"),
    "html": (b"<html><body>404</body></html>", "no known format"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no known format"),
    "no-pixels": (png(0, 0), ""),
    "huge": (png(12000, 12000), "12000 x 12000"),
    "bomb": (png(60000, 60000), ""),
    "animated": (animated(), "2 frames"),
    "float": (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "known range"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_named_with_its_reason(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.png"
    file.write_bytes(BAD[name][0])
    with pytest.raises(RefusedInputError) as refused:
        load_picture(file)
    assert str(file) in str(refused.value)
    assert BAD[name][1] in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 4


def test_bad_pictures_are_listed_and_counted_or_refused(tmp_path: Path) -> None:
    for name, (data, _) in BAD.items():
        (tmp_path / f"{name}.png").write_bytes(data)
    (tmp_path / "good.png").write_bytes(encoded(Image.fromarray(NOISE)))
    with pytest.raises(RefusedInputError, match=rf"{len(BAD)} of {len(BAD) + 1} pictures.*--skip-bad"):
        load_pictures([tmp_path])
    loaded = load_pictures([tmp_path], skip_bad=True)
    assert [each.path.name for each in loaded.read] == ["good.png"]
    assert {each.path.stem for each in loaded.unreadable} == set(BAD)
    assert all(each.reason and str(each.path) not in each.reason for each in loaded.unreadable)


def test_skip_bad_does_not_turn_no_picture_at_all_into_a_result(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(RefusedInputError, match="1 of 1"):
        load_pictures([tmp_path], skip_bad=True)


def test_a_refusal_of_a_huge_header_decodes_nothing(tmp_path: Path) -> None:
    import tracemalloc

    file = tmp_path / "huge.png"
    file.write_bytes(png(12000, 12000))
    tracemalloc.start()
    with pytest.raises(RefusedInputError, match="shrink"):
        load_picture(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("where", ["nowhere.png", "empty-folder"])
def test_nothing_to_read_is_said(tmp_path: Path, where: str) -> None:
    (tmp_path / "empty-folder").mkdir()
    with pytest.raises(UsageError) as refused:
        load_pictures([tmp_path / where])
    assert where in str(refused.value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(CounterpoiseError, match="regular"):
        load_pictures([tmp_path / "pipe.png"])


def test_lossless_files_of_one_picture_are_one_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(NOISE)))
    (tmp_path / "b.bmp").write_bytes(encoded(Image.fromarray(NOISE), "BMP"))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.PNG").write_bytes(encoded(Image.fromarray(NOISE), compress_level=0))
    (tmp_path / "notes.txt").write_text("not a picture")
    read = load_pictures([tmp_path, tmp_path / "a.png"]).read
    assert [each.path.name for each in read] == ["a.png", "b.bmp", "c.PNG"]
    assert len({each.pixel_sha256 for each in read}) == 1
    assert len({each.file_sha256 for each in read}) == 3
    assert (read[0].pixels == NOISE).all()
    assert pixel_digest(NOISE) != pixel_digest(NOISE.reshape(20, 12, 3))


def only(tmp_path: Path, data: bytes) -> np.ndarray:
    (tmp_path / "x.png").write_bytes(data)
    return load_picture(tmp_path / "x.png").pixels


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0] = (10, 20, 30, 255)
    pixels = only(tmp_path, encoded(Image.fromarray(rgba)))
    assert pixels.tolist() == [[[10, 20, 30]] * 2, [[255] * 3] * 2]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([9, 8, 7, 1, 2, 3])
    assert only(tmp_path, encoded(palette, transparency=0)).tolist() == [[[255] * 3, [1, 2, 3]]]


def test_sixteen_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    deep = np.array([[0, 32896, 65535]], np.uint16)
    assert only(tmp_path, encoded(Image.fromarray(deep)))[0, :, 0].tolist() == [0, 128, 255]


def test_a_camera_s_rotation_is_undone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn a quarter clockwise
    pixels = only(tmp_path, encoded(Image.fromarray(NOISE), exif=exif))
    assert (pixels == np.rot90(NOISE, -1)).all()


def test_cmyk_and_grey_become_rgb(tmp_path: Path) -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert only(tmp_path, encoded(red, "JPEG", quality=95))[4, 4, 0] > 200
    assert only(tmp_path, encoded(Image.new("L", (3, 3), 77))).tolist() == [[[77] * 3] * 3] * 3


def test_a_colour_profile_is_applied(tmp_path: Path) -> None:
    # A profile in which sRGB's own numbers mean the same colours changes nothing, give or take rounding.
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    near = only(tmp_path, encoded(Image.fromarray(NOISE), icc_profile=srgb)).astype(int)
    assert np.abs(near - NOISE).max() <= 1
    # A Lab profile is no profile of RGB numbers: it is left aside, not a crash.
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert (only(tmp_path, encoded(Image.fromarray(NOISE), icc_profile=lab)) == NOISE).all()
    assert (only(tmp_path, encoded(Image.fromarray(NOISE), icc_profile=b"junk")) == NOISE).all()


def test_blank_means_one_colour_give_or_take_jpeg() -> None:
    grey = np.full((32, 32, 3), 90, np.uint8)
    assert is_blank(grey)
    assert is_blank(np.asarray(Image.open(io.BytesIO(encoded(Image.fromarray(grey), "JPEG", quality=20)))))
    grey[0, 0] = 120
    assert not is_blank(grey)


def test_batches_keep_order_and_size() -> None:
    sizes = [(2, 2), (2, 2), (3, 2), (2, 2)]
    assert [len(stack) for stack in batches([np.zeros((*size, 3), np.uint8) for size in sizes])] == [2, 1, 1]
    assert batches([]) == []

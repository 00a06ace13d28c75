from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autolabel.core.rows import Reason
from autolabel.errors import PermanentMediaError
from autolabel.protocols import RGB, Clip
from autolabel.remote.frames import MediaReader

RED, GREEN = (255, 0, 0), (0, 255, 0)
MAX_PIXELS = 10_000


def picture(width_px: int = 6, height_px: int = 4) -> Image.Image:
    """Green, its top left pixel red."""
    image = Image.new("RGB", (width_px, height_px), GREEN)
    image.putpixel((0, 0), RED)
    return image


def clip_of(path: Path, width_px: int = 6, height_px: int = 4) -> Clip:
    return Clip("row", path, range(1), width_px, height_px)


def saved(folder: Path, image: Image.Image, name: str = "picture.png", **options: Any) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def read(clip: Clip) -> RGB:
    ((index, pixels),) = MediaReader(MAX_PIXELS).read(clip)
    assert index == 0
    assert pixels.dtype == np.uint8
    assert pixels.shape == (clip.height_px, clip.width_px, 3)
    return pixels


def reason_for(clip: Clip) -> str:
    with pytest.raises(PermanentMediaError) as caught:
        list(MediaReader(MAX_PIXELS).read(clip))
    return caught.value.reason


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.tiff", "a.gif"])
def test_the_platforms_formats_come_as_rgb(tmp_path: Path, name: str) -> None:
    pixels = read(clip_of(saved(tmp_path, Image.new("RGB", (6, 4), (200, 40, 40)), name)))

    assert np.abs(pixels.astype(int) - (200, 40, 40)).max() <= 4


def test_frames_carry_the_clips_index(tmp_path: Path) -> None:
    clip = Clip("row", saved(tmp_path, picture()), range(5, 6), 6, 4)

    assert [index for index, _ in MediaReader(MAX_PIXELS).read(clip)] == [5]


@pytest.mark.parametrize(
    ("orientation", "red_at_xy"),
    [(1, (0, 0)), (2, (-1, 0)), (3, (-1, -1)), (4, (0, -1)), (5, (0, 0)), (6, (-1, 0)), (7, (-1, -1)), (8, (0, -1))],
)
@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.webp"])
def test_exif_orientation_is_applied(tmp_path: Path, name: str, orientation: int, red_at_xy: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, picture(), name, exif=exif, **({"lossless": True} if name == "a.webp" else {}))
    size = (6, 4) if orientation < 5 else (4, 6)

    pixels = read(clip_of(path, *size))

    x, y = red_at_xy
    assert tuple(pixels[y, x]) == RED
    assert (pixels == RED).all(axis=2).sum() == 1


def test_a_platform_that_ignores_exif_gets_the_stored_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    pixels = read(clip_of(saved(tmp_path, picture(), exif=exif), 6, 4))

    assert tuple(pixels[0, 0]) == RED


@pytest.mark.parametrize("size", [(6, 5), (4, 6), (600, 400)], ids=["other", "turned without EXIF", "scaled"])
def test_another_size_than_the_platforms_is_refused_naming_both(tmp_path: Path, size: tuple[int, int]) -> None:
    clip = clip_of(saved(tmp_path, picture()), *size)

    with pytest.raises(PermanentMediaError, match=rf"is 6x4, the platform says {size[0]}x{size[1]}") as caught:
        list(MediaReader(MAX_PIXELS).read(clip))

    assert caught.value.reason == Reason.WRONG_SIZE


def grey_16(width_px: int, height_px: int, value: int) -> Image.Image:
    return Image.fromarray(np.full((height_px, width_px), value, np.uint16))


@pytest.mark.parametrize(
    ("make", "name", "expected"),
    [
        (lambda: Image.new("L", (6, 4), 77), "a.png", (77, 77, 77)),
        (lambda: Image.new("1", (6, 4), 1), "a.png", (255, 255, 255)),
        (lambda: Image.new("RGB", (6, 4), GREEN).quantize(4), "a.png", GREEN),
        (lambda: Image.new("RGBA", (6, 4), (*RED, 255)), "a.png", RED),
        (lambda: Image.new("RGBA", (6, 4), (*RED, 0)), "a.png", (255, 255, 255)),
        (lambda: Image.new("RGBA", (6, 4), (0, 0, 0, 128)), "a.png", (127, 127, 127)),
        (lambda: Image.new("LA", (6, 4), (0, 0)), "a.png", (255, 255, 255)),
        (lambda: Image.new("CMYK", (6, 4), (0, 255, 255, 0)), "a.tiff", RED),
        (lambda: grey_16(6, 4, 0x80FF), "a.png", (0x80, 0x80, 0x80)),
        (lambda: grey_16(6, 4, 65535), "a.tiff", (255, 255, 255)),
        (lambda: Image.new("CMYK", (6, 4), (255, 255, 255, 0)), "a.jpg", (0, 0, 0)),
    ],
    ids=[
        "grey",
        "bilevel",
        "palette",
        "opaque",
        "transparent",
        "half",
        "grey alpha",
        "cmyk",
        "16 bit",
        "16 bit tiff",
        "cmyk jpeg",
    ],
)
def test_other_pixel_formats_become_rgb(
    tmp_path: Path, make: Callable[[], Image.Image], name: str, expected: tuple[int, int, int]
) -> None:
    pixels = read(clip_of(saved(tmp_path, make(), name)))

    assert tuple(pixels[0, 0]) == expected


def test_a_transparent_palette_entry_lies_over_white(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("P", (6, 4), 0), "a.gif", transparency=0)

    assert tuple(read(clip_of(path))[0, 0]) == (255, 255, 255)


def test_32_bit_values_are_refused(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((4, 6), 1e6, np.float32))

    assert reason_for(clip_of(saved(tmp_path, image, "a.tiff"))) == Reason.DECODE


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_an_animation_is_refused_since_no_frame_of_it_was_meant(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (6, 4), GREEN)]
    path = saved(tmp_path, picture(), name, save_all=True, append_images=frames)

    with pytest.raises(PermanentMediaError, match="2 frames") as caught:
        list(MediaReader(MAX_PIXELS).read(clip_of(path)))

    assert caught.value.reason == Reason.DECODE


def test_16_bit_colour_is_scaled_not_clipped(tmp_path: Path) -> None:
    line = b"\0" + b"".join(value.to_bytes(2, "big") for value in (0x40FF, 0x8000, 0xFFFF)) * 6
    header = (6).to_bytes(4, "big") + (4).to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    chunks = png_chunk(b"IHDR" + header) + png_chunk(b"IDAT" + zlib.compress(line * 4)) + png_chunk(b"IEND")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)

    assert tuple(read(clip_of(tmp_path / "a.png"))[0, 0]) == (0x40, 0x80, 0xFF)


def test_a_phones_multi_picture_jpeg_is_its_first_picture(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (3, 2), GREEN)]
    path = saved(tmp_path, Image.new("RGB", (6, 4), (200, 40, 40)), "a.mpo", save_all=True, append_images=frames)

    assert np.abs(read(clip_of(path))[0, 0].astype(int) - (200, 40, 40)).max() <= 4


@pytest.mark.parametrize(
    "content",
    [b"", b"not a picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 4\n", b"\x89PNG\r\n\x1a\n" + bytes(40)],
    ids=["empty", "text", "postscript", "broken header"],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)

    assert reason_for(clip_of(path)) == Reason.DECODE


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tiff", "a.bmp"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_picture_is_refused(tmp_path: Path, name: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])

    assert reason_for(clip_of(path, 64, 64)) == Reason.DECODE


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    assert reason_for(clip_of(tmp_path / "gone.png")) == Reason.DECODE


def png_bomb(width_px: int, height_px: int) -> bytes:
    """A PNG that promises pixels and brings none."""
    size = width_px.to_bytes(4, "big") + height_px.to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR" + size + bytes([8, 2, 0, 0, 0])) + png_chunk(b"IDAT")


def png_chunk(body: bytes) -> bytes:
    return (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


@pytest.mark.parametrize("side", [101, 10_000, 60_000], ids=["our limit", "Pillow's warning", "Pillow's error"])
def test_a_picture_over_the_limit_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_bomb(side, side))

    assert reason_for(clip_of(path, side, side)) == Reason.TOO_LARGE

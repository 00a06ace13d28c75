"""A spooled file -> upright RGB frames, under limits. Files come from anywhere and are not trusted."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from autolabel.core.rows import Reason
from autolabel.errors import PermanentMediaError
from autolabel.protocols import RGB, Clip
from autolabel.remote.video import Video

# What the platform takes as images, and no other: Pillow's EPS reader, for one, starts Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000")
# What Pillow's readers raise on broken files; each format in its own way.
BROKEN = (
    OSError,
    SyntaxError,
    EOFError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    struct.error,
)
BACKDROP = (255, 255, 255)
FIRST_QUARTER_TURN = 5  # of the EXIF orientations: this one and those after it swap width and height
# Our own limit is checked before any pixel is decoded; Pillow's would overrule a higher one.
Image.MAX_IMAGE_PIXELS = None


class MediaReader:
    """`protocols.FrameReader` over Pillow and PyAV, for one inference process.

    Frames of a video are decoded in order from the start of the file; the last one stays open, so that the next clip
    of it goes on where the one before stopped.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._open: tuple[Clip, Video] | None = None

    def read(self, clip: Clip) -> Iterator[tuple[int, RGB]]:
        if clip.video_frames is None:
            yield clip.frame_indices[0], read_still(clip, self._max_pixels)
        else:
            yield from self._video(clip, clip.frame_indices[0]).read(clip.frame_indices)

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        return self._video(clip, 0).times_s

    def _video(self, clip: Clip, first_index: int) -> Video:
        if self._open is not None:
            opened, video = self._open
            if opened.path == clip.path and video.next_index <= first_index:
                return video
            self._open = None
            video.close()
        video = Video(clip, self._max_pixels)
        self._open = clip, video
        return video


def read_still(clip: Clip, max_pixels: int) -> RGB:
    """The one frame of a still picture.

    - Sizes are read off the header and checked before any pixel is decoded.
    - Turned by its EXIF orientation where that gives the platform's width and height; where only the stored size
      does, the platform ignores EXIF, and so do we.
    - Transparency lies over white; 16-bit grey keeps its upper 8 bits, as Pillow does for 16-bit colour; CMYK,
      palette and grey become RGB. Colour profiles are not applied.

    Raises PermanentMediaError: `too_large` over `max_pixels`; `wrong_size`; `decode` for what is no such picture, is
    damaged, has several frames (which of them was meant?) or pixel values without a defined white (32-bit).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about oddities of the file that Pillow copes with
            with Image.open(clip.path, formats=_readable_formats()) as image:
                _check_header(image, clip, max_pixels)
                return _to_rgb(_upright(image, clip))
    except BROKEN as exc:
        raise PermanentMediaError(Reason.DECODE, f"its file cannot be decoded: {type(exc).__name__}: {exc}") from exc


def upright_size_px(path: Path, max_pixels: int) -> tuple[int, int]:
    """(width, height) of a still picture as its EXIF orientation turns it, off the header alone.

    Raises PermanentMediaError: `decode`, `too_large`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_readable_formats()) as image:
                _check_size(image, max_pixels)
                # Pillow's own way for PNG decodes the whole picture, in search of EXIF behind the pixels.
                exif = Image.Image.getexif(image)
                lies_down = exif.get(ExifTags.Base.Orientation, 1) >= FIRST_QUARTER_TURN
                return image.size[::-1] if lies_down else image.size
    except BROKEN as exc:
        raise PermanentMediaError(Reason.DECODE, f"its file cannot be decoded: {type(exc).__name__}: {exc}") from exc


def _readable_formats() -> list[str]:
    """`FORMATS` less what this build of Pillow cannot read (AVIF, before 11.3)."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise PermanentMediaError(
            Reason.TOO_LARGE, f"its picture has {width}x{height} pixels, the limit is {max_pixels} in all"
        )


def _check_header(image: Image.Image, clip: Clip, max_pixels: int) -> None:
    _check_size(image, max_pixels)
    if sorted(image.size) != sorted((clip.width_px, clip.height_px)):
        raise _wrong_size(image, clip)
    frames = getattr(image, "n_frames", 1)
    # MPO is what phones write: a JPEG with a preview or a second eye behind the picture.
    if frames > 1 and image.format != "MPO":
        raise PermanentMediaError(Reason.DECODE, f"its file holds {frames} frames, a still picture was expected")


def _upright(image: Image.Image, clip: Clip) -> Image.Image:
    expected = (clip.width_px, clip.height_px)
    image.load()
    turned = ImageOps.exif_transpose(image)
    if turned.size == expected:
        return turned
    if image.size == expected:
        return image
    raise _wrong_size(image, clip)


def _wrong_size(image: Image.Image, clip: Clip) -> PermanentMediaError:
    stored, expected = "x".join(map(str, image.size)), f"{clip.width_px}x{clip.height_px}"
    return PermanentMediaError(Reason.WRONG_SIZE, f"its picture is {stored}, the platform says {expected}")


def _to_rgb(image: Image.Image) -> RGB:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixel values (mode {image.mode}) have no defined white")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKDROP), image)
    return np.array(image.convert("RGB"))

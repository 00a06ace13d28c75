"""Tiny videos whose frames carry their number as a row of black and white blocks."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from autolabel.protocols import RGB

WIDTH_PX, HEIGHT_PX = 64, 48
BITS = 8


def numbered(number: int) -> RGB:
    """The number in binary, lowest bit on the left."""
    bits = [255 * (number >> bit & 1) for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8), WIDTH_PX // BITS)
    return np.broadcast_to(row[None, :, None], (HEIGHT_PX, WIDTH_PX, 3)).copy()


def number_of(picture: RGB) -> int:
    blocks = picture[HEIGHT_PX // 4 : -HEIGHT_PX // 4].reshape(-1, BITS, WIDTH_PX // BITS, 3)[:, :, 2:-2]
    return sum(1 << bit for bit in range(BITS) if blocks[:, bit].mean() > 127)


def film(path: Path, frames: int = 60, times_ms: Sequence[int] | None = None, **options: Any) -> Path:
    """H.264 with B-frames, 25 a second where no times are given; `options` are the container's."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "3", "g": "12"})
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            frame.pts, frame.time_base = times_ms[number] if times_ms else number * 40, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turned(path: Path, degrees: int) -> Path:
    """The file with a display matrix that turns it counterclockwise."""
    return displayed(path, {0: (1, 0, 0, 1), 90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}[degrees])


def displayed(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """The file with a display matrix in its track header (16.16 fixed point)."""
    body = bytearray(path.read_bytes())
    start = body.index(b"tkhd") + 4 + 40
    for place, value in zip((0, 4, 12, 16), matrix, strict=True):
        body[start + place : start + place + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(body)
    return path


def with_latin_1_text(path: Path) -> Path:
    """The file with what wrote it named in Latin-1, which is no UTF-8."""
    path.write_bytes(path.read_bytes().replace(b"Lavf", "L\u00e2vf".encode("latin-1")))
    return path

"""Drawn frames as pictures in memory, as JPEGs and as an MP4, with boxes to segment in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from PIL import Image

from autolabel.protocols import RGB
from autolabel.sandbox.scenes import draw
from benching.agreement import Boxes

PROMPTS = ("red scissors", "blue scissors", "black scissors", "white scissors", "gold scissors")
"""Five of two words: 17 tokens, with BERT's vocabulary and with the bundled one."""

FILLED = 0.8
FRAMES_PER_SECOND = 25


def drawn(count: int, width_px: int, height_px: int) -> list[RGB]:
    return [draw(seed, width_px, height_px, PROMPTS).rgb for seed in range(count)]


def grid(count: int, width_px: int, height_px: int) -> Boxes:
    """As many boxes, side by side in rows, so that suppression keeps them all."""
    columns = max(1, round((2 * count) ** 0.5))
    rows = -(-count // columns)
    place = np.arange(count)
    centre = np.stack([(place % columns + 0.5) / columns, (place // columns + 0.5) / rows], axis=1)
    half = np.array([FILLED / columns, FILLED / rows]) / 2
    boxes_norm = np.hstack([centre - half, centre + half])
    return (boxes_norm * [width_px, height_px, width_px, height_px]).astype(np.float32)


def as_files(pictures: Sequence[RGB], folder: Path) -> list[Path]:
    paths = [folder / f"{i:03}.jpg" for i in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path, quality=90)
    return paths


def as_film(pictures: Sequence[RGB], path: Path) -> Path:
    """H.264; width and height must be even."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path

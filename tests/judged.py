"""Frames with what was found and what people drew, for tests of evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from autolabel.core.detections import Detection
from autolabel.core.geometry import BoolArray, mask_from_window
from autolabel.core.prompts import Shape
from autolabel.evaluation.values import JudgedFrame

WIDTH_PX, HEIGHT_PX = 320, 240
SHAPES: dict[str, Shape] = {
    "cup": "bounding_box",
    "dog": "bitmask",
    "leaf": "polygon",
    "rod": "rotatable_bounding_box",
}


def boxed(cls: str, left: float, top: float, width: float, height: float, score: float = 1.0) -> Detection:
    return Detection(cls, "", score, (left, top, left + width, top + height))


def masked(cls: str, pixels: BoolArray, left: int, top: int, score: float = 1.0) -> Detection:
    """Pixels of a window whose corner lies at (left, top)."""
    box = (float(left), float(top), float(left + pixels.shape[1]), float(top + pixels.shape[0]))
    return Detection(cls, "", score, box, mask_from_window(pixels, left, top, 0.9))


def filled(cls: str, left: int, top: int, width: int, height: int, score: float = 1.0) -> Detection:
    """A mask that fills its box."""
    return masked(cls, np.ones((height, width), np.bool_), left, top, score)


def frame(found: Sequence[Detection], truth: Sequence[Detection], unit: int = 0) -> JudgedFrame:
    return JudgedFrame(unit, WIDTH_PX, HEIGHT_PX, tuple(found), tuple(truth))


def any_frames(seed: int, count: int, objects: int, classes: Sequence[str] = tuple(SHAPES)) -> list[JudgedFrame]:
    """Frames, each a data unit, of ellipses that were found once, twice or never, well or badly, now and then by
    another's name, beside things that are not there. Scores are hundredths, so that some tie.
    """
    rng = np.random.default_rng(seed)
    return [_any_frame(rng, unit, objects, classes) for unit in range(count)]


def _any_frame(rng: np.random.Generator, unit: int, objects: int, classes: Sequence[str]) -> JudgedFrame:
    corners = rng.uniform((0, 0), (WIDTH_PX - 60, HEIGHT_PX - 60), (objects, 2))
    boxes = np.hstack([corners, corners + rng.uniform(12, 60, (objects, 2))])
    names = rng.choice(classes, objects)
    seen = rng.integers(-objects // 4, objects, 3 * objects // 2)  # below 0: none of them
    found = [
        _ellipse(
            str(names[i] if rng.random() < 0.9 else rng.choice(classes)),
            boxes[i] + rng.normal(0, 3 if i >= 0 else 30, 4),
            round(rng.uniform(0.05, 1), 2),
        )
        for i in seen
    ]
    return frame(found, [_ellipse(str(name), box, 1.0) for name, box in zip(names, boxes, strict=True)], unit)


def _ellipse(cls: str, box_xyxy_px: NDArray[np.float64], score: float) -> Detection:
    """Of a box that is cut to the frame, at least a few pixels wide and high; the mask is its ellipse."""
    left, top = np.clip(box_xyxy_px[:2], 0, (WIDTH_PX - 8, HEIGHT_PX - 8)).tolist()
    right, bottom = np.clip(box_xyxy_px[2:], (left + 4, top + 4), (WIDTH_PX, HEIGHT_PX)).tolist()
    x0, y0, x1, y1 = int(left), int(top), ceil(right), ceil(bottom)
    ys, xs = np.mgrid[-1 : 1 : (y1 - y0) * 1j, -1 : 1 : (x1 - x0) * 1j]
    mask = mask_from_window(np.hypot(xs, ys) < 1.05, x0, y0, 0.9)
    return Detection(cls, "", float(np.float32(score)), (left, top, right, bottom), mask)

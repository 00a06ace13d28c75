"""Frames with what was found and what people drew, for tests of evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autolabel.core.detections import Detection
from autolabel.core.geometry import BoolArray, mask_from_window
from autolabel.evaluation.values import JudgedFrame

WIDTH_PX, HEIGHT_PX = SIZE_PX = (320, 240)


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

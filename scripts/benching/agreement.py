"""How far two answers to the same question are apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autolabel.core.geometry import BoolArray

Boxes = NDArray[np.float32]
"""(N, 4), corners in pixels of the frame."""


def box_error_norm(ours: Boxes, theirs: Boxes, size_px: tuple[int, int]) -> float:
    """Of each of our boxes (N, 4) the distance to the nearest of theirs, in fractions of the frame; the largest.

    The other way round says nothing: theirs may hold those too that are below our floor.
    """
    if not len(ours):
        return 0.0
    if not len(theirs):
        return 1.0
    far = abs(ours[:, None] - theirs[None]) / np.array(size_px * 2, np.float32)
    return float(far.max(axis=2).min(axis=1).max())


def distinct(boxes_xyxy_px: Boxes) -> int:
    """How many of them differ by a pixel or more: agreement about one box, many times over, says little."""
    return len(np.unique(boxes_xyxy_px.round(), axis=0))


def mask_iou(a: BoolArray, b: BoolArray) -> float:
    """1 where both are empty."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0

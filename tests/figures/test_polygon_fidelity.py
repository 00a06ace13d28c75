"""What polygons cost in fidelity and points, beside what others do, on the masks of real photos.

    pytest tests/figures -rP

Every polygon is judged as it would be sent: in fractions of the frame, drawn by pycocotools on the whole frame.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from autolabel.core.assemble import Instance, Placement
from autolabel.core.detections import Detection
from autolabel.core.geometry import BoolArray, mask_from_window
from autolabel.core.outlines import MIN_IOU
from autolabel.remote.shapes import PolygonNorm, to_platform

TRUTH = Path(__file__).parents[3] / "shared" / "data" / "coco128_free" / "instances.json"
SMALL_PX = 32 * 32

Parts = list[list[list[float]]]
"""Parts, of each the outer ring and then its holes, as flat x, y in pixels."""


@dataclass(frozen=True)
class Figure:
    area_px: int
    iou: float
    points: int


def ours(pixels: BoolArray) -> Parts:
    height, width = pixels.shape
    found = Detection("class", "prompt", 0.5, (0.0, 0.0, 1.0, 1.0), mask_from_window(pixels, 0, 0, 0.9))
    place = Placement(0, width, height, found)
    (placed,) = to_platform([Instance("hash", "class", "polygon", 0, (place,))]).placed
    assert isinstance(placed.geometry, PolygonNorm)
    size = (width, height)
    return [[[size[i % 2] * v for i, v in enumerate(ring)] for ring in part] for part in placed.geometry.parts]


def largest_contour(pixels: BoolArray) -> Parts:
    """The usual few lines of OpenCV: the largest outer contour, simplified by a pixel."""
    contours, _ = cv2.findContours(pixels.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [[cv2.approxPolyDP(max(contours, key=cv2.contourArea), 1.0, True).ravel().tolist()]]


def by_supervision(pixels: BoolArray) -> Parts:
    polygons = importlib.import_module("supervision").mask_to_polygons(pixels)
    return [[polygon.ravel().tolist()] for polygon in polygons]


def drawn(parts: Parts, height: int, width: int) -> BoolArray:
    """Rings of fewer than three points enclose nothing."""
    frame = np.zeros((height, width), np.bool_)
    for part in parts:
        rings = [fill(ring, height, width) for ring in part if len(ring) >= 6]
        if rings:
            frame |= rings[0] & ~np.any(rings[1:], axis=0)
    return frame


def fill(ring: list[float], height: int, width: int) -> BoolArray:
    filled: BoolArray = coco_mask.decode(coco_mask.frPyObjects([ring], height, width)[0]) > 0
    return filled


def measure(pixels: BoolArray, method: Callable[[BoolArray], Parts]) -> Figure:
    parts = method(pixels)
    shown = drawn(parts, *pixels.shape)
    iou = (shown & pixels).sum() / (shown | pixels).sum()
    return Figure(int(pixels.sum()), float(iou), sum(len(ring) // 2 for part in parts for ring in part))


def show(name: str, figures: list[Figure]) -> None:
    for what, some in (
        ("over 32x32 px", [figure for figure in figures if figure.area_px > SMALL_PX]),
        ("smaller", [figure for figure in figures if figure.area_px <= SMALL_PX]),
    ):
        ious = np.array([figure.iou for figure in some])
        points = np.median([figure.points for figure in some])
        below = (ious < MIN_IOU).sum()
        print(
            f"{name:16} {what:13} {len(some):4} objects: IoU worst {ious.min():.4f}, mean {ious.mean():.4f}, "
            f"{below:3} below {MIN_IOU}; points median {points:g}"
        )


@pytest.mark.skipif(not TRUTH.is_file(), reason="coco128_free is not beside this checkout")
def test_every_polygon_is_as_faithful_as_promised() -> None:
    truth = COCO(str(TRUTH))
    crowds = [note for note in truth.anns.values() if note["iscrowd"]]
    masks = [truth.annToMask(note).view(np.bool_) for note in truth.anns.values() if not note["iscrowd"]]
    print(f"{len(truth.anns)} instances, {len(crowds)} crowds skipped")
    methods = {"autolabel": ours, "largest contour": largest_contour}
    if importlib.util.find_spec("supervision"):
        methods["supervision"] = by_supervision
    figures = {name: [measure(mask, method) for mask in masks] for name, method in methods.items()}
    for name, of_method in figures.items():
        show(name, of_method)
    assert all(figure.iou >= MIN_IOU for figure in figures["autolabel"])

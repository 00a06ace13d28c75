"""Masks -> what outlines them: polygons with holes and parts, rotated boxes.

Pixel (x, y) covers [x, x + 1] x [y, y + 1] and y points down, so the ring of one pixel runs through its four corners.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from autolabel.core.detections import Mask
from autolabel.core.geometry import BoolArray, mask_to_window

Ring = NDArray[np.float32]
"""(N, 2) points on pixel edges, x then y; N >= 3, closed implicitly."""

Polygon = list[list[Ring]]
"""The parts of one object; of each the outer ring first, then its holes."""

MIN_IOU = 0.98
TOLERANCES_PX = (3.0, 2.0, 1.5, 1.2, 1.0, 0.8, 0.6, 0.4)
"""How far a simplified ring may run from the exact one: the first that keeps MIN_IOU is taken."""

NEAR_MIDDLE = 0.4
"""Not quite half a pixel: pycocotools draws on a grid of fifths, where chance decides which way a half is rounded."""


def exact_polygon(pixels: BoolArray) -> Polygon:
    """(H, W) -> the rings that run along the edges of its pixels. Parts that touch at a corner are one.

    OpenCV's contours run through pixel centres. On a grid twice as fine the centres next to an edge lie at 2k - 1 and
    2k, on either side of it, and both halve upwards to the edge k.
    """
    fine = pixels.view(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [_on_edges(contour[:, 0]) for contour in contours]
    parents = [] if hierarchy is None else hierarchy[0][:, 3].tolist()
    parts = {i: [ring] for i, (ring, parent) in enumerate(zip(rings, parents, strict=True)) if parent < 0}
    for ring, parent in zip(rings, parents, strict=True):
        if parent >= 0:
            parts[parent].append(ring)
    return list(parts.values())


def _on_edges(fine_centres: NDArray[Any]) -> Ring:
    """A contour of the finer grid -> the ring; where it cut a corner, two points have become one."""
    ring = (fine_centres + 1) // 2
    corners: Ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)].astype(np.float32)
    return corners


def rasterise(polygon: Polygon, width_px: int, height_px: int) -> BoolArray:
    """Polygon -> (height, width) of the frame: parts joined, holes cut out, as pycocotools draws them.

    What lies outside the frame is cut off.
    """
    frame = np.zeros((height_px, width_px), np.bool_)
    for part in polygon:
        points = np.vstack(part)
        left, top = np.maximum(np.floor(points.min(axis=0)).astype(int), 0)
        right, bottom = np.minimum(np.ceil(points.max(axis=0)).astype(int), (width_px, height_px))
        if left >= right or top >= bottom:
            continue
        outer, *holes = (ring - (left, top) for ring in part)
        pixels = _fill([outer], right - left, bottom - top)
        if holes:
            pixels &= ~_fill(holes, right - left, bottom - top)
        frame[top:bottom, left:right] |= pixels
    return frame


def _fill(rings: list[NDArray[Any]], width_px: int, height_px: int) -> BoolArray:
    flat = [ring.ravel().tolist() for ring in rings]
    filled: BoolArray = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, height_px, width_px))) > 0
    return filled


def polygon_from_mask(mask: Mask) -> Polygon:
    """Mask -> its polygon in pixels of the frame, of as few points as MIN_IOU allows. All parts and holes stay."""
    pixels = mask_to_window(mask)
    exact = exact_polygon(pixels)
    smooth = [[_along_edges(ring) for ring in part] for part in exact]
    drafts = (exact, _simplified(exact, exact, pixels), _simplified(smooth, exact, pixels))
    fewest = min(drafts, key=lambda polygon: sum(len(ring) for part in polygon for ring in part))
    corner = np.array(mask.window_xyxy_px[:2], np.float32)
    return [[ring + corner for ring in part] for part in fewest]


def _along_edges(ring: Ring) -> Ring:
    """A point near the middle of every pixel edge: of a staircase they lie on the slope that it stands for."""
    steps = np.roll(ring, -1, axis=0) - ring
    lengths = abs(steps).sum(axis=1).astype(int)
    begins = np.cumsum(lengths) - lengths
    along = (np.arange(lengths.sum()) - begins.repeat(lengths)).astype(np.float32) + np.float32(NEAR_MIDDLE)
    points: Ring = ring.repeat(lengths, axis=0) + np.sign(steps).repeat(lengths, axis=0) * along[:, None]
    return points


def _simplified(polygon: Polygon, exact: Polygon, pixels: BoolArray) -> Polygon:
    """The coarsest simplification that keeps MIN_IOU, else `exact`."""
    for tolerance in TOLERANCES_PX:
        draft = [
            [_simplified_ring(*rings, tolerance) for rings in zip(*parts, strict=True)]
            for parts in zip(polygon, exact, strict=True)
        ]
        if _iou(rasterise(draft, pixels.shape[1], pixels.shape[0]), pixels) >= MIN_IOU:
            return draft
    return exact


def _simplified_ring(ring: Ring, exact: Ring, tolerance_px: float) -> Ring:
    """A ring that would collapse comes back exact."""
    simpler = cv2.approxPolyDP(ring, tolerance_px, closed=True)
    return simpler[:, 0].astype(np.float32) if cv2.contourArea(simpler) > 0 else exact


def _iou(a: BoolArray, b: BoolArray) -> float:
    return float(np.count_nonzero(a & b) / np.count_nonzero(a | b))


@dataclass(frozen=True)
class RotatedBox:
    """A box that is laid down upright at (left, top) and then turned about its centre, clockwise as people see it.

    It turns in pixel space: in fractions of a frame that is not square, the same turn would shear it.
    """

    left_px: float
    top_px: float
    width_px: float
    height_px: float
    theta_deg: float

    @property
    def corners_xy_px(self) -> NDArray[np.float64]:
        """(4, 2) where its corners lie once it is turned."""
        cos, sin = np.cos(np.deg2rad(self.theta_deg)), np.sin(np.deg2rad(self.theta_deg))
        half = np.array([self.width_px, self.height_px]) / 2
        around = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
        turned: NDArray[np.float64] = around @ np.array([[cos, sin], [-sin, cos]])
        return turned + half + (self.left_px, self.top_px)


def rotated_box_from_mask(mask: Mask, width_px: int, height_px: int) -> RotatedBox:
    """Mask on a frame of that size -> the smallest rotated box around its pixels.

    It is turned as little as can be. The platform keeps the box before it is turned, in fractions of the frame: that
    box has to lie inside the frame, if need be on its other side. Where it never does (objects cut off by the border,
    mostly), the mask's upright box is taken.
    """
    left, top, _, _ = mask.window_xyxy_px
    corners = np.vstack([*chain.from_iterable(exact_polygon(mask_to_window(mask)))])
    (x, y), (width, height), angle = cv2.minAreaRect(corners)
    ways = [(width, height, angle), (height, width, angle - 90), (height, width, angle + 90)]
    for w, h, theta in sorted(ways, key=lambda way: abs(way[2])):
        x0, y0 = left + x - w / 2, top + y - h / 2
        if x0 >= 0 and y0 >= 0 and x0 + w <= width_px and y0 + h <= height_px:
            return RotatedBox(x0, y0, w, h, theta % 360)
    (x0, y0), (x1, y1) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return RotatedBox(left + x0, top + y0, x1 - x0, y1 - y0, 0.0)

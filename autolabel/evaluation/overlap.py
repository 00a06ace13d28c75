"""How far detections cover what people drew: IoU of boxes, of masks, of the boundaries of masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from autolabel.core.detections import Detection, Mask
from autolabel.core.geometry import BoolArray, mask_to_window
from autolabel.core.merging import pixels_in, region_of
from autolabel.core.outlines import rotated_box_from_mask
from autolabel.core.prompts import Shape, needs_mask
from autolabel.evaluation.values import Floats, JudgedFrame

BOUNDARY_SHARE = 0.02
"""How wide a boundary is, of the frame's diagonal: Cheng et al., Boundary IoU, CVPR 2021."""

Rle = dict[str, Any]
"""A mask of a whole frame as pycocotools takes it: {"size": [height, width], "counts": bytes}."""


def box_xywh_px(item: Detection) -> list[float]:
    """COCO's way to write a box."""
    x0, y0, x1, y1 = item.box_xyxy_px
    return [x0, y0, x1 - x0, y1 - y0]


def box_ious(found: Sequence[Detection], truth: Sequence[Detection]) -> Floats:
    """(N, M) IoU of the boxes."""
    return _ious([box_xywh_px(item) for item in found], [box_xywh_px(item) for item in truth])


def shape_ious(found: Sequence[Detection], truth: Sequence[Detection], shape: Shape, frame: JudgedFrame) -> Floats:
    """(N, M) IoU of what a shape keeps of them: of boxes for the box class, else of masks (see `found_rle`)."""
    if not needs_mask(shape):
        return box_ious(found, truth)
    return _ious([found_rle(item, shape, frame) for item in found], [truth_rle(item, frame) for item in truth])


def _ious(found: Sequence[Any], truth: Sequence[Any]) -> Floats:
    if not (found and truth):
        return np.zeros((len(found), len(truth)))
    ious: Floats = coco_mask.iou(found, truth, [0] * len(truth))
    return ious


def found_rle(item: Detection, shape: Shape, frame: JudgedFrame) -> Rle:
    """The mask of a detection on its frame; for a rotated box that of the box which would be written."""
    mask = _mask_of(item)
    if shape != "rotatable_bounding_box":
        return _frame_rle(mask, frame)
    corners = rotated_box_from_mask(mask, frame.width_px, frame.height_px).corners_xy_px
    rle: Rle = coco_mask.frPyObjects([corners.ravel().tolist()], frame.height_px, frame.width_px)[0]
    return rle


def truth_rle(item: Detection, frame: JudgedFrame) -> Rle:
    """The mask that people drew, on its frame."""
    return _frame_rle(_mask_of(item), frame)


def _mask_of(item: Detection) -> Mask:
    if item.mask is None:
        raise ValueError(f"an object of class {item.feature_hash} has no mask, and its shape is made from one")
    return item.mask


def _frame_rle(mask: Mask, frame: JudgedFrame) -> Rle:
    """A mask's runs in its window -> in the frame, without drawing the frame."""
    left, top, right, bottom = mask.window_xyxy_px
    width, height = right - left, bottom - top
    cells = np.zeros(1 + width * (height + 1), np.bool_)  # with a gap below each column, so that no run spans two
    cells[1:].reshape(width, height + 1)[:, :height] = mask_to_window(mask).T
    column, row = np.divmod(np.flatnonzero(cells[1:] != cells[:-1]), height + 1)
    edges = (left + column) * frame.height_px + top + row
    runs = np.diff(np.concatenate([[0], edges, [frame.width_px * frame.height_px]]))
    size = [frame.height_px, frame.width_px]
    rle: Rle = coco_mask.frPyObjects({"size": size, "counts": runs.tolist()}, *size)
    return rle


def boundary_iou(found: Detection, truth: Detection, frame: JudgedFrame) -> float:
    """IoU of what of either mask lies within BOUNDARY_SHARE of its edge; the frame's border is an edge too."""
    masks = _mask_of(found), _mask_of(truth)
    region = region_of(masks)
    width_px = max(1, round(BOUNDARY_SHARE * math.hypot(frame.width_px, frame.height_px)))
    ours, theirs = (_boundary(pixels_in(mask, region), width_px) for mask in masks)
    return float(np.count_nonzero(ours & theirs) / np.count_nonzero(ours | theirs))


def _boundary(pixels: BoolArray, width_px: int) -> BoolArray:
    inner = cv2.erode(
        pixels.view(np.uint8),
        np.ones((3, 3), np.uint8),
        iterations=width_px,
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    boundary: BoolArray = pixels & (inner == 0)
    return boundary

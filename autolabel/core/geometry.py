"""Boxes and masks: pixels <-> RLE <-> the platform's row-major RLE. Coordinates are pixel edges, y down."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from autolabel.core.detections import Mask

BoolArray = NDArray[np.bool_]


def clip_boxes(boxes_xyxy_px: NDArray[np.float32], width_px: int, height_px: int) -> NDArray[np.float32]:
    """(N, 4) boxes cut to the frame; those outside come back with no area."""
    limit = np.array([width_px, height_px, width_px, height_px], np.float32)
    return np.clip(boxes_xyxy_px, 0, limit)


def box_areas(boxes_xyxy_px: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) areas in square pixels."""
    sides = boxes_xyxy_px[:, 2:] - boxes_xyxy_px[:, :2]
    areas: NDArray[np.float32] = sides[:, 0] * sides[:, 1]
    return areas


def box_iou(a_xyxy_px: NDArray[np.float32], b_xyxy_px: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 4) and (M, 4) -> (N, M) intersection over union; 0 where both are empty."""
    low = np.maximum(a_xyxy_px[:, None, :2], b_xyxy_px[None, :, :2])
    high = np.minimum(a_xyxy_px[:, None, 2:], b_xyxy_px[None, :, 2:])
    overlap = np.prod(np.clip(high - low, 0, None), axis=2)
    union = box_areas(a_xyxy_px)[:, None] + box_areas(b_xyxy_px)[None, :] - overlap
    iou: NDArray[np.float32] = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return iou


def mask_from_window(pixels: BoolArray, left_px: int, top_px: int, score: float) -> Mask:
    """(h, w) pixels of a window whose corner lies at (left, top) -> Mask. No copy where columns lie whole."""
    height, width = pixels.shape
    rle = coco_mask.encode(np.asfortranarray(pixels.view(np.uint8)))
    return Mask((left_px, top_px, left_px + width, top_px + height), bytes(rle["counts"]), score)


def mask_from_runs(
    run_lengths_px: NDArray[np.int64], window_xyxy_px: tuple[int, int, int, int], score: float
) -> Mask:
    """Column-major runs of a window, the first of pixels that are not set (0 where the first is) -> Mask."""
    left, top, right, bottom = window_xyxy_px
    size = [bottom - top, right - left]
    rle = coco_mask.frPyObjects({"size": size, "counts": run_lengths_px.tolist()}, *size)
    return Mask(window_xyxy_px, bytes(rle["counts"]), score)


def mask_to_window(mask: Mask) -> BoolArray:
    """Mask -> (h, w) bool of its window."""
    left, top, right, bottom = mask.window_xyxy_px
    window: BoolArray = coco_mask.decode({"size": [bottom - top, right - left], "counts": mask.counts}).view(np.bool_)
    return window


def mask_to_frame(mask: Mask, width_px: int, height_px: int) -> BoolArray:
    """Mask -> (height, width) bool of the whole frame."""
    left, top, right, bottom = mask.window_xyxy_px
    frame = np.zeros((height_px, width_px), np.bool_)
    frame[top:bottom, left:right] = mask_to_window(mask)
    return frame


def mask_area_px(mask: Mask) -> int:
    """Pixels set, read off the RLE."""
    left, top, right, bottom = mask.window_xyxy_px
    return int(coco_mask.area({"size": [bottom - top, right - left], "counts": mask.counts}))


def row_major_rle(frame: BoolArray) -> str:
    """(H, W) bool -> the platform's RLE string.

    It is COCO's compressed text over row-major runs, so COCO's encoder on the transposed view gives the same bytes
    (`encord/common/bitmask_operations`), several times faster and without a copy.
    """
    counts: bytes = coco_mask.encode(frame.view(np.uint8).T)["counts"]
    return counts.decode("ascii")

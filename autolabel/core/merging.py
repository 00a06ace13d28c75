"""What several looks at one frame found, each object once: passes of prompts, parts of the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autolabel.core.detections import Detections, Mask
from autolabel.core.geometry import box_areas, mask_from_window, mask_to_window

Boxes = NDArray[np.float32]
Window = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels of the frame, right and bottom exclusive."""

EVERYTHING_XYXY = np.array([-np.inf, -np.inf, np.inf, np.inf], np.float32)

SAME_PASS_IOU = 0.8
"""From which on boxes of two passes over one picture are one object. Of 1,079 pairs of true boxes of two classes, on
32 photos of COCO, 1 overlaps more."""

LEAST_COVER = 0.9
"""A look that saw less of an object than this share of what another saw has no say in what it is."""


def merge_looks(looks: Sequence[Detections], same_iou: float) -> Detections:
    """Looks at one frame, with the same prompts as columns -> each object once, best first.

    - Boxes of two looks are one object where they agree, with IoU `same_iou`, on what both looks could see of it: so
      half an object at a tile's edge is matched with the whole. Boxes of one look stay apart: suppression's concern.
    - Its scores are the best of the looks that saw it (nearly) whole, side by side.
    - Its box is that of the best of them, and reaches beyond what that look saw where others say so.
    - Its mask, where the looks bring masks, is that look's too, with those of looks that saw beyond it.

    The order of looks and boxes changes nothing, ties of all coordinates and scores apart.
    """
    if len(looks) == 1:
        return looks[0]
    boxes, scores = (np.concatenate([getattr(one, part) for one in looks]) for part in ("boxes_xyxy_px", "scores"))
    seen = np.concatenate([_seen_of(one) for one in looks])
    look = np.repeat(np.arange(len(looks)), [len(one.boxes_xyxy_px) for one in looks])
    masks = None if any(one.masks is None for one in looks) else [mask for one in looks for mask in one.masks or ()]
    is_everything = all(one.seen_xyxy_px is None for one in looks)
    order = np.lexsort((*boxes.T, -scores.max(axis=1, initial=0)))
    boxes, scores, seen, look = boxes[order], scores[order], seen[order], look[order]
    is_free = np.ones(len(boxes), np.bool_)
    merged: list[tuple[Boxes, Boxes, NDArray[np.float32], Mask | None]] = []
    for i in range(len(boxes)):
        if is_free[i]:
            members = _gather(i, boxes, seen, is_free & (look != look[i]), same_iou)
            is_free[members] = False
            witnesses, box, window = settle(members, boxes, seen)
            best = scores[witnesses].max(axis=0)
            telling = order[_tellers(witnesses[0], members, seen)]
            mask = None if masks is None else join_masks([masks[k] for k in telling])
            merged.append((box, window, best, mask))
    return Detections(
        np.array([box for box, *_ in merged], np.float32).reshape(-1, 4),
        np.array([best for _, _, best, _ in merged], np.float32).reshape(-1, scores.shape[1]),
        None if masks is None else tuple(mask for *_, mask in merged if mask),
        None if is_everything else np.array([window for _, window, *_ in merged], np.float32).reshape(-1, 4),
    )


def _gather(first: int, boxes: Boxes, seen: Boxes, is_other: NDArray[np.bool_], same_iou: float) -> list[int]:
    """The first, and which of the others are one object with it.

    Where one that joins saw farther, those that could not be compared before are compared again.
    """
    members, box, window = [first], boxes[first], seen[first]
    pending = np.flatnonzero(is_other)
    while True:
        agreement = _row_iou(clip_to(box[None], seen[pending]), clip_to(boxes[pending], window[None]))
        joining = pending[agreement >= same_iou]
        if not len(joining):
            return members
        members += joining.tolist()
        for j in joining.tolist():
            box, window = extend(box, window, boxes[j], seen[j])
        pending = pending[agreement < same_iou]


def settle(members: Sequence[int], boxes: Boxes, seen: Boxes) -> tuple[list[int], Boxes, Boxes]:
    """Of the boxes of one object those of looks that saw it (nearly) whole, best first; its box, and what was seen.

    The box is that of the best of them, extended by what others say of it beyond what that look saw.
    """
    ordered = sorted(members)
    around = np.concatenate([boxes[ordered, :2].min(axis=0), boxes[ordered, 2:].max(axis=0)])
    saw = box_areas(clip_to(around[None], seen[ordered]))
    witnesses = [member for member, area in zip(ordered, saw, strict=True) if area >= LEAST_COVER * saw.max()]
    box, window = boxes[witnesses[0]], seen[witnesses[0]]
    for member in ordered:
        box, window = extend(box, window, boxes[member], seen[member])
    return witnesses, box, window


def _tellers(best: int, members: Sequence[int], seen: Boxes) -> list[int]:
    """The best of an object's members, and those that saw what it did not."""
    inside = (clip_to(seen[members], seen[[best]]) == seen[members]).all(axis=1)
    return [best, *(member for member, is_inside in zip(members, inside.tolist(), strict=True) if not is_inside)]


def join_masks(masks: Sequence[Mask]) -> Mask:
    """All pixels of masks of one object, in a window around theirs; the first one's score."""
    region = region_of(masks)
    pixels = np.logical_or.reduce([pixels_in(mask, region) for mask in masks])
    return masks[0] if len(masks) == 1 else mask_from_window(pixels, region[0], region[1], masks[0].score)


def region_of(masks: Sequence[Mask]) -> Window:
    """The smallest part of the frame that holds the masks."""
    lefts, tops, rights, bottoms = zip(*(mask.window_xyxy_px for mask in masks), strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def pixels_in(mask: Mask, region: Window) -> NDArray[np.bool_]:
    """(h, w) what of a mask lies in a part of the frame."""
    left, top, right, bottom = mask.window_xyxy_px
    x0, y0, x1, y1 = max(left, region[0]), max(top, region[1]), min(right, region[2]), min(bottom, region[3])
    pixels = np.zeros((region[3] - region[1], region[2] - region[0]), np.bool_)
    if x0 < x1 and y0 < y1:
        inside = mask_to_window(mask)[y0 - top : y1 - top, x0 - left : x1 - left]
        pixels[y0 - region[1] : y1 - region[1], x0 - region[0] : x1 - region[0]] = inside
    return pixels


def _seen_of(found: Detections) -> Boxes:
    if found.seen_xyxy_px is None:
        return np.tile(EVERYTHING_XYXY, (len(found.boxes_xyxy_px), 1))
    return found.seen_xyxy_px


def extend(box: Boxes, window: Boxes, other: Boxes, other_window: Boxes) -> tuple[Boxes, Boxes]:
    """A box as seen in a window, with what another look says beyond that window; (4,) each -> box, window of both.

    A side moves where the other box leaves the window on that side, or on one across: a slanted thing goes on beyond
    the window's right edge as far down as its other part says.
    """
    leaves_low, leaves_high = other[:2] < window[:2], other[2:] > window[2:]
    across = (leaves_low | leaves_high)[::-1]
    low = np.where(leaves_low | across, np.minimum(box[:2], other[:2]), box[:2])
    high = np.where(leaves_high | across, np.maximum(box[2:], other[2:]), box[2:])
    both = np.minimum(window[:2], other_window[:2]), np.maximum(window[2:], other_window[2:])
    return np.concatenate([low, high]), np.concatenate(both)


def clip_to(boxes: Boxes, windows: Boxes) -> Boxes:
    """Boxes cut to windows, row by row (either may be one for all); without area where they do not meet."""
    low = np.maximum(boxes[:, :2], windows[:, :2])
    return np.hstack([low, np.maximum(low, np.minimum(boxes[:, 2:], windows[:, 2:]))])


def _row_iou(a_xyxy_px: Boxes, b_xyxy_px: Boxes) -> NDArray[np.float32]:
    """(N, 4) and (N, 4) -> (N,)"""
    overlap = box_areas(clip_to(a_xyxy_px, b_xyxy_px))
    union = box_areas(a_xyxy_px) + box_areas(b_xyxy_px) - overlap
    iou: NDArray[np.float32] = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return iou

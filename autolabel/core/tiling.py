"""Parts of a frame that are looked at one by one: where they lie, and what their seams cut in two."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from autolabel.core.detections import Detections, Mask
from autolabel.core.geometry import mask_area_px
from autolabel.core.merging import EVERYTHING_XYXY, Boxes, Window, clip_to, join_masks, pixels_in, region_of, settle
from autolabel.core.suppress import Kept

SAME_LOOK_IOU = 0.5
"""From which on boxes, or masks, of looks at different scales are one object."""

PART_SHARE = 0.8
"""From which share of its pixels on a mask is a part of another look's object of the same class."""

SEAM_SHARE = 0.02
"""How near a box has to come to a tile's edge, in sides of the tile, to be taken for cut there."""


def tile_windows(width_px: int, height_px: int, size_px: int, overlap: float) -> list[Window]:
    """Tiles of one size that cover a frame, row by row, evenly spread: neighbours share `overlap` of a side or more.

    Where the frame is lower or narrower than a tile, so are they; where it is no larger at all there are none.
    """
    if max(width_px, height_px) <= size_px:
        return []
    lefts, tops = _starts(width_px, size_px, overlap), _starts(height_px, size_px, overlap)
    return [(x, y, min(x + size_px, width_px), min(y + size_px, height_px)) for y in tops for x in lefts]


def _starts(length_px: int, size_px: int, overlap: float) -> list[int]:
    beyond = max(0, length_px - size_px)
    steps = math.ceil(beyond / math.floor(size_px * (1 - overlap)))
    return [beyond * i // max(1, steps) for i in range(steps + 1)]


def in_frame(found: Detections, window: Window) -> Detections:
    """What was found on a tile, in pixels of the tile -> in pixels of the frame."""
    left, top, right, bottom = window
    masks = found.masks and tuple(
        replace(mask, window_xyxy_px=(x0 + left, y0 + top, x1 + left, y1 + top))
        for mask in found.masks
        for x0, y0, x1, y1 in [mask.window_xyxy_px]
    )
    boxes = found.boxes_xyxy_px + np.array([left, top, left, top], np.float32)
    seen = np.tile(np.array([left, top, right, bottom], np.float32), (len(boxes), 1))
    return Detections(boxes, found.scores, masks, seen)


def join_at_seams(
    kept: Kept, masks: Mapping[int, Mask], seen: Boxes, size_px: tuple[int, int]
) -> tuple[Kept, dict[int, Mask]]:
    """Objects of a frame of `size_px` (width, height), masks by rank, what was `seen` of the frame to find each ->
    those that are whole, best first, each once.

    - Masks of two looks that agree on what both looks could see are one object, however their boxes differ; so are
      those of a class of which one lies in the other, unless the one inside is whole and the better: a thing of its
      own in a weak box around several. It has the class and score of the best look that saw it (nearly) whole; what
      others add lies beyond what that one saw.
    - What still ends where a look ended, and not the frame, is part of something: it goes.
    """
    is_free = [True] * len(kept.index)
    whole: dict[int, tuple[Boxes, Mask | None]] = {}
    for rank in range(len(kept.index)):
        if is_free[rank]:
            members, mask = _gather(rank, kept, masks, seen, is_free, size_px)
            for member in members:
                is_free[member] = False
            witnesses, box, window = settle(members, kept.boxes_xyxy_px, seen)
            if not _is_cut(box, window, size_px):
                whole[witnesses[0]] = box, mask
    ranks = sorted(whole)
    joined = Kept(
        kept.index[ranks],
        kept.class_index[ranks],
        kept.prompt_index[ranks],
        kept.scores[ranks],
        np.array([whole[rank][0] for rank in ranks], np.float32).reshape(-1, 4),
        kept.dropped_by_cap,
    )
    return joined, {i: mask for i, rank in enumerate(ranks) if (mask := whole[rank][1]) is not None}


def _gather(
    first: int,
    kept: Kept,
    masks: Mapping[int, Mask],
    seen: Boxes,
    is_free: list[bool],
    size_px: tuple[int, int],
) -> tuple[list[int], Mask | None]:
    """Ranks that are one object with the first, and its mask."""
    members, window, mask = [first], seen[first], masks.get(first)
    is_cut = _is_cut(kept.boxes_xyxy_px[first], seen[first], size_px)
    pending = [rank for rank in masks if is_free[rank] and rank != first]
    while mask is not None:
        near = [rank for rank in pending if _meet(mask, masks[rank]) and not np.array_equal(seen[rank], window)]
        same = [
            rank
            for rank in near
            if _iou(mask, masks[rank], clip_to(window[None], seen[rank][None])[0]) >= SAME_LOOK_IOU
            or (
                kept.class_index[rank] == kept.class_index[first]
                and (is_cut or mask_area_px(masks[rank]) <= mask_area_px(mask))
                and _share(mask, masks[rank]) >= PART_SHARE
            )
        ]
        if not same:
            break
        rank = same[0]
        pending.remove(rank)
        members.append(rank)
        wider = np.concatenate([np.minimum(window[:2], seen[rank, :2]), np.maximum(window[2:], seen[rank, 2:])])
        mask = mask if np.array_equal(wider, window) else join_masks([mask, masks[rank]])
        window = wider
    return members, mask


def _meet(mask: Mask, other: Mask) -> bool:
    """Whether two masks may have a pixel in common."""
    (x0, y0, x1, y1), (left, top, right, bottom) = mask.window_xyxy_px, other.window_xyxy_px
    return max(x0, left) < min(x1, right) and max(y0, top) < min(y1, bottom)


def _iou(mask: Mask, other: Mask, window: Boxes) -> float:
    """Of two masks within a window."""
    one, two = _pixels(mask, other, window)
    return int(np.count_nonzero(one & two)) / max(1, int(np.count_nonzero(one | two)))


def _share(mask: Mask, other: Mask) -> float:
    """Of the smaller mask's pixels, those that the other has too."""
    one, two = _pixels(mask, other, EVERYTHING_XYXY)
    return int(np.count_nonzero(one & two)) / max(1, min(mask_area_px(mask), mask_area_px(other)))


def _pixels(mask: Mask, other: Mask, window: Boxes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two masks over the part of a window where either lies; empty where neither does."""
    around = region_of([mask, other])
    low = np.maximum(around[:2], np.floor(window[:2])).astype(int)
    high = np.maximum(low, np.minimum(around[2:], np.ceil(window[2:])).astype(int))
    region = int(low[0]), int(low[1]), int(high[0]), int(high[1])
    return pixels_in(mask, region), pixels_in(other, region)


def _is_cut(box: Boxes, window: Boxes, size_px: tuple[int, int]) -> bool:
    """Whether a box ends where what was seen ends, and the frame goes on."""
    near = SEAM_SHARE * float((window[2:] - window[:2]).min())
    low = (window[:2] > 0) & (box[:2] <= window[:2] + near)
    high = (window[2:] < size_px) & (box[2:] >= window[2:] - near)
    return bool(low.any() or high.any())

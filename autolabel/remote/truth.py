"""Pure: what stands in label rows -> detections in pixels, as models would answer them."""

from __future__ import annotations

import numpy as np
from encord.objects import LabelRowV2
from pycocotools import mask as coco_mask

from autolabel.core.detections import Detection, FrameLabels, Mask
from autolabel.core.geometry import BoolArray, mask_from_window
from autolabel.core.outlines import Ring, rasterise
from autolabel.protocols import Drawn
from autolabel.remote.shapes import (
    Bitmask,
    BoxNorm,
    Placed,
    PolygonNorm,
    RotatedBoxNorm,
    from_platform,
)

FAR_OUT = 1.0
"""How many frames beside its own a point may lie: pycocotools walks along every pixel of an edge, however long."""
FLAT_TRIANGLE = 6
"""A ring of fewer numbers has no inside, and pycocotools takes four for a box."""


def drawn(row: LabelRowV2) -> Drawn:
    """What stands in an initialised row. Raises what the SDK raises over one that it cannot make sense of."""
    placed = from_platform(row).placed
    is_video = row.data_type.value.lower() == "video"
    indices = sorted({item.frame for item in placed}) if is_video else range(row.number_of_frames)
    sizes_px = {view.frame: (view.width, view.height) for view in map(row.get_frame_view, indices)}
    found: dict[int, list[Detection]] = {index: [] for index in indices}
    shown: set[str] = set()
    for item in placed:
        if one := as_detection(item, *sizes_px[item.frame]):
            found[item.frame].append(one)
            shown.add(item.object_hash)
    return Drawn(
        frames=tuple(FrameLabels(index, *sizes_px[index], tuple(found[index])) for index in indices),
        other_objects=len({item.object_hash for item in placed} - shown),
        ours_like=sum(
            not any(where.manual_annotation for where in item.get_annotations())
            for item in row.get_object_instances()
        ),
    )


def as_detection(placed: Placed, width_px: int, height_px: int) -> Detection | None:
    """An object on a frame of that size, cut to it; its score is 1, its prompt empty.

    A box comes without a mask; of every other shape the box is the mask's. None for a shape that we never write, and
    for what has no area in the frame.
    """
    if placed.geometry is None:
        return None
    if isinstance(placed.geometry, BoxNorm):
        x, y, w, h = placed.geometry
        left, right = (_within(at, width_px) for at in (x, x + w))
        top, bottom = (_within(at, height_px) for at in (y, y + h))
        box = (left, top, right, bottom)
        return Detection(placed.feature_hash, "", 1.0, box) if left < right and top < bottom else None
    pixels = _pixels(placed.geometry, width_px, height_px)
    if not pixels.any():
        return None
    mask = _tight(pixels)
    left, top, right, bottom = map(float, mask.window_xyxy_px)
    return Detection(placed.feature_hash, "", 1.0, (left, top, right, bottom), mask)


def _within(fraction: float, size_px: int) -> float:
    return min(max(fraction, 0.0), 1.0) * size_px


def _pixels(geometry: RotatedBoxNorm | PolygonNorm | Bitmask, width_px: int, height_px: int) -> BoolArray:
    """(height, width) of the frame."""
    match geometry:
        case Bitmask(rle):
            return _decoded(rle, width_px, height_px)
        case RotatedBoxNorm():
            return _pixels(_turned(geometry, width_px, height_px), width_px, height_px)
        case PolygonNorm(parts):
            whole = ([ring for ring in part if _has_inside(ring)] for part in parts if part and _has_inside(part[0]))
            in_px = [[_ring(ring, width_px, height_px) for ring in part] for part in whole]
            return rasterise(in_px, width_px, height_px)


def _decoded(rle: str, width_px: int, height_px: int) -> BoolArray:
    """Nothing where it was made for a frame of another size: where it ends early, memory is left as it was."""
    coded = {"size": [width_px, height_px], "counts": rle.encode()}
    nothing = np.zeros((height_px, width_px), np.bool_)
    try:
        pixels = coco_mask.decode(coded)
    except ValueError:
        return nothing
    return pixels.T.view(np.bool_) if pixels.sum() == coco_mask.area(coded) else nothing


def _has_inside(ring: tuple[float, ...]) -> bool:
    return len(ring) >= FLAT_TRIANGLE and bool(np.isfinite(ring).all())


def _ring(flat_norm: tuple[float, ...], width_px: int, height_px: int) -> Ring:
    points = np.reshape(flat_norm, (-1, 2)).clip(-FAR_OUT, 1 + FAR_OUT) * (width_px, height_px)
    return points.astype(np.float32)


def _turned(box: RotatedBoxNorm, width_px: int, height_px: int) -> PolygonNorm:
    """Turned clockwise about its centre, in pixels, as the platform draws it."""
    size_px = np.array([width_px, height_px])
    half_px = np.array([box.w, box.h]) * size_px / 2
    centre_px = np.array([box.x, box.y]) * size_px + half_px
    cos, sin = np.cos(np.radians(box.theta_deg)), np.sin(np.radians(box.theta_deg))
    corners_px = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half_px @ [[cos, sin], [-sin, cos]]
    return PolygonNorm(((tuple(((centre_px + corners_px) / size_px).ravel().tolist()),),))


def _tight(pixels: BoolArray) -> Mask:
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return mask_from_window(pixels[top : rows[-1] + 1, left : columns[-1] + 1], left, top, 1.0)

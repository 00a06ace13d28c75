"""A picture with what was found on it: masks are tinted into the pixels, outlines and captions lie over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from autolabel.core.assemble import Placement
from autolabel.core.geometry import BoolArray, mask_to_frame
from autolabel.core.outlines import polygon_from_mask, rasterise, rotated_box_from_mask
from autolabel.core.rows import OntologyClass

MASK_OPACITY = 0.4
CAPTION_SHARE = 0.036
GLYPH_SHARE = 0.62  # width of a glyph over its height, about

Rect = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""


@dataclass(frozen=True)
class Mark:
    """An object over a picture, in that picture's pixels: an outline (none where the mask shows it), a caption.

    What people drew has no score.
    """

    outline_xy_px: tuple[tuple[float, float], ...]
    caption: str
    caption_xy_px: tuple[float, float]
    color: str
    ink: str


def tint(
    picture: NDArray[np.uint8], places: Sequence[tuple[OntologyClass, Placement]], max_side_px: int
) -> NDArray[np.uint8]:
    """(H, W, 3) RGB -> a copy with the masks in their classes' colours, shrunk so that no side is longer."""
    height, width = picture.shape[:2]
    scale = min(1.0, max_side_px / max(width, height))
    canvas = picture.copy()
    for cls, place in places:
        if (inside := _area(cls, place)) is not None:
            color = _rgb(cls.color)
            shade = (1 - MASK_OPACITY) * canvas[inside] + MASK_OPACITY * np.array(color, np.float32)
            canvas[inside] = shade.astype(np.uint8)
            edges, _ = cv2.findContours(inside.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(canvas, edges, -1, color, max(1, round(1.6 / scale)), cv2.LINE_AA)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA), np.uint8)


def caption_font_px(width_px: int, height_px: int) -> float:
    """For captions that come out alike on every picture, however it is shaped, in the place that pages give it."""
    return round(CAPTION_SHARE * max(width_px, height_px * 4 / 3), 1)


def marks(
    places: Sequence[tuple[OntologyClass, Placement]], width_px: int, height_px: int, font_px: float
) -> list[Mark]:
    """What to draw over a picture that is shown at that size, whatever size it has."""
    taken: list[Rect] = []
    return [_mark(cls, place, (width_px, height_px), font_px, taken) for cls, place in places]


def _mark(cls: OntologyClass, place: Placement, size_px: tuple[int, int], font_px: float, taken: list[Rect]) -> Mark:
    scale = np.array(size_px) / (place.width_px, place.height_px)
    corners = _corners(cls, place) * scale
    box_px = (np.array(place.detection.box_xyxy_px).reshape(2, 2) * scale).ravel().tolist()
    caption = f"{cls.name} {place.detection.score:.2f}" if place.detection.prompt else cls.name
    left, _, _, bottom = _free_place(caption, box_px, size_px, font_px, taken)
    red, green, blue = _rgb(cls.color)
    return Mark(
        () if _shows_mask(cls, place) else tuple((round(x, 1), round(y, 1)) for x, y in corners.tolist()),
        caption,
        (round(left, 1), round(bottom - 0.3 * font_px, 1)),
        hex_color(cls.color),
        "#000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#fff",
    )


def _free_place(
    caption: str, box_xyxy_px: list[float], size_px: tuple[int, int], font_px: float, taken: list[Rect]
) -> Rect:
    """Where the caption stands: over the box, under it, in it; the first place that is free, noted in `taken`."""
    x0, y0, _, y1 = box_xyxy_px
    wide, high = GLYPH_SHARE * font_px * len(caption), 1.3 * font_px
    left = max(0.2 * font_px, min(x0, size_px[0] - wide))
    tops = [min(max(0.0, top), size_px[1] - high) for top in (y0 - high, y1, y0, y1 - high, y0 - 2 * high)]
    places = [(left, top, left + wide, top + high) for top in tops]
    chosen = next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])
    taken.append(chosen)
    return chosen


def _overlap(a: Rect, b: Rect) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _shows_mask(cls: OntologyClass, place: Placement) -> bool:
    return cls.shape in ("bitmask", "polygon") and place.detection.mask is not None


def _area(cls: OntologyClass, place: Placement) -> BoolArray | None:
    """The pixels that an object covers as it was sent; None for boxes."""
    mask = place.detection.mask
    if mask is None or not _shows_mask(cls, place):
        return None
    if cls.shape == "bitmask":
        return mask_to_frame(mask, place.width_px, place.height_px)
    return rasterise(polygon_from_mask(mask), place.width_px, place.height_px)


def _corners(cls: OntologyClass, place: Placement) -> NDArray[np.float64]:
    found = place.detection
    if cls.shape == "rotatable_bounding_box" and found.mask is not None:
        return rotated_box_from_mask(found.mask, place.width_px, place.height_px).corners_xy_px
    x0, y0, x1, y1 = found.box_xyxy_px
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def _rgb(color: str) -> tuple[int, int, int]:
    """`#D33115` -> (211, 49, 21)."""
    value = int(hex_color(color)[1:], 16)
    return value >> 16, value >> 8 & 255, value & 255


def hex_color(color: str) -> str:
    """A colour of the ontology as `#RRGGBB`, safe to put into a style; grey where it is none."""
    digits = color.lstrip("#")[:6]
    return f"#{digits}" if len(digits) == 6 and set(digits) <= set("0123456789abcdefABCDEF") else "#808080"

"""What people drew becomes detections in pixels: the very shapes that we write come back, cut to the frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autolabel.core.assemble import Instance, Placement
from autolabel.core.detections import Detection
from autolabel.core.geometry import BoolArray, mask_from_window, mask_to_frame, row_major_rle
from autolabel.core.prompts import Shape
from autolabel.remote.shapes import (
    Bitmask,
    BoxNorm,
    Geometry,
    Placed,
    PolygonNorm,
    RotatedBoxNorm,
    to_platform,
)
from autolabel.remote.truth import as_detection

WIDTH_PX, HEIGHT_PX = 40, 30
masks = arrays(np.bool_, (HEIGHT_PX, WIDTH_PX)).filter(np.any)
blobs = st.integers(0, 2**32 - 1).map(lambda seed: blob(np.random.default_rng(seed)))


def blob(rng: np.random.Generator) -> BoolArray:
    """A few ellipses with holes, as tools have them."""
    ys, xs = np.mgrid[:HEIGHT_PX, :WIDTH_PX] + 0.5
    pixels = np.zeros((HEIGHT_PX, WIDTH_PX), np.bool_)
    for _ in range(3):
        x, y, wide, high = rng.uniform((5, 5, 3, 3), (WIDTH_PX - 5, HEIGHT_PX - 5, 12, 9))
        apart = np.hypot((xs - x) / wide, (ys - y) / high)
        pixels |= (apart < 1) & (apart > 0.4)
    return pixels


def sent(shape: Shape, pixels: BoolArray | None, box_xyxy_px: tuple[float, ...] = (0.0, 0.0, 1.0, 1.0)) -> Placed:
    mask = None if pixels is None else mask_from_window(pixels, 0, 0, 0.7)
    found = Detection("tool0001", "tool", 0.4, box_xyxy_px, mask)  # type: ignore[arg-type]
    place = Placement(0, WIDTH_PX, HEIGHT_PX, found)
    return to_platform([Instance("hash0001", "tool0001", shape, 0, (place,))]).placed[0]


def drawn(geometry: Geometry | None) -> Detection | None:
    return as_detection(Placed("hash0001", "tool0001", 0, geometry, 1.0), WIDTH_PX, HEIGHT_PX)


def pixels_of(found: Detection | None) -> BoolArray:
    assert found is not None
    assert found.mask is not None
    assert found.box_xyxy_px == found.mask.window_xyxy_px
    return mask_to_frame(found.mask, WIDTH_PX, HEIGHT_PX)


def iou(a: BoolArray, b: BoolArray) -> float:
    return float((a & b).sum() / (a | b).sum())


@given(corners=st.tuples(*[st.floats(0, 0.99)] * 2, *[st.floats(0.01, 1)] * 2))
def test_a_box_comes_back_without_a_mask(corners: tuple[float, ...]) -> None:
    x0, y0 = corners[0] * WIDTH_PX, corners[1] * HEIGHT_PX
    box = (x0, y0, x0 + corners[2] * (WIDTH_PX - x0), y0 + corners[3] * (HEIGHT_PX - y0))

    found = as_detection(sent("bounding_box", None, box), WIDTH_PX, HEIGHT_PX)

    assert found is not None
    assert found.box_xyxy_px == pytest.approx(box, abs=1e-3)
    assert (found.feature_hash, found.prompt, found.score, found.mask) == ("tool0001", "", 1.0, None)


@given(pixels=masks)
def test_a_bitmask_comes_back_exactly(pixels: BoolArray) -> None:
    np.testing.assert_array_equal(pixels_of(as_detection(sent("bitmask", pixels), WIDTH_PX, HEIGHT_PX)), pixels)


@given(pixels=blobs)
def test_a_polygon_comes_back_with_its_holes_and_parts(pixels: BoolArray) -> None:
    assert iou(pixels_of(as_detection(sent("polygon", pixels), WIDTH_PX, HEIGHT_PX)), pixels) >= 0.98


@given(angle_deg=st.floats(0, 360))
def test_a_turned_box_is_filled_as_the_platform_turns_it(angle_deg: float) -> None:
    along = np.array([np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))])
    ys, xs = np.mgrid[:HEIGHT_PX, :WIDTH_PX] + 0.5
    offset = np.stack([xs - 20, ys - 15], axis=-1)
    rod = (abs(offset @ along) <= 12) & (abs(offset @ (-along[1], along[0])) <= 4)
    upright = RotatedBoxNorm(8 / WIDTH_PX, 11 / HEIGHT_PX, 24 / WIDTH_PX, 8 / HEIGHT_PX, angle_deg)

    assert iou(pixels_of(drawn(upright)), rod) > 0.85


RECTANGLE = (0.5, 0.5, 1.5, 0.5, 1.5, 1.5, 0.5, 1.5)


def test_what_reaches_past_the_frame_is_cut_off() -> None:
    box = drawn(BoxNorm(0.5, -0.5, 2.0, 1.0))
    assert box is not None
    assert box.box_xyxy_px == (20.0, 0.0, 40.0, 15.0)
    inside = np.zeros((HEIGHT_PX, WIDTH_PX), np.bool_)
    inside[15:, 20:] = True
    np.testing.assert_array_equal(pixels_of(drawn(PolygonNorm(((RECTANGLE,),)))), inside)
    np.testing.assert_array_equal(pixels_of(drawn(RotatedBoxNorm(0.5, 0.5, 1.0, 1.0, 180.0))), inside)


NAN = float("nan")


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        BoxNorm(0.2, 0.2, 0.0, 0.4),
        BoxNorm(1.0, 0.2, 0.3, 0.4),
        BoxNorm(NAN, 0.2, 0.3, 0.4),
        RotatedBoxNorm(2.2, 0.2, 0.3, 0.4, 30.0),
        RotatedBoxNorm(0.2, 0.2, 0.3, 0.4, NAN),
        PolygonNorm(()),
        PolygonNorm((((0.1, 0.1, 0.5, 0.5),), ())),
        PolygonNorm(((tuple(value + 1e9 for value in RECTANGLE),),)),
        Bitmask(row_major_rle(np.zeros((HEIGHT_PX, WIDTH_PX), np.bool_))),
        Bitmask(row_major_rle(np.ones((HEIGHT_PX + 1, WIDTH_PX), np.bool_))),
    ],
    ids=str,
)
def test_what_has_no_area_in_the_frame_is_no_detection(geometry: Geometry | None) -> None:
    assert drawn(geometry) is None


def test_a_line_among_the_rings_of_a_polygon_is_no_ring() -> None:
    line = (0.6, 0.6, 0.9, 0.9)
    alone, beside = drawn(PolygonNorm(((RECTANGLE,),))), drawn(PolygonNorm(((RECTANGLE, line), (line,))))
    assert alone == beside


def test_a_mask_for_a_smaller_frame_never_shows_what_memory_held() -> None:
    small = np.ones((4, 5), np.bool_)
    found = drawn(Bitmask(row_major_rle(small)))
    assert found is None or pixels_of(found).sum() == small.sum()

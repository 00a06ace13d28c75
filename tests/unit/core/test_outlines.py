"""Rings run along pixel edges, keep holes and parts, and are judged by pycocotools' rasteriser alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from autolabel.core.detections import Mask
from autolabel.core.geometry import BoolArray, mask_from_window, mask_to_frame
from autolabel.core.outlines import (
    MIN_IOU,
    RotatedBox,
    exact_polygon,
    polygon_from_mask,
    rasterise,
    rotated_box_from_mask,
)

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=16))
FRAME_XY_PX = (120, 80)


def on_frame(pixels: BoolArray, left: int = 0, top: int = 0) -> Mask:
    return mask_from_window(pixels, left, top, 0.9)


def disc(radius_px: float, hole_px: float = 0.0) -> BoolArray:
    ys, xs = np.mgrid[:80, :120] + 0.5
    distance = np.hypot(xs - 60, ys - 40)
    return (distance < radius_px) & (distance >= hole_px)


@given(masks)
def test_exact_rings_rasterise_back_to_the_very_mask(pixels: BoolArray) -> None:
    height, width = pixels.shape

    np.testing.assert_array_equal(rasterise(exact_polygon(pixels), width, height), pixels)


@given(masks)
def test_exact_rings_turn_at_right_angles_and_stay_in_the_frame(pixels: BoolArray) -> None:
    for ring in (ring for part in exact_polygon(pixels) for ring in part):
        steps = np.roll(ring, -1, axis=0) - ring
        assert len(ring) >= 4
        assert ((steps == 0).sum(axis=1) == 1).all()
        assert (ring >= 0).all()
        assert (ring <= pixels.shape[::-1]).all()


def test_the_ring_of_one_pixel_is_its_four_corners() -> None:
    ((ring,),) = exact_polygon(np.ones((1, 1), np.bool_))

    assert {tuple(corner) for corner in ring.tolist()} == {(0, 0), (1, 0), (1, 1), (0, 1)}


def test_holes_belong_to_their_part_and_an_island_in_a_hole_is_a_part() -> None:
    pixels = np.ones((9, 9), np.bool_)
    pixels[1:8, 1:8] = False
    pixels[3:6, 3:6] = True

    assert sorted(len(part) for part in exact_polygon(pixels)) == [1, 2]


@given(pixels=masks, left=st.integers(0, 9), top=st.integers(0, 9))
@pytest.mark.parametrize("rounding", [1.0, 1 - 1e-6])
def test_a_polygon_is_faithful_and_loses_no_part_and_no_hole(
    pixels: BoolArray, left: int, top: int, rounding: float
) -> None:
    pixels[0, 0] = True
    width, height = left + pixels.shape[1], top + pixels.shape[0]
    mask = on_frame(pixels, left, top)

    polygon = polygon_from_mask(mask)

    served = [[(ring * rounding).astype(np.float32) for ring in part] for part in polygon]
    drawn, meant = rasterise(served, width, height), mask_to_frame(mask, width, height)
    assert (drawn & meant).sum() >= MIN_IOU * (drawn | meant).sum()
    assert [len(part) for part in polygon] == [len(part) for part in exact_polygon(pixels)]
    assert all(len(np.unique(ring, axis=0)) >= 3 for part in polygon for ring in part)


def test_a_ring_is_simplified_and_keeps_its_hole() -> None:
    ring = disc(35, hole_px=20)

    ((outer, hole),) = polygon_from_mask(on_frame(ring))
    ((exact_outer, exact_hole),) = exact_polygon(ring)

    assert len(outer) + len(hole) < (len(exact_outer) + len(exact_hole)) / 3
    assert not rasterise([[outer, hole]], *FRAME_XY_PX)[40, 60]


def test_a_box_turns_clockwise_about_its_centre() -> None:
    """Thirty degrees take the right end of a lying rod down; y points down."""
    corners = RotatedBox(0, 40, 100, 20, 30).corners_xy_px

    right_end = corners[1:3].mean(axis=0)
    assert right_end == pytest.approx([50 + 50 * np.cos(np.pi / 6), 50 + 25])


@pytest.mark.parametrize("angle_deg", range(0, 180, 10))
def test_a_rod_gets_a_box_along_it_that_encloses_every_pixel(angle_deg: int) -> None:
    along = np.array([np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))])
    ys, xs = np.mgrid[:80, :120] + 0.5
    offset = np.stack([xs - 60, ys - 40], axis=-1)
    rod = (abs(offset @ along) < 30) & (abs(offset @ (-along[1], along[0])) < 6)

    box = rotated_box_from_mask(on_frame(rod), *FRAME_XY_PX)

    corners = box.corners_xy_px
    sides = np.roll(corners, -1, axis=0) - corners
    pixel_corners = np.vstack([ring for part in exact_polygon(rod) for ring in part])
    to_point = pixel_corners[:, None] - corners
    inward = (sides[:, 0] * to_point[..., 1] - sides[:, 1] * to_point[..., 0]) / np.linalg.norm(sides, axis=1)
    assert inward.min() > -1e-3
    assert box.width_px * box.height_px < 1.3 * rod.sum()
    assert min(box.theta_deg, 360 - box.theta_deg) <= 45


def test_a_rod_whose_box_would_leave_the_frame_gets_an_upright_one() -> None:
    diagonal = np.eye(80, dtype=np.bool_)

    assert rotated_box_from_mask(on_frame(diagonal), 80, 80) == RotatedBox(0, 0, 80, 80, 0)

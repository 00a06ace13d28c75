"""Our instances and the platform's objects: equal RLE, checked numbers, and a comparison that sees what matters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from encord.common.bitmask_operations import deserialise_bitmask, serialise_bitmask
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autolabel.core.assemble import Instance, Placement
from autolabel.core.detections import Detection
from autolabel.core.geometry import mask_from_window, row_major_rle
from autolabel.errors import PermanentInferenceError
from autolabel.remote.shapes import Bitmask, BoxNorm, Content, Placed, PolygonNorm, RotatedBoxNorm, same, to_platform

masks = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))
BOX = Placed("hash0001", "car00001", 0, BoxNorm(0.1, 0.2, 0.3, 0.4), 0.9)


@given(mask=masks)
def test_our_rle_is_byte_equal_to_the_sdks(mask: np.ndarray) -> None:
    assert row_major_rle(mask) == serialise_bitmask(mask.tobytes())
    assert deserialise_bitmask(row_major_rle(mask), mask.size) == mask.tobytes()


def instance(found: Detection, shape: str = "bounding_box") -> Instance:
    return Instance("hash0001", found.feature_hash, shape, 0, (Placement(0, 200, 100, found),))  # type: ignore[arg-type]


def test_a_box_becomes_fractions_of_the_frame() -> None:
    content = to_platform([instance(Detection("car00001", "car", 0.9, (20.0, 10.0, 120.0, 60.0)))])
    assert content.placed[0].geometry == pytest.approx(BoxNorm(0.1, 0.1, 0.5, 0.5))
    assert not content.placed[0].by_human


def test_a_mask_becomes_the_rle_of_the_whole_frame() -> None:
    mask = mask_from_window(np.ones((2, 3), np.bool_), 5, 7, 0.8)
    whole = np.zeros((100, 200), np.bool_)
    whole[7:9, 5:8] = True
    found = Detection("car00001", "car", 0.9, (5.0, 7.0, 8.0, 9.0), mask)
    assert to_platform([instance(found, "bitmask")]).placed[0].geometry == Bitmask(row_major_rle(whole))


def test_a_polygon_keeps_hole_and_parts_in_fractions_of_the_frame() -> None:
    pixels = np.zeros((40, 60), np.bool_)
    pixels[0:20, 0:20], pixels[5:15, 5:15], pixels[30:40, 40:60] = True, False, True
    found = Detection("car00001", "car", 0.9, (5.0, 7.0, 65.0, 47.0), mask_from_window(pixels, 5, 7, 0.8))

    (placed,) = to_platform([instance(found, "polygon")]).placed

    assert isinstance(placed.geometry, PolygonNorm)
    corners = [[points(ring) for ring in part] for part in placed.geometry.parts]
    square, hole, other = rectangle(5, 7, 25, 27), rectangle(10, 12, 20, 22), rectangle(45, 37, 65, 47)
    assert sorted(corners, key=len) == [[other], [square, hole]]


def points(ring: tuple[float, ...]) -> set[tuple[int, int]]:
    """A ring in fractions of the 200x100 frame -> its corners in pixels."""
    assert {type(value) for value in ring} == {float}
    return {(round(x * 200), round(y * 100)) for x, y in zip(ring[::2], ring[1::2], strict=True)}


def rectangle(x0: int, y0: int, x1: int, y1: int) -> set[tuple[int, int]]:
    return {(x0, y0), (x1, y0), (x1, y1), (x0, y1)}


@pytest.mark.parametrize("angle_deg", range(0, 180, 15))
def test_the_rotated_box_that_is_sent_lies_tightly_around_the_mask(angle_deg: int) -> None:
    """Read as the platform does: laid down upright, turned clockwise about its centre, the frame not square."""
    along = np.array([np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))])
    ys, xs = np.mgrid[:100, :200] + 0.5
    offset = np.stack([xs - 100, ys - 50], axis=-1)
    rod = (abs(offset @ along) < 30) & (abs(offset @ (-along[1], along[0])) < 8)
    found = Detection("car00001", "car", 0.9, (0.0, 0.0, 200.0, 100.0), mask_from_window(rod, 0, 0, 0.8))

    (placed,) = to_platform([instance(found, "rotatable_bounding_box")]).placed

    assert isinstance(placed.geometry, RotatedBoxNorm)
    x, y, w, h, theta = placed.geometry
    back = -np.radians(theta)
    turn_back = np.array([[np.cos(back), -np.sin(back)], [np.sin(back), np.cos(back)]])
    centre = np.array([(x + w / 2) * 200, (y + h / 2) * 100])
    upright = (np.argwhere(rod)[:, ::-1] + 0.5 - centre) @ turn_back.T
    assert (abs(upright) <= np.array([w * 200, h * 100]) / 2).all()
    assert w * 200 * h * 100 < 1.3 * rod.sum()


@pytest.mark.parametrize("shape", ["bitmask", "polygon", "rotatable_bounding_box"])
def test_a_mask_that_is_missing_or_leaves_the_frame_is_stopped(shape: str) -> None:
    outside = mask_from_window(np.ones((2, 3), np.bool_), 198, 7, 0.8)
    for mask in (None, outside):
        with pytest.raises(PermanentInferenceError, match="hash0001"):
            to_platform([instance(Detection("car00001", "car", 0.5, (0.0, 0.0, 1.0, 1.0), mask), shape)])


@pytest.mark.parametrize(
    ("score", "box"),
    [
        (float("nan"), (0.0, 0.0, 1.0, 1.0)),
        (1.5, (0.0, 0.0, 1.0, 1.0)),
        (0.5, (0.0, 0.0, float("nan"), 1.0)),
        (0.5, (-1.0, 0.0, 1.0, 1.0)),
        (0.5, (0.0, 0.0, 201.0, 1.0)),
        (0.5, (5.0, 0.0, 5.0, 1.0)),
    ],
)
def test_values_that_the_sdk_would_let_through_are_stopped(score: float, box: tuple[float, ...]) -> None:
    with pytest.raises(PermanentInferenceError, match="hash0001"):
        to_platform([instance(Detection("car00001", "car", score, box))])  # type: ignore[arg-type]


def content(*placed: Placed) -> Content:
    return Content(placed)


def test_rounding_by_the_server_is_no_difference() -> None:
    assert same(content(BOX), content(replace(BOX, geometry=BoxNorm(0.100004, 0.2, 0.3, 0.4), confidence=0.900009)))


@pytest.mark.parametrize(
    "served",
    [
        content(),
        content(BOX, replace(BOX, object_hash="hash0002")),
        content(replace(BOX, object_hash="hash0002")),
        content(replace(BOX, feature_hash="bus00001")),
        content(replace(BOX, frame=1)),
        content(replace(BOX, geometry=BoxNorm(0.1001, 0.2, 0.3, 0.4))),
        content(replace(BOX, geometry=None)),
        content(replace(BOX, geometry=Bitmask("6"))),
        content(replace(BOX, confidence=1.0)),
        content(replace(BOX, by_human=True)),
        Content((BOX,), frozenset({"answer"})),
    ],
    ids=["gone", "more", "hash", "class", "frame", "moved", "other shape", "mask", "confidence", "human", "answer"],
)
def test_every_other_difference_is_seen(served: Content) -> None:
    assert not same(content(BOX), served)
    assert content(BOX).digest != served.digest


TRIANGLE = (0.1, 0.1, 0.4, 0.1, 0.4, 0.5)
HOLE = (0.3, 0.15, 0.35, 0.15, 0.35, 0.2)


def test_polygons_differ_by_a_hole_a_point_or_how_rings_belong_together() -> None:
    sent = content(replace(BOX, geometry=PolygonNorm(((TRIANGLE, HOLE),))))
    rounded = (*TRIANGLE[:-1], TRIANGLE[-1] + 9e-6)

    assert same(sent, content(replace(BOX, geometry=PolygonNorm(((rounded, HOLE),)))))
    for parts in (((TRIANGLE,),), ((TRIANGLE,), (HOLE,)), ((TRIANGLE[:-2], HOLE),)):
        assert not same(sent, content(replace(BOX, geometry=PolygonNorm(parts))))


def test_a_turned_box_is_no_upright_box() -> None:
    assert not same(content(BOX), content(replace(BOX, geometry=RotatedBoxNorm(0.1, 0.2, 0.3, 0.4, 0.0))))


def test_human_work_is_an_edited_object_or_any_answer() -> None:
    assert not content(BOX).has_human_work
    assert content(replace(BOX, by_human=True)).has_human_work
    assert Content((), frozenset({"answer"})).has_human_work

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from autolabel.core.geometry import (
    box_areas,
    box_iou,
    clip_boxes,
    mask_area_px,
    mask_from_window,
    mask_to_frame,
    row_major_rle,
)

Boxes = NDArray[np.float32]
masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=24))
corners = arrays(np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=st.floats(-50, 150, width=32))


def boxes_from(values: Boxes) -> Boxes:
    return np.hstack([np.minimum(values[:, :2], values[:, 2:]), np.maximum(values[:, :2], values[:, 2:])])


@given(masks, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_a_mask_lies_in_the_frame_where_its_window_was(
    pixels: NDArray[np.bool_], left: int, top: int, right: int, bottom: int
) -> None:
    frame = np.pad(pixels, ((top, bottom), (left, right)))

    mask = mask_from_window(pixels, left, top, 0.5)

    np.testing.assert_array_equal(mask_to_frame(mask, frame.shape[1], frame.shape[0]), frame)
    assert mask_area_px(mask) == pixels.sum()


def test_the_platforms_rle_counts_along_rows() -> None:
    frame = np.array([[0, 1, 1], [1, 0, 0]], np.bool_)

    # Runs 1, 3, 2 in COCO's alphabet: a value below 32 is one character, from '0'; the third run is a difference
    # to the first only from the fourth on.
    assert row_major_rle(frame) == "132"


@given(corners)
def test_clipped_boxes_lie_in_the_frame_and_clipping_again_changes_nothing(values: Boxes) -> None:
    clipped = clip_boxes(boxes_from(values), 100, 60)

    assert (clipped >= 0).all()
    assert (clipped <= [100, 60, 100, 60]).all()
    np.testing.assert_array_equal(clip_boxes(clipped, 100, 60), clipped)
    assert (box_areas(clipped) >= 0).all()


@given(corners, corners)
def test_iou_is_symmetric_and_between_nought_and_one(a: Boxes, b: Boxes) -> None:
    a, b = boxes_from(a), boxes_from(b)

    iou = box_iou(a, b)

    assert iou.shape == (len(a), len(b))
    assert ((iou >= 0) & (iou <= 1 + 1e-5)).all()
    np.testing.assert_allclose(iou, box_iou(b, a).T, atol=1e-5)


@pytest.mark.parametrize(
    ("box", "iou"),
    [((0, 0, 10, 10), 1.0), ((5, 0, 15, 10), 1 / 3), ((10, 0, 20, 10), 0.0), ((3, 3, 3, 3), 0.0)],
    ids=["same", "half over", "touching", "empty"],
)
def test_iou_of_known_boxes(box: tuple[int, ...], iou: float) -> None:
    square = np.array([[0, 0, 10, 10]], np.float32)

    assert box_iou(square, np.array([box], np.float32))[0, 0] == pytest.approx(iou)

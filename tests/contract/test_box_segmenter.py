"""One suite for every BoxSegmenter: the hand-written fake, and the bundled SAM by our way and by transformers'."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from autolabel.core.detections import Mask
from autolabel.core.geometry import mask_area_px, mask_to_frame
from autolabel.models import Placement, load_segmenter
from autolabel.protocols import BoxSegmenter
from fakes import BoxShapedSegmenter
from pictures import BLUE_XYXY_NORM, RED_XYXY_NORM, two_swabs

SIZES_PX = [(320, 224), (200, 260), (320, 224), (150, 150)]
NO_BOXES = np.zeros((0, 4), np.float32)


@pytest.fixture(scope="module", params=["box-shaped", "bundled", "reference"])
def segmenter(request: pytest.FixtureRequest) -> Iterator[BoxSegmenter]:
    if request.param == "box-shaped":
        yield BoxShapedSegmenter()
    else:
        yield load_segmenter("sam", "bundled:segmenter", Placement("cpu", is_reference=request.param == "reference"))


def boxes_on(size_px: tuple[int, int]) -> NDArray[np.float32]:
    return np.array([RED_XYXY_NORM, BLUE_XYXY_NORM], np.float32) * np.array(size_px * 2, np.float32)


def coverage(mask: Mask, box_xyxy_px: NDArray[np.float32], size_px: tuple[int, int]) -> float:
    """Which share of the box is set."""
    left, top, right, bottom = box_xyxy_px.astype(int)
    return float(mask_to_frame(mask, *size_px)[top:bottom, left:right].mean())


def assert_alike(mask: Mask, other: Mask) -> None:
    """Equal but for pixels that lie right on the border, which another batch may tip over."""
    assert mask.window_xyxy_px == other.window_xyxy_px
    assert mask.score == pytest.approx(other.score, abs=1e-4)
    right, bottom = mask.window_xyxy_px[2:]
    differing = mask_to_frame(mask, right, bottom) ^ mask_to_frame(other, right, bottom)
    assert differing.sum() <= 1e-3 * mask_area_px(mask) + 1


@pytest.mark.parametrize("size_px", sorted(set(SIZES_PX)))
def test_masks_lie_on_what_their_boxes_show(segmenter: BoxSegmenter, size_px: tuple[int, int]) -> None:
    boxes = boxes_on(size_px)

    (masks,) = segmenter.segment([two_swabs(*size_px)], [boxes])

    # the cloths lie askew: they fill about 0.6 of their boxes
    assert [coverage(mask, box, size_px) > 0.5 for mask, box in zip(masks, boxes, strict=True)] == [True, True]
    assert all(0 <= mask.score <= 1 for mask in masks)


def test_a_masks_window_stays_near_its_box_and_in_the_frame(segmenter: BoxSegmenter) -> None:
    boxes = np.array([[0, 0, 60, 40], [280, 180, 320, 224], [100.5, 50.5, 103, 53]], np.float32)

    (masks,) = segmenter.segment([two_swabs()], [boxes])

    for mask, (x0, y0, x1, y1) in zip(masks, boxes.tolist(), strict=True):
        left, top, right, bottom = mask.window_xyxy_px
        assert 0 <= left <= x0 <= x1 <= right <= 320
        assert 0 <= top <= y0 <= y1 <= bottom <= 224
        assert right - left <= 1.2 * (x1 - x0) + 2
        assert bottom - top <= 1.2 * (y1 - y0) + 2


def test_ragged_and_empty_box_lists_are_answered_frame_by_frame(segmenter: BoxSegmenter) -> None:
    boxes = [boxes_on(SIZES_PX[0])[:1], NO_BOXES, boxes_on(SIZES_PX[2]), NO_BOXES]

    answers = segmenter.segment([two_swabs(*size) for size in SIZES_PX], boxes)

    assert list(map(len, answers)) == [1, 0, 2, 0]
    assert_alike(answers[0][0], answers[2][0])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_frames_without_boxes_give_no_masks(segmenter: BoxSegmenter, count: int) -> None:
    answers = segmenter.segment([two_swabs()] * count, [NO_BOXES] * count)

    assert answers == [[]] * count


def test_any_batch_gives_the_same_answers(segmenter: BoxSegmenter) -> None:
    images, boxes = [two_swabs(*size) for size in SIZES_PX], [boxes_on(size) for size in SIZES_PX]

    together = segmenter.segment(images, boxes)
    for image, of_frame, masks in zip(images, boxes, together, strict=True):
        (frame_alone,) = segmenter.segment([image], [of_frame])
        boxes_alone = [segmenter.segment([image], [box[None]])[0][0] for box in of_frame]
        for mask, alone, single in zip(masks, frame_alone, boxes_alone, strict=True):
            assert_alike(mask, alone)
            assert_alike(mask, single)


def test_more_boxes_than_the_decoder_takes_at_once_keep_their_order(segmenter: BoxSegmenter) -> None:
    pair = boxes_on((320, 224))

    (masks,) = segmenter.segment([two_swabs()], [np.tile(pair, (40, 1))])

    assert len(masks) == 80
    assert_alike(masks[0], masks[78])
    assert_alike(masks[1], masks[79])

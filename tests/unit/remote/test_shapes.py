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
from autolabel.remote.shapes import Content, Placed, same, to_platform

masks = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))
BOX = Placed("hash0001", "car00001", 0, (0.1, 0.2, 0.3, 0.4), None, 0.9)


@given(mask=masks)
def test_our_rle_is_byte_equal_to_the_sdks(mask: np.ndarray) -> None:
    assert row_major_rle(mask) == serialise_bitmask(mask.tobytes())
    assert deserialise_bitmask(row_major_rle(mask), mask.size) == mask.tobytes()


def instance(found: Detection, shape: str = "bounding_box") -> Instance:
    return Instance("hash0001", found.feature_hash, shape, 0, (Placement(0, 200, 100, found),))  # type: ignore[arg-type]


def test_a_box_becomes_fractions_of_the_frame() -> None:
    content = to_platform([instance(Detection("car00001", "car", 0.9, (20.0, 10.0, 120.0, 60.0)))])
    assert content.placed[0].box_norm == pytest.approx((0.1, 0.1, 0.5, 0.5))
    assert (content.placed[0].rle, content.placed[0].by_human) == (None, False)


def test_a_mask_becomes_the_rle_of_the_whole_frame() -> None:
    mask = mask_from_window(np.ones((2, 3), np.bool_), 5, 7, 0.8)
    whole = np.zeros((100, 200), np.bool_)
    whole[7:9, 5:8] = True
    found = Detection("car00001", "car", 0.9, (5.0, 7.0, 8.0, 9.0), mask)
    assert to_platform([instance(found, "bitmask")]).placed[0].rle == row_major_rle(whole)


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
    assert same(content(BOX), content(replace(BOX, box_norm=(0.100004, 0.2, 0.3, 0.4), confidence=0.900009)))


@pytest.mark.parametrize(
    "served",
    [
        content(),
        content(BOX, replace(BOX, object_hash="hash0002")),
        content(replace(BOX, object_hash="hash0002")),
        content(replace(BOX, feature_hash="bus00001")),
        content(replace(BOX, frame=1)),
        content(replace(BOX, box_norm=(0.1001, 0.2, 0.3, 0.4))),
        content(replace(BOX, box_norm=None)),
        content(replace(BOX, rle="6")),
        content(replace(BOX, confidence=1.0)),
        content(replace(BOX, by_human=True)),
        Content((BOX,), frozenset({"answer"})),
    ],
    ids=["gone", "more", "hash", "class", "frame", "moved", "other shape", "mask", "confidence", "human", "answer"],
)
def test_every_other_difference_is_seen(served: Content) -> None:
    assert not same(content(BOX), served)
    assert content(BOX).digest != served.digest


def test_human_work_is_an_edited_object_or_any_answer() -> None:
    assert not content(BOX).has_human_work
    assert content(replace(BOX, by_human=True)).has_human_work
    assert Content((), frozenset({"answer"})).has_human_work

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from autolabel.core.detections import Detection, Detections, FrameLabels, Mask, pack, unpack
from autolabel.core.geometry import mask_from_window

ONE_BOX = np.array([[0, 0, 2, 2]], np.float32)
ONE_SCORE = np.array([[0.5]], np.float32)

texts = st.text(st.characters(codec="utf-8"))
floats = st.floats(0, 1e6, allow_nan=False)
drawn_masks = st.builds(
    mask_from_window,
    arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9)),
    st.integers(0, 99),
    st.integers(0, 99),
    st.floats(0, 1),
)
found = st.builds(
    Detection, texts, texts, st.floats(0, 1), st.tuples(floats, floats, floats, floats), st.none() | drawn_masks
)
frames = st.builds(
    FrameLabels,
    frame_index=st.integers(0, 10**6),
    width_px=st.integers(1, 10**5),
    height_px=st.integers(1, 10**5),
    detections=st.lists(found, max_size=4).map(tuple),
    dropped_by_cap=st.dictionaries(texts, st.integers(1, 99), max_size=2),
    image_digest=st.text("0123456789abcdef", max_size=64),
)


@given(st.lists(frames, max_size=3))
def test_what_is_unpacked_is_what_was_packed(labels: list[FrameLabels]) -> None:
    assert unpack(pack(labels)) == labels


def test_the_same_frames_pack_to_the_same_bytes() -> None:
    labels = [FrameLabels(0, 4, 4, (Detection("f", "car", 0.5, (0, 0, 2, 2), Mask((0, 0, 1, 1), b"01", 0.9)),))]

    assert pack(labels) == pack(list(labels))


def test_another_format_is_refused_naming_both_versions() -> None:
    blob = zlib.compress(json.dumps({"version": 99, "frames": []}).encode())

    with pytest.raises(ValueError, match="format 99, this release reads 1"):
        unpack(blob)


@pytest.mark.parametrize(
    ("boxes", "scores", "complaint"),
    [
        (np.zeros((2, 3), np.float32), np.zeros((2, 1), np.float32), r"must be \(N, 4\), got \(2, 3\)"),
        (np.zeros(4, np.float32), ONE_SCORE, r"must be \(N, 4\), got \(4,\)"),
        (ONE_BOX, np.zeros((2, 1), np.float32), r"scores must be \(1, P\), got \(2, 1\)"),
        (ONE_BOX * np.float32("nan"), ONE_SCORE, "finite"),
        (ONE_BOX, ONE_SCORE * np.float32("inf"), "finite"),
        (ONE_BOX, ONE_SCORE * 3, r"scores must be in \[0, 1\], got 1\.5"),
        (ONE_BOX[:, ::-1], ONE_SCORE, "x0 <= x1"),
    ],
    ids=["three columns", "one dimension", "rows differ", "NaN box", "infinite score", "score over 1", "inside out"],
)
def test_malformed_detections_are_refused_with_what_is_wrong(
    boxes: np.ndarray, scores: np.ndarray, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Detections(boxes, scores)


def test_masks_must_be_one_a_box() -> None:
    with pytest.raises(ValueError, match="expected 1 masks, got 0"):
        Detections(ONE_BOX, ONE_SCORE, masks=())


@pytest.mark.parametrize(
    ("window_xyxy_px", "score"),
    [((-1, 0, 4, 4), 0.9), ((3, 0, 3, 4), 0.9), ((0, 0, 4, 4), float("nan")), ((0, 0, 4, 4), 1.5)],
)
def test_a_mask_that_cannot_be_is_refused(window_xyxy_px: tuple[int, int, int, int], score: float) -> None:
    with pytest.raises(ValueError, match="a mask's"):
        Mask(window_xyxy_px, b"", score)

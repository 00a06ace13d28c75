"""Planted errors come out as planted; one matching is the best at every threshold."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from autolabel.core.geometry import BoolArray, mask_to_frame
from autolabel.evaluation.matching import MIN_IOU, FrameMatch, confusion, explain, outcomes, pair
from autolabel.evaluation.overlap import boundary_iou, truth_rle
from autolabel.evaluation.rates import rates
from autolabel.evaluation.samples import reaches
from autolabel.evaluation.values import JudgedFrame
from benching.judging import SHAPES, any_frames
from judged import HEIGHT_PX, SIZE_PX, WIDTH_PX, boxed, filled, frame, masked

CUP = boxed("cup", 10, 10, 40, 40)
HALF = dict.fromkeys(SHAPES, 0.5)


def test_a_detection_is_right_with_the_iou_of_the_object_that_it_covers() -> None:
    found = [boxed("cup", 20, 10, 40, 40, 0.9), boxed("cup", 200, 100, 40, 40, 0.8)]

    cups = outcomes([frame(found, [CUP])], SHAPES, 1)["cup"]

    assert cups.scores.tolist() == [0.9, 0.8]
    assert cups.ious.tolist() == pytest.approx([30 / 50, 0])
    assert cups.is_right.tolist() == [True, False]
    assert cups.objects.tolist() == [1]


@pytest.mark.parametrize(("width_px", "is_right"), [(40, True), (40.01, False)])
def test_half_a_union_in_common_is_enough_and_less_is_not(width_px: float, is_right: bool) -> None:
    cups = outcomes([frame([boxed("cup", 10, 10, width_px, 40, 0.9)], [boxed("cup", 10, 10, 20, 40)])], SHAPES, 1)

    assert cups["cup"].is_right.tolist() == [is_right]


def test_the_second_detection_of_one_object_is_false_however_well_it_fits() -> None:
    found = [boxed("cup", 12, 10, 40, 40, 0.6), boxed("cup", 20, 10, 40, 40, 0.9)]

    assert outcomes([frame(found, [CUP])], SHAPES, 1)["cup"].is_right.tolist() == [False, True]


def test_a_detection_takes_another_object_where_that_leaves_its_own_to_one_that_fits_no_other() -> None:
    """Greedily the better one would take the object that fits it best, and the other would be false."""
    truth = [boxed("cup", 0, 0, 40, 40), boxed("cup", 16, 0, 40, 40)]
    found = [boxed("cup", 10, 0, 40, 40, 0.9), boxed("cup", 26, 0, 40, 40, 0.8)]

    cups = outcomes([frame(found, truth)], SHAPES, 1)["cup"]

    assert cups.ious.tolist() == pytest.approx([30 / 50, 30 / 50])


def test_of_equal_scores_the_better_fit_is_right() -> None:
    found = [boxed("cup", 20, 10, 40, 40, 0.9), boxed("cup", 12, 10, 40, 40, 0.9)]

    assert outcomes([frame(found, [CUP])], SHAPES, 1)["cup"].is_right.tolist() == [False, True]


def test_detections_and_objects_are_counted_in_their_own_data_units() -> None:
    frames = [frame([CUP], [CUP, CUP], unit=2), frame([], [CUP], unit=0), frame([CUP], [], unit=0)]

    cups = outcomes(frames, SHAPES, 3)["cup"]

    assert cups.units.tolist() == [2, 0]
    assert cups.objects.tolist() == [1, 0, 2]


def test_a_class_that_is_nowhere_has_outcomes_of_nothing() -> None:
    dogs = outcomes([frame([CUP], [CUP])], SHAPES, 1)["dog"]

    assert [len(part) for part in (dogs.scores, dogs.ious, dogs.boundary_ious, dogs.units)] == [0, 0, 0, 0]
    assert dogs.objects.tolist() == [0]


def test_masks_are_judged_by_their_pixels_not_by_their_boxes() -> None:
    """A lattice of every other column fills the same box, and half of it."""
    lattice = np.ones((40, 41), np.bool_)
    lattice[:, 1::2] = False
    found = masked("dog", lattice, 10, 10, 0.9)

    dogs = outcomes([frame([found], [filled("dog", 10, 10, 41, 40)])], SHAPES, 1)["dog"]

    assert dogs.ious.tolist() == pytest.approx([21 / 41])


def test_a_mask_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="dog has no mask"):
        outcomes([frame([boxed("dog", 0, 0, 9, 9)], [filled("dog", 0, 0, 9, 9)])], SHAPES, 1)


def rod(angle_deg: float) -> BoolArray:
    along = np.array([np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))])
    ys, xs = np.mgrid[:HEIGHT_PX, :WIDTH_PX] + 0.5
    offset = np.stack([xs - WIDTH_PX / 2, ys - HEIGHT_PX / 2], axis=-1)
    return (abs(offset @ along) < 60) & (abs(offset @ (-along[1], along[0])) < 15)


def test_a_rotated_box_is_judged_as_it_would_be_written_however_little_of_it_the_mask_fills() -> None:
    drawn = rod(30)
    sparse = drawn & (np.indices(drawn.shape).sum(axis=0) % 3 == 0)

    rods = outcomes([frame([masked("rod", sparse, 0, 0, 0.9)], [masked("rod", drawn, 0, 0)])], SHAPES, 1)["rod"]

    assert rods.ious[0] > 0.9
    assert np.isnan(rods.boundary_ious[0])


masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9))


@given(masks, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_a_masks_rle_is_that_of_the_frame_drawn_whole(
    pixels: BoolArray, left: int, top: int, right: int, bottom: int
) -> None:
    drawn = np.pad(pixels, ((top, bottom), (left, right)))
    height, width = drawn.shape
    item = masked("dog", pixels, left, top)

    rle = truth_rle(item, JudgedFrame(0, width, height, (), ()))

    whole = coco_mask.encode(np.asfortranarray(drawn.view(np.uint8)))
    np.testing.assert_array_equal(coco_mask.decode(rle), drawn)
    assert coco_mask.area(rle) == drawn.sum()
    assert not drawn.any() or coco_mask.iou([rle], [whole], [0]).tolist() == [[1]]


def published_boundary(pixels: BoolArray, share: float = 0.02) -> BoolArray:
    """`mask_to_boundary` as Cheng et al. published it."""
    height, width = pixels.shape
    dilation = max(1, round(share * np.sqrt(height**2 + width**2)))
    framed = cv2.copyMakeBorder(pixels.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=dilation)
    return (pixels.astype(np.uint8) - eroded[1:-1, 1:-1]).astype(np.bool_)


@pytest.mark.parametrize("seed", range(5))
def test_boundary_iou_is_the_published_one_on_the_whole_frame(seed: int) -> None:
    one = any_frames(seed, 1, 8, SIZE_PX, ["dog"])[0]
    whole = {item: mask_to_frame(item.mask, WIDTH_PX, HEIGHT_PX) for item in (*one.truth, *one.found) if item.mask}

    for ours in one.found:
        for theirs in one.truth:
            a, b = published_boundary(whole[ours]), published_boundary(whole[theirs])
            assert boundary_iou(ours, theirs, one) == np.count_nonzero(a & b) / np.count_nonzero(a | b)


def test_a_shifted_mask_has_the_boundary_iou_that_its_shift_leaves() -> None:
    """Of a diagonal of 400 px the boundary is 8 px wide: two square rings, one 2 px to the right of the other."""
    found, drawn = filled("dog", 110, 10, 100, 100, 0.9), filled("dog", 108, 10, 100, 100)

    dogs = outcomes([frame([found], [drawn])], SHAPES, 1)["dog"]

    ring, shared = 100**2 - 84**2, 2 * 8 * 98 + 2 * 6 * 84
    assert dogs.ious.tolist() == [98 / 102]
    assert dogs.boundary_ious.tolist() == [shared / (2 * ring - shared)]


def most_matched(ious: NDArray[np.float64]) -> int:
    return int((maximum_bipartite_matching(csr_array(ious >= MIN_IOU), perm_type="column") >= 0).sum())


@st.composite
def any_ious(draw: st.DrawFn) -> tuple[NDArray[np.float64], list[float]]:
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    ious = draw(arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.95, 1.0])))
    scores = draw(st.lists(st.sampled_from([0.1, 0.2, 0.2000001, 0.5, 0.9]), min_size=shape[0], max_size=shape[0]))
    return ious, scores


@given(any_ious())
@settings(max_examples=200)
def test_at_every_threshold_as_many_are_right_as_the_best_matching_of_what_is_left(
    scene: tuple[NDArray[np.float64], list[float]],
) -> None:
    ious, scores = scene

    pairs = pair(ious, scores)

    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(ious[i, j] >= MIN_IOU for i, j in pairs)
    for threshold in scores:
        left = np.flatnonzero(np.array(scores) >= threshold)
        assert sum(scores[i] >= threshold for i, _ in pairs) == most_matched(ious[left])


def test_a_score_of_float32_reaches_its_threshold_as_it_does_in_a_push() -> None:
    rounded_down = float(np.float32(0.41))

    assert rounded_down < 0.41
    assert reaches([rounded_down, 0.40], 0.41).tolist() == [True, False]


def test_what_became_of_a_frame_is_told_by_places_at_the_thresholds() -> None:
    truth = [CUP, filled("dog", 100, 10, 40, 40), boxed("cup", 200, 10, 40, 40)]
    found = [
        boxed("cup", 201, 10, 40, 40, 0.4),
        filled("dog", 101, 10, 40, 40, 0.6),
        boxed("cup", 10, 100, 40, 40, 0.8),
        boxed("cup", 11, 10, 40, 40, 0.5),
    ]

    match = explain(frame(found, truth), SHAPES, HALF)

    assert match == FrameMatch(right=((1, 1), (3, 0)), false=(2,), missed=(2,))


def test_a_class_without_a_threshold_is_not_looked_for_and_one_without_a_shape_not_judged() -> None:
    other = boxed("other", 200, 10, 40, 40)

    match = explain(frame([CUP, other], [CUP, other]), SHAPES, {"dog": 0.5})

    assert match == FrameMatch(right=(), false=(), missed=(0,))


def planted() -> list[JudgedFrame]:
    """Forty frames of a cup, a dog and a leaf; a quarter of the dogs is missed, a fifth of the leaves called dogs."""
    frames = []
    for unit in range(40):
        truth = [CUP, filled("dog", 100, 10, 40, 40), filled("leaf", 200, 10, 40, 40)]
        found = [CUP, filled("leaf" if unit % 5 else "dog", 203, 12, 40, 40, 0.8)]
        found += [filled("dog", 103, 12, 40, 40, 0.9)] if unit % 4 else []
        found += [boxed("cup", 10, 150, 40, 40, 0.7)] if unit < 7 else []
        frames.append(frame(found, truth, unit))
    return frames


def test_planted_errors_give_exactly_the_rates_and_ious_that_were_planted() -> None:
    by_class = outcomes(planted(), SHAPES, 40)

    told = {cls: rates(by_class[cls], np.array([0.5]), seed=1) for cls in ("cup", "dog", "leaf")}

    assert {cls: float(of.precision[0, 0]) for cls, of in told.items()} == {"cup": 40 / 47, "dog": 30 / 38, "leaf": 1}
    assert {cls: float(of.recall[0, 0]) for cls, of in told.items()} == {"cup": 1, "dog": 30 / 40, "leaf": 32 / 40}
    shared = 37 * 38
    assert set(by_class["dog"].ious.tolist()) == {0, shared / (2 * 40 * 40 - shared)}


def test_planted_errors_give_exactly_the_confusion_that_was_planted() -> None:
    told = confusion(planted(), SHAPES, HALF)

    assert told == {
        ("cup", "cup"): 40,
        ("dog", "dog"): 30,
        ("dog", None): 10,
        ("leaf", "leaf"): 32,
        ("leaf", "dog"): 8,
        (None, "cup"): 7,
    }


def test_a_mask_that_is_wrong_in_the_right_box_is_no_confusion_of_its_class_with_itself() -> None:
    lattice = np.zeros((40, 41), np.bool_)
    lattice[:, ::4] = True

    told = confusion([frame([masked("dog", lattice, 10, 10, 0.9)], [filled("dog", 10, 10, 41, 40)])], SHAPES, HALF)

    assert told == {("dog", None): 1, (None, "dog"): 1}


@pytest.mark.parametrize("seed", range(5))
def test_every_object_and_every_detection_counts_once_and_the_diagonal_is_what_the_outcomes_say(seed: int) -> None:
    frames = any_frames(seed, 6, 12, SIZE_PX)

    told = confusion(frames, SHAPES, HALF)

    by_class = outcomes(frames, SHAPES, len(frames))
    for cls in SHAPES:
        kept = reaches(by_class[cls].scores, 0.5)
        assert sum(n for (drawn, _), n in told.items() if drawn == cls) == by_class[cls].objects.sum()
        assert sum(n for (_, found), n in told.items() if found == cls) == kept.sum()
        assert told.get((cls, cls), 0) == (kept & by_class[cls].is_right).sum()

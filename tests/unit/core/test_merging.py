from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autolabel.core.detections import Detections
from autolabel.core.geometry import box_iou, mask_from_window, mask_to_frame
from autolabel.core.merging import join_masks, merge_looks

SAME_IOU = 0.7
DOG_AT = (10.0, 10.0, 30.0, 30.0)
NEARLY = (11.0, 10.0, 31.0, 30.0)  # IoU with DOG_AT 0.90
ELSEWHERE = (60.0, 10.0, 80.0, 30.0)
LEFT_HALF, RIGHT_HALF = (0.0, 0.0, 60.0, 60.0), (40.0, 0.0, 100.0, 60.0)


def look(
    *found: tuple[tuple[float, ...], tuple[float, ...]], window: tuple[float, ...] | None = None, columns: int = 3
) -> Detections:
    boxes = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
    scores = np.array([scores for _, scores in found], np.float32).reshape(-1, columns)
    return Detections(boxes, scores, None, None if window is None else np.tile(np.float32(window), (len(boxes), 1)))


def test_one_object_of_two_passes_is_one_box_of_the_better_with_the_scores_of_both() -> None:
    merged = merge_looks([look((DOG_AT, (0.6, 0, 0))), look((NEARLY, (0, 0.7, 0.1)))], SAME_IOU)

    assert merged.boxes_xyxy_px.tolist() == [list(NEARLY)]
    np.testing.assert_allclose(merged.scores, [[0.6, 0.7, 0.1]])
    assert merged.seen_xyxy_px is None


def test_objects_apart_and_boxes_of_one_pass_stay_apart() -> None:
    merged = merge_looks(
        [look((DOG_AT, (0.6, 0, 0)), (NEARLY, (0.5, 0, 0))), look((ELSEWHERE, (0, 0.4, 0)))], SAME_IOU
    )

    assert merged.scores.max(axis=1).tolist() == np.float32([0.6, 0.5, 0.4]).tolist()


def test_a_single_look_comes_back_as_it_is() -> None:
    found = look((ELSEWHERE, (0.1, 0, 0)), (DOG_AT, (0.6, 0, 0)))

    assert merge_looks([found], SAME_IOU) is found


def test_half_an_object_at_a_tiles_edge_joins_the_whole_and_has_no_say_in_its_class() -> None:
    whole = look(((10, 10, 90, 30), (0.6, 0.1, 0)), window=(0, 0, 100, 60))
    half = look(((10, 10, 60, 30), (0.2, 0.9, 0)), window=LEFT_HALF)

    merged = merge_looks([whole, half], SAME_IOU)

    assert merged.boxes_xyxy_px.tolist() == [[10, 10, 90, 30]]
    np.testing.assert_allclose(merged.scores, [[0.6, 0.1, 0]])


def test_two_halves_that_agree_where_their_tiles_overlap_become_the_whole() -> None:
    left = look(((10, 10, 60, 30), (0.6, 0, 0)), window=LEFT_HALF)
    right = look(((40, 10, 90, 30), (0.5, 0, 0)), window=RIGHT_HALF)

    merged = merge_looks([left, right], SAME_IOU)

    assert merged.boxes_xyxy_px.tolist() == [[10, 10, 90, 30]]
    assert merged.seen_xyxy_px is not None
    assert merged.seen_xyxy_px.tolist() == [[0, 0, 100, 60]]


def test_a_small_thing_inside_a_large_one_stays() -> None:
    table = look(((0, 0, 100, 60), (0.9, 0, 0)), window=(0, 0, 100, 60))
    cup = look(((20, 20, 30, 30), (0, 0.5, 0)), window=LEFT_HALF)

    assert len(merge_looks([table, cup], SAME_IOU).scores) == 2


def test_masks_of_one_object_are_joined_in_a_window_around_both() -> None:
    one = mask_from_window(np.ones((2, 3), np.bool_), 1, 1, 0.8)
    other = mask_from_window(np.ones((4, 1), np.bool_), 6, 2, 0.5)

    joined = join_masks([one, other])

    assert (joined.window_xyxy_px, joined.score) == ((1, 1, 7, 6), 0.8)
    expected = mask_to_frame(one, 8, 8) | mask_to_frame(other, 8, 8)
    np.testing.assert_array_equal(mask_to_frame(joined, 8, 8), expected)


def merged_masks(*found: tuple[tuple[float, ...], float, tuple[float, ...] | None]) -> list[tuple[int, ...]]:
    """Of looks (box, score, window), each with a mask that fills its box: what masks the objects have."""
    looks = [look((box, (score, 0, 0)), window=window) for box, score, window in found]
    masks = []
    for box, _, _ in found:
        left, top, right, bottom = map(int, box)
        masks.append(mask_from_window(np.ones((bottom - top, right - left), np.bool_), left, top, 0.5))
    merged = merge_looks([replace(one, masks=(mask,)) for one, mask in zip(looks, masks, strict=True)], SAME_IOU)
    return [mask.window_xyxy_px for mask in merged.masks or ()]


def test_the_mask_of_an_object_is_that_of_its_best_look() -> None:
    assert merged_masks((DOG_AT, 0.1, None), (NEARLY, 0.9, None)) == [(11, 10, 31, 30)]


def test_masks_of_looks_that_saw_beyond_the_best_one_are_joined_to_its_mask() -> None:
    halves = ((10, 10, 60, 30), 0.6, LEFT_HALF), ((40, 10, 90, 30), 0.5, RIGHT_HALF)

    assert merged_masks(*halves) == [(10, 10, 90, 30)]


@st.composite
def any_looks(draw: st.DrawFn) -> list[Detections]:
    looks = []
    for _ in range(draw(st.integers(1, 4))):
        count = draw(st.integers(0, 5))
        corners = draw(arrays(np.float32, (count, 2), elements=st.integers(0, 60).map(float)))
        sides = draw(arrays(np.float32, (count, 2), elements=st.integers(5, 40).map(float)))
        scores = draw(arrays(np.float32, (count, 2), elements=st.integers(0, 10_000).map(lambda n: n / 10_000)))
        looks.append(Detections(np.hstack([corners, corners + sides]), scores))
    return looks


@given(any_looks(), st.randoms(use_true_random=False))
def test_the_order_of_passes_changes_nothing(looks: list[Detections], random: Random) -> None:
    scores = np.concatenate([one.scores.max(axis=1, initial=0) for one in looks])
    assume(len(set(scores.tolist())) == len(scores))  # ties are broken by coordinates, which may tie as well
    shuffled = random.sample(looks, len(looks))

    merged, again = merge_looks(looks, SAME_IOU), merge_looks(shuffled, SAME_IOU)

    order, order_again = (np.lexsort(one.boxes_xyxy_px.T) for one in (merged, again))
    np.testing.assert_array_equal(merged.boxes_xyxy_px[order], again.boxes_xyxy_px[order_again])
    np.testing.assert_array_equal(merged.scores.max(1)[order], again.scores.max(1)[order_again])


@given(any_looks())
def test_every_box_is_kept_or_agrees_with_a_better_one_that_is(looks: list[Detections]) -> None:
    merged = merge_looks(looks, SAME_IOU)

    boxes = np.concatenate([one.boxes_xyxy_px for one in looks])
    best = np.concatenate([one.scores.max(axis=1, initial=0) for one in looks])
    iou = box_iou(boxes, merged.boxes_xyxy_px)
    for row, score in zip(iou, best.tolist(), strict=True):
        assert ((row >= SAME_IOU - 1e-6) & (merged.scores.max(axis=1, initial=0) >= score - 1e-6)).any()


@given(any_looks(), st.randoms(use_true_random=False))
def test_the_order_of_tiles_changes_no_score(looks: list[Detections], random: Random) -> None:
    windows = [(0, 0, 60, 100), (40, 0, 100, 100), (0, 0, 100, 100), (0, 40, 100, 100)]
    tiles = [
        Detections(one.boxes_xyxy_px, one.scores, None, np.tile(np.float32(window), (len(one.scores), 1)))
        for one, window in zip(looks, windows, strict=False)
    ]
    best = np.concatenate([one.scores.max(axis=1, initial=0) for one in tiles])
    assume(len(set(best.tolist())) == len(best))

    merged, again = merge_looks(tiles, SAME_IOU), merge_looks(random.sample(tiles, len(tiles)), SAME_IOU)

    np.testing.assert_array_equal(np.sort(merged.scores, axis=0), np.sort(again.scores, axis=0))

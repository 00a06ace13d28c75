from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolabel.core.detections import Detections, Mask
from autolabel.core.geometry import mask_area_px, mask_from_window
from autolabel.core.suppress import Kept
from autolabel.core.tiling import in_frame, join_at_seams, tile_windows

FRAME_PX = (100, 60)
WHOLE, LEFT, RIGHT = (0, 0, 100, 60), (0, 0, 60, 60), (40, 0, 100, 60)


@given(st.integers(1, 5000), st.integers(1, 3000), st.integers(64, 1500), st.integers(0, 50))
def test_tiles_of_one_size_cover_the_frame_with_their_overlap_and_leave_no_sliver(
    width_px: int, height_px: int, size_px: int, percent: int
) -> None:
    windows = tile_windows(width_px, height_px, size_px, percent / 100)

    if max(width_px, height_px) <= size_px:
        assert windows == []
        return
    for low, high, length in ((0, 2, width_px), (1, 3, height_px)):
        spans = sorted({(window[low], window[high]) for window in windows})
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        assert {end - start for start, end in spans} == {min(size_px, length)}
        shared = [end - start for (_, end), (start, _) in pairwise(spans)]
        assert all(percent * size_px <= 100 * pixels < 100 * size_px for pixels in shared)
    assert len(windows) == len(set(windows))


def test_a_frame_no_larger_than_a_tile_is_looked_at_once() -> None:
    assert tile_windows(640, 480, 640, 0.25) == []
    assert tile_windows(641, 480, 640, 0.25) == [(0, 0, 640, 480), (1, 0, 641, 480)]


def test_what_a_tile_shows_is_put_where_the_tile_lies() -> None:
    mask = mask_from_window(np.ones((2, 2), np.bool_), 1, 1, 0.5)
    found = Detections(np.array([[1, 1, 3, 3]], np.float32), np.ones((1, 1), np.float32), (mask,))

    placed = in_frame(found, (40, 10, 100, 60))

    assert placed.boxes_xyxy_px.tolist() == [[41, 11, 43, 13]]
    assert placed.masks is not None
    assert placed.masks[0].window_xyxy_px == (41, 11, 43, 13)
    assert placed.seen_xyxy_px is not None
    assert placed.seen_xyxy_px.tolist() == [[40, 10, 100, 60]]


def kept_of(*boxes: tuple[float, ...], classes: tuple[int, ...] | None = None) -> Kept:
    ranks = np.arange(len(boxes))
    owner = np.array(classes or [0] * len(boxes))
    scores = np.float32(0.9) - np.float32(0.1) * ranks.astype(np.float32)
    return Kept(ranks, owner, owner, scores, np.array(boxes, np.float32), {})


def seen(*windows: tuple[int, ...]) -> np.ndarray:
    return np.array(windows, np.float32)


def slope(from_px: int, to_px: int) -> Mask:
    """A part of a slanted bar: at column x it lies from row x / 2 to x / 2 + 6."""
    pixels = np.zeros((60, to_px - from_px), np.bool_)
    for column in range(to_px - from_px):
        top = (column + from_px) // 2
        pixels[top : top + 6, column] = True
    return mask_from_window(pixels, from_px, 0, 0.5)


def filled(left: int, top: int, right: int, bottom: int) -> Mask:
    return mask_from_window(np.ones((bottom - top, right - left), np.bool_), left, top, 0.5)


def test_halves_of_a_slanted_thing_are_one_by_their_masks_though_their_boxes_differ() -> None:
    kept = kept_of((10, 5, 60, 36), (40, 20, 90, 51))
    masks = {0: slope(10, 60), 1: slope(40, 90)}

    joined, whole = join_at_seams(kept, masks, seen(LEFT, RIGHT), FRAME_PX)

    assert joined.boxes_xyxy_px.tolist() == [[10, 5, 90, 51]]
    assert mask_area_px(whole[0]) == mask_area_px(slope(10, 90))
    assert joined.index.tolist() == [0]


def test_a_half_joins_the_whole_which_says_what_it_is() -> None:
    kept = kept_of((10, 5, 60, 36), (10, 5, 90, 51), classes=(1, 0))
    masks = {0: slope(10, 60), 1: slope(10, 90)}

    joined, whole = join_at_seams(kept, masks, seen(LEFT, WHOLE), FRAME_PX)

    assert joined.class_index.tolist() == [0]
    assert mask_area_px(whole[0]) == mask_area_px(slope(10, 90))


def test_what_ends_at_a_seam_and_nobody_saw_beyond_goes() -> None:
    kept = kept_of((10, 10, 60, 30), (5, 40, 25, 50))

    joined, _ = join_at_seams(kept, {}, seen(LEFT, LEFT), FRAME_PX)

    assert joined.index.tolist() == [1]


def test_what_ends_at_the_frames_own_border_stays() -> None:
    kept = kept_of((0, 0, 20, 60), (80, 0, 100, 60))

    joined, _ = join_at_seams(kept, {}, seen(LEFT, RIGHT), FRAME_PX)

    assert joined.index.tolist() == [0, 1]


def test_objects_of_one_look_and_objects_apart_stay_apart() -> None:
    kept = kept_of((10, 5, 30, 21), (10, 5, 30, 21), (70, 35, 90, 51))
    masks = {0: slope(10, 30), 1: slope(10, 30), 2: slope(70, 90)}

    joined, drawn = join_at_seams(kept, masks, seen(LEFT, LEFT, RIGHT), FRAME_PX)

    assert joined.index.tolist() == [0, 1, 2]
    assert drawn == masks


@pytest.mark.parametrize(("classes", "left"), [((0, 0), [0]), ((0, 1), [0, 1])])
def test_a_part_of_a_things_inside_is_the_thing_where_it_bears_its_name(
    classes: tuple[int, int], left: list[int]
) -> None:
    kept = kept_of((10, 10, 90, 50), (20, 20, 40, 40), classes=classes)
    masks = {rank: filled(*box) for rank, box in enumerate(((10, 10, 90, 50), (20, 20, 40, 40)))}

    joined, _ = join_at_seams(kept, masks, seen(WHOLE, LEFT), FRAME_PX)

    assert joined.index.tolist() == left


def test_a_weak_box_around_several_things_of_its_class_swallows_none_that_a_tile_saw_whole() -> None:
    boxes = ((10, 10, 20, 20), (30, 10, 40, 20), (70, 10, 80, 20), (5, 5, 90, 50))
    masks = {rank: filled(*box) for rank, box in enumerate(boxes)}

    joined, _ = join_at_seams(kept_of(*boxes), masks, seen(LEFT, LEFT, RIGHT, WHOLE), FRAME_PX)

    assert joined.boxes_xyxy_px.tolist() == [list(box) for box in boxes]


def test_a_piece_that_a_seam_cut_is_part_of_the_weaker_whole_however_well_it_scores() -> None:
    kept = kept_of((50, 20, 60, 40), (10, 5, 90, 51))
    masks = {0: filled(50, 20, 60, 40), 1: filled(10, 5, 90, 51)}

    joined, _ = join_at_seams(kept, masks, seen(LEFT, WHOLE), FRAME_PX)

    assert joined.index.tolist() == [1]

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autolabel.core.detections import Detection, FrameLabels
from autolabel.tracking import BoxTracker, by_class
from fakes import RankTracker

Box = tuple[float, float, float, float]


def moving(start_px: float, step_px: float, frames: int) -> list[Box]:
    return [(start_px + step_px * k, 50.0, start_px + step_px * k + 40, 90.0) for k in range(frames)]


def tracks(tracker: BoxTracker, *frames: Sequence[Box]) -> list[list[int]]:
    return [
        tracker.step(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.5, np.float32)).tolist()
        for boxes in frames
    ]


def test_two_objects_that_pass_each_other_keep_their_tracks_at_native_rate() -> None:
    frames = list(zip(moving(0, 6, 40), [(x, y + 20, z, w + 20) for x, y, z, w in moving(240, -6, 40)], strict=True))
    assert tracks(BoxTracker(25.0), *frames) == [[0, 1]] * 40


def test_at_a_frame_a_second_an_object_that_left_its_own_box_is_still_itself() -> None:
    assert tracks(BoxTracker(1.0), *([box] for box in moving(0, 60, 6))) == [[0]] * 6
    assert tracks(BoxTracker(25.0), *([box] for box in moving(0, 60, 6))) != [[0]] * 6


def test_an_object_missed_for_a_while_comes_back_and_one_that_was_gone_for_long_is_new() -> None:
    box = [(10.0, 10.0, 50.0, 50.0)]
    assert tracks(BoxTracker(1.0), box, [], [], box) == [[0], [], [], [0]]
    assert tracks(BoxTracker(1.0), box, *[[]] * 8, box) == [[0], *[[]] * 8, [1]]


def test_uncertain_detections_are_tracked_like_any_other() -> None:
    tracker = BoxTracker(1.0)
    ids = [tracker.step(np.array([[1, 1, 9, 9]], np.float32), np.array([s], np.float32)) for s in (0.02, 0.9, 0.02)]
    assert [one.tolist() for one in ids] == [[0], [0], [0]]


BOX = st.builds(lambda x, y, w, h: (x, y, x + w, y + h), *[st.floats(0, 300)] * 2, *[st.floats(1, 90)] * 2)


@settings(max_examples=30)
@given(st.lists(st.lists(BOX, max_size=5), max_size=8), st.sampled_from([0.2, 1.0, 25.0]))
def test_every_detection_has_one_track_and_a_replay_gives_the_same(frames: list[list[Box]], rate: float) -> None:
    first = tracks(BoxTracker(rate), *frames)
    assert [len(ids) for ids in first] == [len(boxes) for boxes in frames]
    assert all(len(set(ids)) == len(ids) and min(ids, default=0) >= 0 for ids in first)
    assert tracks(BoxTracker(rate), *frames) == first


@pytest.mark.parametrize(
    ("classes", "expected"), [(("car", "van", "car"), [0, 0, 1]), (("van",), [0]), ((), [])], ids=str
)
def test_each_class_is_followed_by_itself(classes: tuple[str, ...], expected: list[int]) -> None:
    detections = tuple(Detection(name, "prompt", 0.5, (1.0, 1.0, 5.0, 5.0)) for name in classes)
    assert by_class(RankTracker)(FrameLabels(0, 10, 10, detections)) == expected


def test_a_class_hears_of_frames_without_it() -> None:
    made: list[RankTracker] = []

    def make() -> RankTracker:
        made.append(RankTracker())
        return made[-1]

    follow = by_class(make)
    car = Detection("car", "prompt", 0.5, (1.0, 1.0, 5.0, 5.0))
    for detections in ((car,), (), (car,)):
        follow(FrameLabels(0, 10, 10, detections))
    assert [tracker.seen for tracker in made] == [[1, 0, 1]]

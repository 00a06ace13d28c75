from __future__ import annotations

from collections.abc import Sequence

from autolabel.core.assemble import Assembly, Follow, assemble, with_confidence
from autolabel.core.detections import Detection, FrameLabels
from autolabel.core.identity import object_hash
from autolabel.core.prompts import ClassPlan, PromptPlan, Shape


def found(feature_hash: str, score: float = 0.5) -> Detection:
    return Detection(feature_hash, "prompt", score, (1.0, 1.0, 5.0, 5.0))


def frame(index: int, *classes: str) -> FrameLabels:
    return FrameLabels(index, 10, 10, tuple(found(name, 0.9 - 0.1 * index) for name in classes))


def row(
    frames: Sequence[FrameLabels], follow: Follow | None = None, min_track: int = 1, shape: Shape = "bounding_box"
) -> Assembly:
    return assemble(frames, {"car": shape, "van": "bounding_box"}, "recipe", "row", follow, min_track)


def one_track_a_rank(frame: FrameLabels) -> Sequence[int]:
    return range(len(frame.detections))


def test_on_stills_every_detection_is_an_instance_of_its_own() -> None:
    instances = row([frame(0, "car", "car"), frame(1, "car", "van")]).instances
    assert [(item.feature_hash, item.slot) for item in instances] == [("car", 0), ("car", 1), ("car", 2), ("van", 0)]
    assert instances[2].object_hash == object_hash("recipe", "row", "car", 2)


def test_a_track_is_one_instance_with_the_confidence_of_each_frame() -> None:
    (car,) = row([frame(0, "car"), frame(1), frame(2, "car")], one_track_a_rank).instances
    places = [(place.frame_index, round(place.detection.score, 3)) for place in car.placements]
    assert places == [(0, 0.9), (2, 0.7)]


def test_tracks_of_two_classes_stay_apart() -> None:
    instances = row([frame(0, "car"), frame(1, "van")], one_track_a_rank).instances
    assert {(item.feature_hash, len(item.placements)) for item in instances} == {("car", 1), ("van", 1)}


def test_short_tracks_are_left_out_and_counted_and_the_others_keep_their_names() -> None:
    frames = [frame(0, "car"), frame(1, "car", "car"), frame(2, "van")]
    whole, cut = row(frames, one_track_a_rank), row(frames, one_track_a_rank, min_track=2)
    assert cut.dropped_short_tracks == {"car": 1, "van": 1}
    assert cut.instances == whole.instances[:1]


def test_of_a_video_with_fewer_samples_than_a_track_needs_nothing_is_lost() -> None:
    assert len(row([frame(0, "car")], one_track_a_rank, min_track=2).instances) == 1


def test_a_track_goes_on_over_a_frame_without_a_mask_which_is_counted() -> None:
    assembly = row([frame(0, "car"), frame(1, "car")], one_track_a_rank, shape="polygon")
    assert (assembly.instances, assembly.dropped_without_mask) == ((), {"car": 2})


def test_what_the_cap_cut_off_is_added_up_over_the_frames() -> None:
    frames = [FrameLabels(index, 10, 10, (), {"car": 3}) for index in range(2)]
    assert row(frames).dropped_by_cap == {"car": 6}


def test_confidence_takes_the_place_of_scores_and_nothing_else_changes() -> None:
    car = ClassPlan("car", "Car", "bounding_box", ("car",), 0.3, 5, calibration=((0.0, 0.0), (0.8, 0.4), (1.0, 0.6)))
    van = ClassPlan("van", "Van", "bounding_box", ("van",), 0.3, 5)
    before = row([frame(0, "car", "van"), frame(1, "car")])
    after = with_confidence(before, PromptPlan((car, van)))
    scores = [place.detection.score for item in after.instances for place in item.placements]
    assert [round(score, 6) for score in scores] == [0.5, 0.9, 0.4]
    assert [item.object_hash for item in after.instances] == [item.object_hash for item in before.instances]

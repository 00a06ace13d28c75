from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autolabel.core.detections import Detections
from autolabel.core.geometry import box_iou
from autolabel.core.prompts import ClassPlan, PromptPlan
from autolabel.core.suppress import MIN_BOX_AREA_PX, MOST_CANDIDATES, Kept, suppress

SIZE_PX = (100, 80)
NMS_IOU, CROSS_CLASS_IOU = 0.5, 0.8
CAR = ClassPlan("car", "Car", "bounding_box", ("car", "taxi"), threshold=0.3, max_instances=3)
DOG = ClassPlan("dog", "Dog", "bitmask", ("dog",), threshold=0.5, max_instances=100)
PLAN = PromptPlan((CAR, DOG), ("statue",))
SQUARE = (10.0, 10.0, 30.0, 30.0)
SHIFTED = (12.0, 10.0, 32.0, 30.0)  # IoU with SQUARE 0.82
HALF_OVER = (16.0, 10.0, 36.0, 30.0)  # IoU with SQUARE 0.54
ELSEWHERE = (50.0, 10.0, 70.0, 30.0)


def detections(*found: tuple[tuple[float, ...], dict[str, float]]) -> Detections:
    boxes = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
    scores = [[scores.get(prompt, 0.0) for prompt in PLAN.prompts] for _, scores in found]
    return Detections(boxes, np.array(scores, np.float32).reshape(-1, len(PLAN.prompts)))


def kept_of(found: Detections, plan: PromptPlan = PLAN) -> Kept:
    return suppress(found, plan, SIZE_PX, NMS_IOU, CROSS_CLASS_IOU)


def test_a_box_belongs_to_the_class_of_its_best_prompt() -> None:
    kept = kept_of(detections((SQUARE, {"car": 0.4, "taxi": 0.6, "dog": 0.55})))

    assert (kept.class_index.tolist(), kept.prompt_index.tolist()) == ([0], [1])


def test_a_box_whose_best_prompt_is_a_distractor_goes() -> None:
    kept = kept_of(detections((SQUARE, {"car": 0.6, "statue": 0.7})))

    assert kept.index.tolist() == []


def test_each_class_has_its_own_threshold() -> None:
    kept = kept_of(detections((SQUARE, {"car": 0.4}), (ELSEWHERE, {"dog": 0.4})))

    assert kept.index.tolist() == [0]


def test_within_a_class_the_better_of_two_overlapping_boxes_stays_whichever_prompt_found_it() -> None:
    kept = kept_of(detections((SQUARE, {"car": 0.6}), (HALF_OVER, {"taxi": 0.7})))

    assert kept.index.tolist() == [1]


def test_two_classes_may_overlap_until_they_are_the_same_thing() -> None:
    overlapping = kept_of(detections((SQUARE, {"car": 0.6}), (HALF_OVER, {"dog": 0.7})))
    same = kept_of(detections((SQUARE, {"car": 0.6}), (SHIFTED, {"dog": 0.7})))

    assert overlapping.index.tolist() == [1, 0]
    assert same.index.tolist() == [1]


def test_a_box_that_was_suppressed_suppresses_no_other() -> None:
    chain = [(10.0, 10.0, 30.0, 30.0), (16.0, 10.0, 36.0, 30.0), (22.0, 10.0, 42.0, 30.0)]

    kept = kept_of(detections(*((box, {"dog": 0.9 - 0.1 * i}) for i, box in enumerate(chain))))

    assert kept.index.tolist() == [0, 2]


def test_boxes_are_cut_to_the_frame_and_those_outside_go() -> None:
    inside_in_part, outside = (-10.0, 70.0, 20.0, 95.0), (200.0, 10.0, 220.0, 30.0)

    kept = kept_of(detections((inside_in_part, {"car": 0.6}), (outside, {"car": 0.9})))

    assert kept.boxes_xyxy_px.tolist() == [[0, 70, 20, 80]]


def test_a_cap_keeps_the_best_and_counts_the_rest() -> None:
    apart = [(20.0 * i, 0.0, 20.0 * i + 10, 10.0) for i in range(5)]

    kept = kept_of(detections(*((box, {"car": 0.4 + 0.1 * i}) for i, box in enumerate(apart))))

    assert kept.index.tolist() == [4, 3, 2]
    assert kept.dropped_by_cap == {"car": 2}


def test_of_a_flood_the_best_are_looked_at_and_the_rest_is_counted_as_cut_by_the_cap() -> None:
    scores = [{"car": 0.9}, *({"dog": 0.6}, {"car": 0.5}) * MOST_CANDIDATES]
    kept = kept_of(detections(*((SQUARE if i else ELSEWHERE, score) for i, score in enumerate(scores))))

    assert kept.index[0] == 0
    assert kept.dropped_by_cap == {"dog": 1, "car": MOST_CANDIDATES}


def test_nothing_found_is_nothing_kept() -> None:
    kept = kept_of(detections())

    assert kept.index.tolist() == []
    assert kept.dropped_by_cap == {}


@st.composite
def any_detections(draw: st.DrawFn) -> Detections:
    count = draw(st.integers(0, 12))
    # Whole numbers, so that ties and identical boxes do occur.
    corners = draw(arrays(np.float32, (count, 4), elements=st.integers(-20, 120).map(float)))
    boxes = np.hstack([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])])
    scores = draw(arrays(np.float32, (count, 4), elements=st.sampled_from([0.0, 0.25, 0.3125, 0.5, 0.75, 1.0])))
    return Detections(boxes, scores)


@given(any_detections())
def test_what_is_kept_obeys_every_rule(found: Detections) -> None:
    kept = kept_of(found)

    classes = [PLAN.classes[i] for i in kept.class_index]
    iou = box_iou(kept.boxes_xyxy_px, kept.boxes_xyxy_px)
    limit = np.where(kept.class_index[:, None] == kept.class_index, NMS_IOU, CROSS_CLASS_IOU)
    assert all(score >= cls.threshold for score, cls in zip(kept.scores, classes, strict=True))
    assert (np.diff(kept.scores) <= 0).all()
    assert (iou - np.eye(len(iou)) <= limit).all()
    assert classes.count(CAR) <= CAR.max_instances
    assert ((kept.boxes_xyxy_px >= 0) & (kept.boxes_xyxy_px <= [*SIZE_PX, *SIZE_PX])).all()
    assert (np.prod(kept.boxes_xyxy_px[:, 2:] - kept.boxes_xyxy_px[:, :2], axis=1) >= MIN_BOX_AREA_PX).all()


@given(any_detections(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_changes_nothing(found: Detections, random: Random) -> None:
    order = np.arange(len(found.scores))
    random.shuffle(order)
    shuffled = Detections(found.boxes_xyxy_px[order], found.scores[order])

    kept, again = kept_of(found), kept_of(shuffled)

    np.testing.assert_array_equal(kept.boxes_xyxy_px, again.boxes_xyxy_px)
    np.testing.assert_array_equal(kept.scores, again.scores)
    np.testing.assert_array_equal(kept.class_index, again.class_index)

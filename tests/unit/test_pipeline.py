from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from autolabel.core.detections import Detections, FrameLabels, Mask
from autolabel.core.geometry import mask_area_px, mask_from_window
from autolabel.core.prompts import PromptPlan, Shape
from autolabel.errors import PermanentInferenceError
from autolabel.pipeline import TilingDetector, infer
from autolabel.protocols import RGB, BoxSegmenter, TextDetector
from fakes import BoxShapedSegmenter, Find, ScriptedDetector
from pictures import plan_of

CAR = Find("car", 0.8, (0.0, 0.0, 0.5, 0.5))
DOG = Find("dog", 0.6, (0.5, 0.5, 1.0, 1.0))
FAINT_DOG = Find("dog", 0.1, (0.5, 0.0, 1.0, 0.4))


def blank(width_px: int = 40, height_px: int = 20) -> RGB:
    return np.zeros((height_px, width_px, 3), np.uint8)


def labels_of(
    frames: list[tuple[int, RGB]],
    plan: PromptPlan,
    detector: TextDetector,
    segmenter: BoxSegmenter | None = None,
) -> list[FrameLabels]:
    return infer(frames, plan, detector, segmenter, nms_iou=0.5, cross_class_iou=0.8)


class MaskingDetector:
    """A detector that brings its own masks, as SAM 3 does."""

    def detect(self, images: list[RGB], plan: PromptPlan) -> list[Detections]:
        found = ScriptedDetector(DOG, CAR).detect(images, plan)
        masks = tuple(mask_from_window(np.ones((1, n), np.bool_), 0, 0, 0.5) for n in (3, 7))
        return [replace(one, masks=masks) for one in found]


def test_objects_come_best_first_with_class_prompt_score_and_box_in_pixels() -> None:
    (frame,) = labels_of([(7, blank())], plan_of("dog", "car"), ScriptedDetector(DOG, CAR))

    assert [(d.feature_hash, d.prompt, d.score) for d in frame.detections] == [
        ("car", "car", pytest.approx(0.8)),
        ("dog", "dog", pytest.approx(0.6)),
    ]
    assert frame.detections[0].box_xyxy_px == (0, 0, 20, 10)
    assert (frame.frame_index, frame.width_px, frame.height_px) == (7, 40, 20)


def test_numbers_are_plain_python_floats() -> None:
    (frame,) = labels_of([(0, blank())], plan_of("car"), ScriptedDetector(CAR))

    found = frame.detections[0]
    assert {type(value) for value in (found.score, *found.box_xyxy_px)} == {float}


def test_frames_keep_their_order_index_and_size() -> None:
    frames = [(5, blank(40, 20)), (2, blank(10, 30)), (9, blank(40, 20))]

    answers = labels_of(frames, plan_of("car"), ScriptedDetector(CAR))

    assert [(a.frame_index, a.width_px, a.height_px) for a in answers] == [(5, 40, 20), (2, 10, 30), (9, 40, 20)]


def test_no_frames_give_no_answers() -> None:
    assert labels_of([], plan_of("car"), ScriptedDetector(CAR), BoxShapedSegmenter()) == []


def test_a_frame_without_finds_has_no_detections() -> None:
    (frame,) = labels_of([(0, blank())], plan_of("car", shape="bitmask"), ScriptedDetector(), BoxShapedSegmenter())

    assert frame.detections == ()


def test_only_objects_of_bitmask_classes_are_segmented() -> None:
    boxes, masks = plan_of("car"), plan_of("dog", shape="bitmask")
    plan = PromptPlan(boxes.classes + masks.classes)
    segmenter = BoxShapedSegmenter()

    (frame,) = labels_of([(0, blank())], plan, ScriptedDetector(CAR, DOG), segmenter)

    car, dog = frame.detections
    assert segmenter.asked == 1
    assert car.mask is None
    assert dog.mask is not None
    assert mask_area_px(dog.mask) == 20 * 10


def test_what_suppression_drops_is_not_segmented() -> None:
    segmenter = BoxShapedSegmenter()

    labels_of([(0, blank())], plan_of("dog", shape="bitmask"), ScriptedDetector(DOG, FAINT_DOG), segmenter)

    assert segmenter.asked == 1


def test_an_empty_mask_is_no_mask() -> None:
    segmenter = BoxShapedSegmenter(empty=True)

    (frame,) = labels_of([(0, blank())], plan_of("dog", shape="bitmask"), ScriptedDetector(DOG), segmenter)

    assert frame.detections[0].mask is None


def test_without_a_segmenter_bitmask_objects_have_no_mask() -> None:
    (frame,) = labels_of([(0, blank())], plan_of("dog", shape="bitmask"), ScriptedDetector(DOG))

    assert frame.detections[0].mask is None


@pytest.mark.parametrize("segmenter", [None, BoxShapedSegmenter()], ids=["no segmenter", "segmenter"])
def test_masks_that_the_detector_brings_are_kept_and_not_asked_for(segmenter: BoxShapedSegmenter | None) -> None:
    (frame,) = labels_of([(0, blank())], plan_of("dog", "car", shape="bitmask"), MaskingDetector(), segmenter)

    areas = {found.prompt: found.mask and mask_area_px(found.mask) for found in frame.detections}
    assert areas == {"dog": 3, "car": 7}
    assert segmenter is None or segmenter.asked == 0


def test_what_a_cap_cuts_is_counted() -> None:
    plan = plan_of("dog", threshold=0.05)
    capped = PromptPlan((replace(plan.classes[0], max_instances=1),))

    (frame,) = labels_of([(0, blank())], capped, ScriptedDetector(DOG, FAINT_DOG))

    assert len(frame.detections) == 1
    assert frame.dropped_by_cap == {"dog": 1}


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_gives_the_same_answers(batch: int) -> None:
    frames = [(i, blank(20 + i, 30 - i)) for i in range(5)]
    plan = plan_of("car", "dog", shape="bitmask")
    detector, segmenter = ScriptedDetector(CAR, DOG), BoxShapedSegmenter()

    parts = [frames[i : i + batch] for i in range(0, 5, batch)]
    answers = [answer for part in parts for answer in labels_of(part, plan, detector, segmenter)]

    assert answers == labels_of(frames, plan, detector, segmenter)


class WideDetector(ScriptedDetector):
    """Knows a class more than it was asked for."""

    def detect(self, images: Sequence[RGB], plan: PromptPlan) -> list[Detections]:
        return [replace(one, scores=np.pad(one.scores, ((0, 0), (0, 1)))) for one in super().detect(images, plan)]


class ShiftedSegmenter(BoxShapedSegmenter):
    """Puts its masks to the right of the frame."""

    def segment(self, images: Sequence[RGB], boxes_xyxy_px: Sequence[NDArray[np.float32]]) -> list[list[Mask]]:
        right = images[0].shape[1]
        return super().segment(
            images, [boxes + np.array([right, 0, right, 0], np.float32) for boxes in boxes_xyxy_px]
        )


@pytest.mark.parametrize(
    ("detector", "segmenter", "message"),
    [
        (WideDetector(CAR), None, "answers with 2 classes where 1 were asked for"),
        (ScriptedDetector(CAR), ShiftedSegmenter(), "not inside 40x20"),
    ],
)
def test_an_answer_that_does_not_fit_the_question_is_refused(
    detector: TextDetector, segmenter: BoxSegmenter | None, message: str
) -> None:
    with pytest.raises(PermanentInferenceError, match=message):
        labels_of([(0, blank())], plan_of("car", shape="bitmask"), detector, segmenter)


SCENE_PX = (200, 60)
BAR_XYXY = (60, 20, 140, 40)  # over the seam of tiles that are 120 px wide
CUP_XYXY = (10, 10, 18, 18)


def scene() -> RGB:
    """A grey bar and a white cup on black."""
    image = blank(*SCENE_PX)
    for value, (x0, y0, x1, y1) in ((100, BAR_XYXY), (255, CUP_XYXY)):
        image[y0:y1, x0:x1] = value
    return image


class ShadeDetector:
    """Finds what of the bar and the cup an image shows; the cup only where it is large enough in the image.

    `asked` counts the images of each call.
    """

    def __init__(self) -> None:
        self.asked: list[int] = []

    def detect(self, images: Sequence[RGB], plan: PromptPlan) -> list[Detections]:
        self.asked.append(len(images))
        return [self._on(image) for image in images]

    def _on(self, image: RGB) -> Detections:
        boxes, scores = [], []
        for shade, row in ((100, (0.8, 0.1)), (255, (0.0, 0.7))):
            y, x = np.nonzero(image[..., 0] == shade)
            if len(x) and (x.max() + 1 - x.min()) / image.shape[1] > (0.05 if shade == 255 else 0):
                boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
                scores.append(row)
        return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32).reshape(-1, 2))


def tiled(detector: TextDetector) -> TilingDetector:
    return TilingDetector(detector, 120, overlap=0.25)


@pytest.mark.parametrize(("is_tiled", "prompts"), [(False, ["bar"]), (True, ["bar", "cup"])])
def test_tiles_find_what_is_too_small_in_the_whole_frame(is_tiled: bool, prompts: list[str]) -> None:
    detector = tiled(ShadeDetector()) if is_tiled else ShadeDetector()

    (frame,) = labels_of([(0, scene())], plan_of("bar", "cup"), detector)

    assert [found.prompt for found in frame.detections] == prompts
    assert frame.detections[0].box_xyxy_px == BAR_XYXY


def test_frames_of_any_batch_get_the_same_answers_from_tiles_and_as_many_tiles_as_frames_are_asked_at_once() -> None:
    detector, plan = ShadeDetector(), plan_of("bar", "cup", shape="bitmask")
    frames = [(i, scene()[:, i:]) for i in range(3)]

    together = labels_of(frames, plan, tiled(detector), BoxShapedSegmenter())
    asked = detector.asked
    apart = [labels_of([frame], plan, tiled(ShadeDetector()), BoxShapedSegmenter())[0] for frame in frames]

    assert together == apart
    assert asked == [3, 3, 3]


class HalfBlindDetector(ShadeDetector):
    """Sees nothing in whole frames."""

    def _on(self, image: RGB) -> Detections:
        found = super()._on(image)
        return (
            found
            if image.shape[1] < SCENE_PX[0]
            else replace(found, boxes_xyxy_px=found.boxes_xyxy_px[:0], scores=found.scores[:0])
        )


@pytest.mark.parametrize("shape", ["bounding_box", "bitmask"])
def test_what_a_seam_cuts_is_one_whole_object(shape: Shape) -> None:
    (frame,) = labels_of(
        [(0, scene())], plan_of("bar", "cup", shape=shape), tiled(HalfBlindDetector()), BoxShapedSegmenter()
    )

    assert [(found.prompt, found.box_xyxy_px) for found in frame.detections] == [("bar", BAR_XYXY), ("cup", CUP_XYXY)]


class PieceDetector:
    """Sees ten things whole in a frame, and ten better pieces of others at the right edge of its leftmost tile."""

    def detect(self, images: Sequence[RGB], plan: PromptPlan) -> list[Detections]:
        return [self._on(image) for image in images]

    def _on(self, image: RGB) -> Detections:
        is_frame, is_leftmost = image.shape[1] == SCENE_PX[0], image[10, 10, 0] == 255
        left, right, score = (150, 160, 0.5) if is_frame else (100, 120, 0.9)
        boxes = [[left, 6 * i, right, 6 * i + 5] for i in range(10 if is_frame or is_leftmost else 0)]
        return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full((len(boxes), 1), score, np.float32))


@pytest.mark.parametrize(("most", "dropped"), [(10, {}), (7, {"car": 3})])
def test_pieces_that_a_seam_cut_take_no_place_of_whole_objects(most: int, dropped: dict[str, int]) -> None:
    plan = plan_of("car", shape="bitmask")
    capped = PromptPlan((replace(plan.classes[0], max_instances=most),))

    (frame,) = labels_of([(0, scene())], capped, tiled(PieceDetector()), BoxShapedSegmenter())

    assert [found.box_xyxy_px for found in frame.detections] == [(150, 6 * i, 160, 6 * i + 5) for i in range(most)]
    assert all(found.mask and mask_area_px(found.mask) == 50 for found in frame.detections)
    assert frame.dropped_by_cap == dropped

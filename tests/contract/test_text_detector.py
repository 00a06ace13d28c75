"""One suite for every TextDetector: the hand-written fake and the bundled Grounding DINO."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from autolabel.core.detections import Detections
from autolabel.core.geometry import box_iou
from autolabel.core.prompts import PromptPlan
from autolabel.models import Placement, load_detector
from autolabel.protocols import TextDetector
from fakes import Find, ScriptedDetector
from pictures import BLUE_XYXY_NORM, RED_XYXY_NORM, plan_of, two_swabs

LEAST_SCORE = 0.2  # the bundled model is small: what it finds has to be right, not certain
PLAN = plan_of("red gauze", "blue gauze", threshold=LEAST_SCORE, distractors=("green scissors",))
SIZES_PX = [(640, 448), (400, 520), (640, 448), (300, 300), (400, 520)]


@pytest.fixture(scope="module", params=["scripted", "bundled"])
def detector(request: pytest.FixtureRequest) -> Iterator[TextDetector]:
    if request.param == "scripted":
        yield ScriptedDetector(Find("red gauze", 0.9, RED_XYXY_NORM), Find("blue gauze", 0.8, BLUE_XYXY_NORM))
    else:
        yield load_detector("grounding_dino", "bundled:detector", Placement("cpu"))


def best_box(found: Detections, plan: PromptPlan, prompt: str) -> tuple[float, np.ndarray]:
    column = found.scores[:, plan.prompts.index(prompt)]
    return float(column.max()), found.boxes_xyxy_px[column.argmax()]


@pytest.mark.parametrize("size_px", sorted(set(SIZES_PX)))
@pytest.mark.parametrize(("prompt", "box_norm"), [("red gauze", RED_XYXY_NORM), ("blue gauze", BLUE_XYXY_NORM)])
def test_what_a_prompt_asks_for_is_found_in_pixels_of_the_image(
    detector: TextDetector, size_px: tuple[int, int], prompt: str, box_norm: tuple[float, ...]
) -> None:
    (found,) = detector.detect([two_swabs(*size_px)], PLAN)

    score, box = best_box(found, PLAN, prompt)
    truth = np.array([box_norm], np.float32) * (size_px * 2)
    assert score > LEAST_SCORE
    assert box_iou(box[None], truth.astype(np.float32))[0, 0] > 0.5


def test_answers_come_one_an_image_in_order_whatever_their_sizes(detector: TextDetector) -> None:
    answers = detector.detect([two_swabs(*size) for size in SIZES_PX], PLAN)

    lefts = [best_box(answer, PLAN, "blue gauze")[1][0] for answer in answers]
    np.testing.assert_allclose(lefts, [BLUE_XYXY_NORM[0] * width for width, _ in SIZES_PX], rtol=0.1)


@pytest.mark.parametrize("batch", [1, 2])
def test_any_batch_gives_the_same_answers(detector: TextDetector, batch: int) -> None:
    images = [two_swabs(*size) for size in SIZES_PX]

    together = detector.detect(images, PLAN)
    parts = [images[i : i + batch] for i in range(0, len(images), batch)]
    apart = [answer for part in parts for answer in detector.detect(part, PLAN)]

    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        np.testing.assert_allclose(one.boxes_xyxy_px, other.boxes_xyxy_px, atol=1e-4 * 640)


@pytest.mark.parametrize("prompts", [("blue gauze", "red gauze"), ("red gauze",), ()])
def test_there_is_a_column_a_prompt_in_the_plans_order(detector: TextDetector, prompts: tuple[str, ...]) -> None:
    plan = plan_of(*prompts, threshold=LEAST_SCORE, distractors=("green scissors",) if prompts else ())

    (found,) = detector.detect([two_swabs()], plan)

    assert found.scores.shape[1] == len(plan.prompts)
    assert found.scores.dtype == found.boxes_xyxy_px.dtype == np.float32
    for prompt in prompts:
        assert best_box(found, plan, prompt)[0] > LEAST_SCORE


def test_another_plan_is_not_answered_with_the_last_ones_columns(detector: TextDetector) -> None:
    first, second = (plan_of(prompt, threshold=LEAST_SCORE) for prompt in ("red gauze", "blue gauze"))
    image = two_swabs()

    before = detector.detect([image], first)
    (other,) = detector.detect([image], second)
    after = detector.detect([image], first)

    assert best_box(other, second, "blue gauze")[1][0] > 0.5 * 320
    np.testing.assert_array_equal(before[0].scores, after[0].scores)


def test_no_images_give_no_answers(detector: TextDetector) -> None:
    assert detector.detect([], PLAN) == []


def test_images_are_left_as_they_were(detector: TextDetector) -> None:
    image = two_swabs()

    detector.detect([image], PLAN)

    np.testing.assert_array_equal(image, two_swabs())

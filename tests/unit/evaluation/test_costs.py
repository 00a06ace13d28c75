"""What pre-labels cost and save: seconds in each data unit, thresholds, verdicts and their words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autolabel.evaluation.costs import (
    Costs,
    drawing_seconds,
    edit_seconds,
    judge,
    judge_together,
    suggest_threshold,
)
from autolabel.evaluation.values import Estimate, Outcomes, TooFew, Worth
from benching.reviewers import TOLERANCE, Reviewer, threshold_errors, verdict

COSTS = Costs(draw_box_s=10, adjust_box_s=4, check_s=1, delete_s=2, good_iou=0.8, draw_mask_s=30, adjust_mask_s=9)


def outcomes(scores: list[float], ious: list[float], units: list[int], objects: list[int]) -> Outcomes:
    nothing = np.full(len(scores), np.nan)
    return Outcomes(np.array(scores), np.array(ious), nothing, np.array(units, np.intp), np.array(objects, np.intp))


def alternating(right_each: int, false_each: int, units: int, missed_each: int = 0) -> Outcomes:
    """In each data unit right ones at 0.9 and false ones at 0.3."""
    each = [*[(0.9, 0.95)] * right_each, *[(0.3, 0.0)] * false_each]
    scores, ious = ([one[part] for _ in range(units) for one in each] for part in (0, 1))
    places = [unit for unit in range(units) for _ in each]
    return outcomes(scores, ious, places, [right_each + missed_each] * units)


def test_seconds_are_of_looking_deleting_correcting_and_drawing_what_is_missing() -> None:
    found = outcomes([0.9, 0.8, 0.7, 0.2], [0.95, 0.6, 0.0, 0.9], [0, 0, 0, 1], [3, 1])
    exact, inexact, false, missed = 1, 1 + 4, 1 + 2, 10
    assert edit_seconds(found, 0.5, "bounding_box", COSTS).tolist() == [exact + inexact + false + missed, 10]
    assert edit_seconds(found, 0.75, "bounding_box", COSTS).tolist() == [exact + inexact + missed, 10]
    assert drawing_seconds(found, "bounding_box", COSTS).tolist() == [30, 10]


@pytest.mark.parametrize(("shape", "draw_s"), [("bounding_box", 10), ("rotatable_bounding_box", 10), ("polygon", 30)])
def test_masks_have_prices_of_their_own(shape: str, draw_s: float) -> None:
    found = outcomes([0.9], [0.6], [0], [2])
    adjust_s = 9 if shape == "polygon" else 4
    assert edit_seconds(found, 0.5, shape, COSTS).tolist() == [1 + adjust_s + draw_s]  # type: ignore[arg-type]


def test_nothing_found_leaves_all_to_be_drawn_and_no_threshold() -> None:
    nothing = outcomes([], [], [], [4, 0])
    assert edit_seconds(nothing, 0.05, "bounding_box", COSTS).tolist() == [40, 0]
    assert suggest_threshold(nothing, "bounding_box", COSTS) is None


def test_all_that_is_right_is_kept_from_the_floor_on() -> None:
    assert suggest_threshold(alternating(3, 0, 20), "bounding_box", COSTS) == 0.05


def test_there_is_no_threshold_where_correcting_takes_longer_than_drawing() -> None:
    dear = COSTS.model_copy(update={"adjust_box_s": 20.0, "good_iou": 1.0})
    assert suggest_threshold(alternating(3, 0, 20), "bounding_box", dear) is None


@pytest.mark.parametrize("price", ["boxes", "masks", "dear"])
def test_thresholds_are_near_the_best_one_of_reviewers_with_known_tastes(price: str) -> None:
    _, off, lost = threshold_errors(Reviewer("steep", "even"), price, 500, range(20))
    assert (off <= TOLERANCE).sum() >= 14
    assert lost.mean() < 0.02  # seconds a detection


def test_a_reviewer_draws_as_many_objects_as_its_detections_are_counted_for() -> None:
    low = Reviewer("square", "low")
    assert low.outcomes(low.detections(20_000), 0).objects.sum() == pytest.approx(20_000, rel=0.03)


def test_a_class_that_is_found_well_is_worth_it() -> None:
    told = judge(alternating(3, 1, 20, missed_each=1), "bounding_box", COSTS, seed=0)
    assert isinstance(told.saved_s, Estimate)
    assert told.threshold
    assert (told.worth, 0.3 < told.threshold <= 0.9) == (Worth.YES, True)
    assert told.saved_s.value == pytest.approx(3 * 9 / 4)
    assert told.text == f"saves 6.8 s of 10.0 s an object (6.8 to 6.8) at threshold {told.threshold:.2f}"


def test_a_class_of_which_nothing_right_is_found_is_not_worth_it() -> None:
    told = judge(alternating(0, 2, 20, missed_each=2), "bounding_box", COSTS, seed=0)
    assert (told.worth, told.threshold) == (Worth.NO, None)
    assert told.text == (
        "not worth it: finds nothing right; "
        "the surest fifth of what is found would cost 3.0 s an object more than drawing"
    )


def test_a_few_false_ones_that_cost_next_to_nothing_are_not_counted_out() -> None:
    told = judge(outcomes([0.1], [0.0], [0], [4] * 20), "bounding_box", COSTS, seed=0)
    assert (told.worth, told.text) == (Worth.NO, "not worth it: finds nothing right")


def test_a_class_of_which_nothing_at_all_is_found_is_not_worth_it() -> None:
    told = judge(outcomes([], [], [], [4] * 20), "bounding_box", COSTS, seed=0)
    assert (told.worth, told.text) == (Worth.NO, "not worth it: finds nothing")


def test_few_objects_say_how_many_more_are_needed() -> None:
    told = judge(alternating(1, 1, 12), "bounding_box", COSTS, seed=0)
    assert (told.worth, told.threshold) == (Worth.UNKNOWN, None)
    assert told.saved_s == TooFew(12, 30, "objects")
    assert told.text == "cannot be told yet: 12 of 30 objects; 18 more are needed"


def test_many_objects_in_few_rows_are_too_few_as_well() -> None:
    told = judge(alternating(9, 1, 5), "bounding_box", COSTS, seed=0)
    assert told.text == "cannot be told yet: 5 of 10 label rows with objects; 5 more are needed"


def test_false_boxes_in_plenty_are_a_no_although_people_drew_hardly_any() -> None:
    false = outcomes(np.linspace(0.1, 0.9, 200).tolist(), [0.0] * 200, [place % 20 for place in range(200)], [0] * 20)
    told = judge(false, "bounding_box", COSTS, seed=0)
    assert (told.worth, told.saved_s) == (Worth.NO, TooFew(0, 30, "objects"))
    assert told.text == "not worth it: of the 40 surest detections 0 are right, and 25% would have to be"


def test_false_boxes_of_few_rows_are_no_such_evidence() -> None:
    assert judge(alternating(0, 50, 2), "bounding_box", COSTS, seed=0).worth == Worth.UNKNOWN


def test_a_verdict_is_the_same_for_the_same_seed() -> None:
    found = Reviewer("logistic", "low").outcomes(200, 3)
    assert judge(found, "bitmask", COSTS, seed=5) == judge(found, "bitmask", COSTS, seed=5)


def test_a_class_without_a_threshold_neither_helps_nor_harms_the_verdict_on_all() -> None:
    good, bad = alternating(3, 1, 20, missed_each=1), alternating(0, 4, 20, missed_each=4)
    told = judge_together({"a": (good, "bounding_box"), "b": (bad, "bounding_box")}, COSTS, seed=0)
    assert isinstance(told.saved_s, Estimate)
    assert (told.worth, told.threshold) == (Worth.YES, None)
    assert told.saved_s.value == pytest.approx(3 * 9 / 8)
    assert "each class from its threshold on" in told.text
    alone = judge_together({"b": (bad, "bounding_box")}, COSTS, seed=0)
    assert alone.text == "not worth it: no class has a threshold that saves time"


def test_seconds_to_draw_are_averaged_over_the_objects_of_all_classes() -> None:
    boxes, masks = alternating(2, 0, 20), replace(alternating(0, 0, 20), objects=np.full(20, 6))
    assert judge_together({"a": (boxes, "bounding_box"), "b": (masks, "polygon")}, COSTS, 0).drawing_s == 25
    assert judge_together({}, COSTS, 0).worth == Worth.UNKNOWN


@pytest.mark.parametrize(("right", "worth"), [("steep", Worth.YES), ("never", Worth.NO)])
def test_verdicts_on_reviewers_with_known_tastes_are_true(right: str, worth: Worth) -> None:
    told = [verdict(Reviewer(right, "even"), 300, seed, "boxes") for seed in range(5)]
    assert [one[0] for one in told].count(worth) == 5
    assert all(is_true is not False for _, is_true, _ in told)

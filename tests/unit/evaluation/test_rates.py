"""What is right of what was found, by threshold; intervals that hold the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autolabel.evaluation.rates import GRID, mean_ious, rates
from autolabel.evaluation.samples import interval_ends
from autolabel.evaluation.values import Outcomes
from benching.judging import any_outcomes, held


def outcomes_of(
    scores: list[float], is_right: list[bool], units: list[int], objects: list[int], iou: float = 0.8
) -> Outcomes:
    ious = np.where(is_right, iou, 0.0)
    boundary_ious = np.where(is_right, iou / 2, np.nan)
    return Outcomes(np.array(scores), ious, boundary_ious, np.array(units, np.intp), np.array(objects, np.intp))


FOUR = outcomes_of([0.9, 0.7, 0.5, 0.3], [True, False, True, False], [0, 0, 1, 1], [2, 3])


def test_the_grid_is_every_hundredth_from_the_floor() -> None:
    assert GRID.tolist() == [i / 100 for i in range(5, 100)]


def test_rates_are_counted_at_each_threshold() -> None:
    told = rates(FOUR, np.array([0.2, 0.6, 0.8]), seed=1)

    assert told.precision[0].tolist() == [2 / 4, 1 / 2, 1]
    assert told.recall[0].tolist() == [2 / 5, 1 / 5, 1 / 5]
    assert told.f1[0].tolist() == [4 / 9, 2 / 7, 2 / 6]


def test_a_detection_exactly_at_a_threshold_counts() -> None:
    exactly = outcomes_of([float(np.float32(score)) for score in GRID], [True] * 95, [0] * 95, [95])

    told = rates(exactly, GRID, seed=1)

    np.testing.assert_array_equal(told.recall[0], np.arange(95, 0, -1) / 95)


def test_where_nothing_is_left_there_is_no_precision_and_all_is_missed() -> None:
    told = rates(FOUR, np.array([0.95]), seed=1)

    assert np.isnan(told.precision).all()
    assert told.recall[:, 0] == pytest.approx([0, 0, 1 - 0.025 ** (1 / 5)])  # of 5 objects
    assert told.f1[:, 0].tolist() == [0, 0, 0]


def test_a_class_that_nobody_drew_and_nothing_found_has_no_rates() -> None:
    told = rates(outcomes_of([], [], [], [0, 0]), GRID, seed=1)

    assert all(np.isnan(part).all() for part in (told.precision, told.recall, told.f1))
    assert all(part.shape == (3, 95) for part in (told.precision, told.recall, told.f1))


def test_the_same_seed_gives_the_same_intervals() -> None:
    one, again = (rates(any_outcomes(3, 40), GRID, seed=7) for _ in range(2))

    np.testing.assert_array_equal(one.f1, again.f1)


def test_an_interval_goes_by_data_units_not_by_detections() -> None:
    """One unit says no more, however many objects it holds."""
    by_unit = outcomes_of([0.9] * 60, [True] * 30 + [False] * 30, [0] * 30 + [1] * 30, [30, 30])

    assert rates(by_unit, np.array([0.5]), seed=1).precision[:, 0].tolist() == [0.5, 0, 1]


@pytest.mark.parametrize("units", [10, 40])
def test_intervals_hold_what_is_true_about_as_often_as_they_say(units: int) -> None:
    shares = np.mean([held(units, seed) for seed in range(200)], axis=0)

    assert (shares >= 0.9).all()


def test_with_many_units_the_ends_are_the_plain_percentiles_and_with_few_further_out() -> None:
    assert interval_ends(100_000) == pytest.approx((0.025, 0.975), abs=1e-4)
    assert interval_ends(10) == pytest.approx((0.0086, 0.9914), abs=1e-4)
    assert interval_ends(1) == interval_ends(2)


def test_ious_are_averaged_over_what_is_right_at_the_threshold() -> None:
    told = mean_ious(often(FOUR, 10), 0.5, seed=1)

    assert [tuple(vars(it).values()) for it in told if it] == [pytest.approx((0.8,) * 3), pytest.approx((0.4,) * 3)]


def test_where_little_is_right_there_is_no_iou_and_for_boxes_no_boundary() -> None:
    many = often(FOUR, 10)
    boxes = replace(many, boundary_ious=np.full(40, np.nan))

    assert mean_ious(FOUR, 0.5, seed=1) == (None, None)
    assert mean_ious(many, 0.95, seed=1) == (None, None)
    assert mean_ious(boxes, 0.5, seed=1)[1] is None


def test_where_all_is_right_or_none_the_interval_says_of_how_many() -> None:
    all_right = outcomes_of([0.9] * 20, [True] * 20, list(range(20)), [1] * 20)
    told = rates(all_right, np.array([0.5]), seed=1)

    assert told.precision[:, 0] == pytest.approx([1, 0.832, 1], abs=1e-3)  # binomial, 20 of 20


def often(found: Outcomes, times: int) -> Outcomes:
    arrays = (np.tile(part, times) for part in (found.scores, found.ious, found.boundary_ious, found.units))
    return Outcomes(*arrays, found.objects * times)

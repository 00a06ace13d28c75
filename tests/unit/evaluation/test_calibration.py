"""Confidence held against what was right: curves fitted on one half of the rows, judged on the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autolabel.evaluation.calibration import CURVE_SCORES, fit_curve, reliability
from autolabel.evaluation.values import Outcomes, Reliability, TooFew
from benching.reviewers import FINE, RIGHT, Reviewer, density

RIGHTS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60)


def told(right: str, count: int) -> Reliability:
    found = reliability(Reviewer(right, "even").outcomes(count, 0), seed=0)
    assert isinstance(found, Reliability)
    return found


@settings(max_examples=25, deadline=None)
@given(RIGHTS)
def test_a_curve_never_falls_and_stays_a_chance(detections: list[tuple[float, bool]]) -> None:
    scores, rights = (np.array([one[part] for one in detections]) for part in (0, 1))
    curve = fit_curve(scores.astype(np.float64), rights.astype(bool))
    assert curve.shape == CURVE_SCORES.shape
    assert (np.diff(curve) >= 0).all()
    assert 0 <= curve[0] <= curve[-1] <= 1


@pytest.mark.parametrize("right", ["logistic", "logit", "plateau"])
def test_knots_are_near_the_truth(right: str) -> None:
    found = told(right, 5000)
    scores, chances = np.array(found.knots).T
    off = abs(np.interp(FINE, scores, chances) - RIGHT[right](FINE))
    assert off @ density("even") <= 0.03


@pytest.mark.parametrize("right", ["logistic", "logit", "steep"])
def test_calibrated_confidence_holds_on_the_half_that_was_not_fitted_on(right: str) -> None:
    found = told(right, 5000)
    assert found.calibrated_ece <= 0.03 < found.ece


def test_a_true_confidence_errs_no_more_than_by_chance() -> None:
    found = told("steep", 2000)
    assert found.calibrated_ece < 2 * found.ece_by_chance


def test_bins_hold_the_other_half_in_equal_parts_by_rising_score() -> None:
    found = told("logistic", 1000)
    assert found.count.sum() == pytest.approx(500, abs=60)
    assert np.ptp(found.count) <= 1
    assert (np.diff(found.mean_score) > 0).all()
    assert (np.diff(found.calibrated) >= 0).all()


def test_knots_rise_and_are_few() -> None:
    scores, chances = np.array(told("logistic", 2000).knots).T
    assert (np.diff(scores) > 0).all()
    assert (np.diff(chances) >= 0).all()
    assert (scores[0], scores[-1]) == (0, 1)
    assert len(scores) <= 25


def test_a_reliability_is_the_same_for_the_same_seed() -> None:
    found = Reviewer("logistic", "low").outcomes(400, 1)
    first, second = reliability(found, seed=2), reliability(found, seed=2)
    assert isinstance(first, Reliability)
    assert isinstance(second, Reliability)
    assert (first.knots, first.calibrated_ece) == (second.knots, second.calibrated_ece)


@pytest.mark.parametrize(
    ("right", "false", "units", "says"),
    [
        (40, 20, 30, "60 of 200 detections"),
        (10, 200, 30, "10 of 20 right detections"),
        (200, 10, 30, "10 of 20 false detections"),
        (100, 100, 5, "5 of 10 label rows with detections"),
    ],
)
def test_too_few_say_how_many_are_needed(right: int, false: int, units: int, says: str) -> None:
    count = right + false
    ious = np.where(np.arange(count) < right, 0.9, 0.0)
    found = Outcomes(np.linspace(0.1, 0.9, count), ious, ious, np.arange(count) % units, np.zeros(units, np.intp))
    answer = reliability(found, seed=0)
    assert isinstance(answer, TooFew)
    assert str(answer) == says

"""Two variants on the same rows: a difference is shown where there is one, and seldom where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autolabel.evaluation.comparing import TOGETHER, Contest, compare
from autolabel.evaluation.values import Difference, Estimate, Outcomes, TooFew
from benching.variants import NAMES, World, contests, edit_s, score


def difference(found: Difference | TooFew) -> Difference:
    assert isinstance(found, Difference)
    return found


def outcomes(found: int, units: int = 20) -> Outcomes:
    """Two objects in each data unit, of which the first `found` are found, and one false box."""
    ious, scores = np.array([0.9] * found + [0.0]), np.array([0.8] * found + [0.6])
    nothing = np.full(units * (found + 1), np.nan)
    places = np.repeat(np.arange(units), found + 1)
    return Outcomes(np.tile(scores, units), np.tile(ious, units), nothing, places, np.full(units, 2))


def contest(a: Outcomes, b: Outcomes, threshold: float | None = 0.5) -> Contest:
    return Contest(a, b, lambda _: threshold, edit_s)


def test_figures_are_those_of_b_less_those_of_a() -> None:
    found = difference(compare({"x": contest(outcomes(1), outcomes(2))}, NAMES, 0)["x"])

    assert found.recall == Estimate(0.5, 0.5, 0.5)
    assert found.precision.value == pytest.approx(2 / 3 - 1 / 2)
    assert found.f1.value == pytest.approx(4 / 5 - 2 / 4)
    assert found.saved_s.value == pytest.approx((7.0 - 1.4) / 2)


def test_no_share_differs_by_more_than_1() -> None:
    all_found = outcomes(2, 15)
    missed = all_found.units < 1
    b = replace(all_found, ious=np.where(missed, 0.0, all_found.ious))
    found = difference(compare({"x": contest(outcomes(0, 15), b)}, NAMES, 0)["x"])
    assert found.recall.value == pytest.approx(28 / 30)
    assert found.recall.low < 0.9
    assert found.recall.high == 1.0


def test_the_better_one_is_named_with_what_it_saves_whichever_it_is() -> None:
    says = "is better: saves 2.8 s more an object (2.8 to 2.8), recall +0.50 (0.50 to 0.50), precision +0.17"

    assert difference(compare({"x": contest(outcomes(1), outcomes(2))}, NAMES, 0)["x"]).text.startswith(
        f"b.yaml {says}"
    )
    assert difference(compare({"x": contest(outcomes(2), outcomes(1))}, NAMES, 0)["x"]).text.startswith(
        f"a.yaml {says}"
    )


def test_of_equal_outcomes_no_difference_is_shown() -> None:
    found = difference(compare({"x": contest(outcomes(1), outcomes(1))}, NAMES, 0)["x"])

    assert found.text == "no difference shown (b.yaml saves +0.0 to +0.0 s an object)"


def test_variants_that_leave_a_class_to_people_find_nothing_and_save_nothing() -> None:
    found = difference(compare({"x": contest(outcomes(1), outcomes(2), None)}, NAMES, 0)["x"])

    assert found.recall == found.saved_s == Estimate(0.0, 0.0, 0.0)
    assert np.isnan(found.precision.value)


def test_thresholds_come_from_the_other_half_of_the_data_units() -> None:
    seen = []

    def chosen(part: Outcomes) -> float:
        seen.append((int(part.objects.sum()), part.scores.size))
        return 0.5

    compare({"x": Contest(outcomes(1), outcomes(2), chosen, edit_s)}, NAMES, 0)

    assert set(seen) == {(20, 20), (20, 30)}


@pytest.mark.parametrize(
    ("units", "lacking"),
    [(14, TooFew(28, 30, "objects")), (9, TooFew(9, 10, "label rows with objects"))],
)
def test_too_few_objects_or_data_units_give_no_figure_but_count_for_all_together(units: int, lacking: TooFew) -> None:
    few = outcomes(1, 20)
    few = replace(few, objects=np.where(np.arange(20) < units, 2 if units > 10 else 4, 0))

    found = compare({"few": contest(few, few), "x": contest(outcomes(1), outcomes(2))}, NAMES, 0)

    assert found["few"] == lacking
    assert difference(found[TOGETHER]).recall.value == pytest.approx(20 / (40 + few.objects.sum()))


def test_the_same_rows_and_seed_give_the_same_figures() -> None:
    own = contests(World(40, 2), 3)

    assert compare(own, NAMES, 7) == compare(own, NAMES, 7)


def test_intervals_of_more_classes_are_wider_so_that_all_hold_at_once() -> None:
    own = contests(World(40, 8), 1)
    alone, among = (difference(compare(some, NAMES, 7)["class 0"]) for some in ({"class 0": own["class 0"]}, own))

    assert among.saved_s.value == alone.saved_s.value
    assert among.saved_s.high - among.saved_s.low > 1.3 * (alone.saved_s.high - alone.saved_s.low)


def test_variants_on_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="same rows"):
        compare({"x": contest(outcomes(1, 20), outcomes(1, 21))}, NAMES, 0)


def test_of_equal_variants_a_difference_is_seldom_shown_for_any_class() -> None:
    equal = score(World(40, 4), 100)

    assert equal.any_claimed <= 0.05
    assert equal.together_claimed <= 0.1


def test_a_true_gain_is_found_and_lies_in_its_interval() -> None:
    better = score(World(150, 1, gain=1.2), 100)

    assert better.found >= 0.85
    assert better.held >= 0.93

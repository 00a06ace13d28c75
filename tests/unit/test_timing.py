"""The ratio of times: what is exact, what is refused, and how often its interval holds the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolabel.evaluation.timing import describe, time_ratio
from autolabel.evaluation.values import Estimate, TimeRatio, TooFew
from benching.coverage import held, worlds

Rows = list[tuple[float, bool, str]]


def judged(rows: Rows) -> TimeRatio | TooFew:
    seconds, has, who = zip(*rows, strict=True) if rows else ((), (), ())
    return time_ratio(np.array(seconds, float), np.array(has, bool), who)


def shown(rows: Rows) -> TimeRatio:
    found = judged(rows)
    assert isinstance(found, TimeRatio), found
    return found


def rows_of(name: str, pace_s: float, ratio: float, count: int = 20, noise: float = 0.0) -> Rows:
    """As many with as without; the noise alternates, so that means are exact."""
    wobble = [math.exp(noise * (-1) ** n) for n in range(count)]
    return [(pace_s * w * (ratio if has else 1), has, name) for has in (True, False) for w in wobble]


def test_people_of_any_speed_are_compared_with_themselves() -> None:
    rows = rows_of("slow", 90, 0.7) + rows_of("quick", 12, 0.7, 30) + rows_of("third", 40, 0.7, 12)
    found = shown(rows)
    assert [found.ratio.value, found.ratio.low, found.ratio.high] == pytest.approx([0.7] * 3)
    assert (found.rows, found.annotators) == ((62, 62), 3)


def test_whoever_worked_in_one_arm_only_counts_for_nothing() -> None:
    both = rows_of("a", 90, 0.7) + rows_of("b", 40, 0.8) + rows_of("c", 40, 0.6)
    one_arm = [(5.0, True, "d")] * 50 + [(500.0, False, "e")] * 50
    assert judged(both + one_arm) == judged(both)
    assert judged(one_arm) == TooFew(0, 10, "rows with pre-labels by annotators who did both")


def test_annotators_who_gain_alike_give_an_interval_as_a_t_test_of_their_ratios_does() -> None:
    ratios = [0.6, 0.7, 0.8, 0.9]
    found = shown([row for i, ratio in enumerate(ratios) for row in rows_of(str(i), 30, ratio)])
    logs = np.log(ratios)
    half = 3.1824463053 * logs.std(ddof=1) / 2
    assert np.log([found.ratio.low, found.ratio.high]) == pytest.approx([logs.mean() - half, logs.mean() + half])


def test_the_holdout_that_is_too_small_is_named_then_the_rows_that_are_missing_for_the_noise() -> None:
    few = [row for name in "abc" for row in rows_of(name, 30, 0.7, 3)]
    assert judged(few) == TooFew(9, 12, "rows with pre-labels by annotators who did both")
    noisy = [row for name in "abc" for row in rows_of(name, 30, 0.7, 20, noise=0.5)]
    found = judged(noisy)
    assert isinstance(found, TooFew)
    assert (found.have, found.what) == (120, "rows")
    enough = [row for name in "abc" for row in rows_of(name, 30, 0.7, found.needed // 6 + 1, noise=0.5)]
    assert isinstance(judged(enough), TimeRatio)


def test_one_or_two_annotators_get_an_interval_of_their_own_rows() -> None:
    found = shown(rows_of("only", 30, 0.7, 100, noise=0.5))
    assert found.ratio.low < 0.7 < found.ratio.high
    assert describe(found).endswith("30 % less time, of this one annotator alone")
    two = rows_of("a", 30, 0.7, 100, noise=0.5) + rows_of("b", 90, 0.7, 100, noise=0.5)
    assert shown(two).ratio.low > found.ratio.low


def test_two_annotators_who_gain_differently_are_not_told_as_one() -> None:
    for ratios in ((0.5, 1.5), (1.5, 0.5)):
        found = judged([row for name, ratio in zip("ab", ratios, strict=True) for row in rows_of(name, 30, ratio)])
        assert isinstance(found, TooFew)
        assert (found.have, found.needed) == (2, 3)
        assert describe(found).startswith("not yet: 2 of 3 annotators, since what these gain differs")


def test_annotators_whose_effects_differ_hugely_are_told_by_the_ends_of_the_interval_alone() -> None:
    rows = [row for name, ratio in zip("abc", (0.3, 1.0, 3.5), strict=True) for row in rows_of(name, 30, ratio)]
    assert describe(shown(rows)).startswith("no difference shown: between 0.05 and 21.50 times")


@given(st.permutations(range(60)), st.floats(0.1, 10))
def test_neither_order_nor_the_unit_of_time_changes_anything(order: list[int], unit: float) -> None:
    rows = [row for i, name in enumerate("abc") for row in rows_of(name, 30, 0.6 + i / 10, 10, noise=0.05)]
    before, after = shown(rows), shown([(rows[i][0] * unit, *rows[i][1:]) for i in order])
    assert np.log([after.ratio.low, after.ratio.high]) == pytest.approx(np.log([before.ratio.low, before.ratio.high]))


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        ((0.72, 0.64, 0.81), "0.72 times the seconds of rows from nothing (0.64 to 0.81): 28 % less time"),
        ((1.2, 1.1, 1.3), "1.20 times the seconds of rows from nothing (1.10 to 1.30): 20 % more time"),
        (
            (0.98, 0.96, 0.996),
            "no difference shown: 0.98 times the seconds of rows from nothing (0.96 to 1.00)",
        ),
        (
            (1.02, 0.05, 19.0),
            "no difference shown: between 0.05 and 19.00 times the seconds of rows from nothing, since what these 7 "
            "annotators gain differs much: only more annotators would tell",
        ),
        (
            (0.2, 0.05, 0.8),
            "less time: between 0.05 and 0.80 times the seconds of rows from nothing, since what these 7 annotators "
            "gain differs much: only more annotators would tell how much",
        ),
        ((0.95, 0.8, 1.1), "no difference shown: 0.95 times the seconds of rows from nothing (0.80 to 1.10)"),
    ],
)
def test_the_result_is_told_in_words(ratio: tuple[float, float, float], words: str) -> None:
    assert describe(TimeRatio(Estimate(*ratio), (500, 60), 7)) == words


def test_too_few_rows_are_told_instead_of_a_number() -> None:
    assert describe(TooFew(31, 86, "rows")) == "not yet: 31 of 86 rows"


def test_the_interval_holds_the_true_ratio_and_no_difference_is_shown_where_there_is_none() -> None:
    found = [held(world, range(60)) for world in [*worlds()][::8]]
    shown, at_one = sum(one.shown for one in found), sum(one.at_one for one in found)
    assert sum(one.held for one in found) >= 0.93 * shown
    assert sum(one.silent for one in found) >= 0.93 * at_one
    assert (shown > 1500, at_one > 500) == (True, True)

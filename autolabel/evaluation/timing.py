"""Whether people are quicker with pre-labels: the ratio of the times that rows take them, with its interval.

Rows are given to the two arms by chance, people are not given rows by chance and differ in speed: so each person is
compared with themselves, and what is new about another person is learnt from how much these comparisons differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from autolabel.evaluation.values import Estimate, Floats, TimeRatio, TooFew

FEWEST_ANNOTATORS = 3
"""From here on the interval is about people in general: t on one degree of freedom is 12.7, and says nothing."""
SPARE_ROWS = 9
"""Rows an arm beyond one an annotator: then the spread of both arms together, which tells how many rows are needed,
is itself known to about 17 %, 1 / sqrt(2 * 18)."""
FACTOR = 1.25
"""No figure while the rows alone would put the ends of the interval further than this from it."""
WIDE = 2.0
"""No middle is told of an interval whose ends are further than this from it. It is told all the same: to leave out
intervals for their own width is to choose those of people who happen to be alike, and with three annotators whose
effects differ by 0.3 (0.6, 1.0) only 87 (67, 50) of 100 that are left would hold the ratio, instead of 92 or more."""
ARMS = ("with", "without")


class _Precision(NamedTuple):
    """How much each annotator counts (J,), summing to 1; the standard error and its degrees of freedom."""

    shares: Floats
    error: float
    freedom: float


def time_ratio(seconds: Floats, with_prelabels: NDArray[np.bool_], annotators: Sequence[str]) -> TimeRatio | TooFew:
    """How the time that a row takes with pre-labels compares with that from nothing. One entry a row, each above 0 s.

    The ratio of geometric means within an annotator, averaged over annotators. Annotators who worked in one way only
    tell nothing of it: their rows are not counted. With three annotators or more the interval is clustered by
    annotator, and holds for others like them; with fewer it is about the rows of these people alone.
    """
    people, who = np.unique(np.asarray(annotators, str), return_inverse=True)
    arm = np.where(with_prelabels, 0, 1)
    cell = arm * len(people) + who
    counts = np.bincount(cell, minlength=2 * len(people)).reshape(2, len(people))
    counted = np.all(counts > 0, axis=0)[who]
    if not counted.all():
        kept = [name for name, is_counted in zip(annotators, counted, strict=True) if is_counted]
        return time_ratio(seconds[counted], with_prelabels[counted], kept)
    rows = counts.sum(axis=1)
    scarce, least = int(rows.argmin()), max(len(people), 1) + SPARE_ROWS
    if rows[scarce] < least:
        return TooFew(int(rows[scarce]), least, f"rows {ARMS[scarce]} pre-labels by annotators who did both")
    logs = np.log(seconds)
    means = np.bincount(cell, logs).reshape(counts.shape) / counts
    noise = np.bincount(arm, (logs - means.ravel()[cell]) ** 2) / (rows - len(people))
    return _judged(means[0] - means[1], noise, counts)


def _judged(differences: Floats, noise: Floats, counts: NDArray[np.intp]) -> TimeRatio | TooFew:
    """From the differences of mean logarithms (J,), the variance of a row in each arm (2,), the rows (2, J)."""
    rows, people = counts.sum(axis=1), counts.shape[1]
    are_few = people < FEWEST_ANNOTATORS
    precision = _of_rows(noise, counts) if are_few else _of_people(differences, counts)
    reach = float(stdtrit(precision.freedom, 0.975))
    if are_few and _differ(differences, noise, counts, reach):
        return TooFew(people, FEWEST_ANNOTATORS, "annotators, since what these gain differs by more than chance")
    by_rows = reach * _error_of_rows(precision.shares, noise, counts)
    needed = math.ceil(rows.sum() * (by_rows / math.log(FACTOR)) ** 2)
    if needed > rows.sum():
        return TooFew(int(rows.sum()), needed, "rows")
    middle, half = float(precision.shares @ differences), reach * precision.error
    ratio = Estimate(*(math.exp(value) for value in (middle, middle - half, middle + half)))
    return TimeRatio(ratio, (int(rows[0]), int(rows[1])), people)


def _of_people(differences: Floats, counts: NDArray[np.intp]) -> _Precision:
    """Clustered: CR2 with Bell and McCaffrey's degrees of freedom, which for one number a cluster is this short.

    Shares depend on counts alone. They grow with an annotator's rows, at most to twice that of the middle one: where
    effects differ between people, whoever did most of the rows must not speak for all.
    """
    exactness = (1 / counts).sum(axis=0)
    shares = 1 / (exactness + np.median(exactness))
    shares /= shares.sum()
    spread = shares**2 / (1 - shares)
    error = math.sqrt(spread @ (differences - shares @ differences) ** 2)
    freedom = 1 / ((shares**2).sum() + spread.sum() ** 2 - (spread**2).sum())
    return _Precision(shares, error, float(freedom))


def _of_rows(noise: Floats, counts: NDArray[np.intp]) -> _Precision:
    """Stratified by annotator, chance being in the rows alone; the scarcer arm gives the degrees of freedom."""
    shares = 1 / (1 / counts).sum(axis=0)
    shares /= shares.sum()
    freedom = counts.sum(axis=1).min() - counts.shape[1]
    return _Precision(shares, _error_of_rows(shares, noise, counts), float(freedom))


def _differ(differences: Floats, noise: Floats, counts: NDArray[np.intp], reach: float) -> bool:
    """Whether two people gain differently: then their mean depends on who did how much. Blind to what they gain."""
    error = math.sqrt((noise[:, None] / counts).sum())
    return bool(np.ptp(differences) > reach * error)


def is_wide(result: TimeRatio) -> bool:
    """Whether only the ends of its interval are worth telling."""
    return max(result.ratio.high / result.ratio.value, result.ratio.value / result.ratio.low) > WIDE


def _error_of_rows(shares: Floats, noise: Floats, counts: NDArray[np.intp]) -> float:
    """The standard error if all annotators gained alike."""
    return math.sqrt((shares**2 * (noise[:, None] / counts)).sum())


def describe(result: TimeRatio | TooFew) -> str:
    """In words for people."""
    if isinstance(result, TooFew):
        return f"not yet: {result}"
    value, low, high = (round(end, 2) for end in (result.ratio.value, result.ratio.low, result.ratio.high))
    shows_none, word = low <= 1 <= high, "less" if value < 1 else "more"
    if is_wide(result):
        figure = (
            f"between {low:.2f} and {high:.2f} times the seconds of rows from nothing, since what these "
            f"{result.annotators} annotators gain differs much: only more annotators would tell"
        )
        return f"no difference shown: {figure}" if shows_none else f"{word} time: {figure} how much"
    figure = f"{value:.2f} times the seconds of rows from nothing ({low:.2f} to {high:.2f})"
    alone = {1: ", of this one annotator alone", 2: ", of these two annotators alone"}.get(result.annotators, "")
    if shows_none:
        return f"no difference shown: {figure}{alone}"
    return f"{figure}: {100 * abs(1 - value):.0f} % {word} time{alone}"

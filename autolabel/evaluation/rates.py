"""What is right of what was found, by threshold, with intervals."""

from __future__ import annotations

import numpy as np

from autolabel.evaluation.samples import Flags, ratio, ratios, reaches, resample
from autolabel.evaluation.values import Estimate, Floats, Outcomes, Rates

GRID: Floats = np.round(np.arange(0.05, 1.0, 0.01), 2)
"""Thresholds at which rates are given: hundredths from the floor that a trial looks down to."""
MIN_RIGHT = 10
"""Right detections of which a mean IoU is given."""


def rates(outcomes: Outcomes, thresholds: Floats, seed: int) -> Rates:
    """Precision, recall and F1 at each threshold; intervals by resampled data units.

    Where all are right or none is, no resample differs: there Clopper and Pearson's interval is taken.
    NaN where there is nothing to divide by: recall of a class that nobody drew, precision of nothing found.
    """
    is_kept = reaches(outcomes.scores[:, None], thresholds)
    found = _by_unit(outcomes, is_kept)
    right = _by_unit(outcomes, is_kept & outcomes.is_right[:, None])
    objects = np.repeat(outcomes.objects[:, None], len(thresholds), axis=1).astype(np.float64)
    weights = resample(len(objects), seed)
    return Rates(
        thresholds,
        precision=_widened(ratios(right, found, weights), found.sum(axis=0)),
        recall=_widened(ratios(right, objects, weights), objects.sum(axis=0)),
        f1=ratios(2 * right, found + objects, weights),
    )


def _widened(shares: Floats, counts: Floats) -> Floats:
    """(3, T) shares with their intervals, of (T,) counts."""
    value, low, high = shares
    reach = 0.025 ** (1 / np.maximum(counts, 1))
    low = np.where(value == 1, np.minimum(low, reach), low)
    high = np.where(value == 0, np.maximum(high, 1 - reach), high)
    return np.vstack([value, low, high])


def mean_ious(outcomes: Outcomes, threshold: float, seed: int) -> tuple[Estimate | None, Estimate | None]:
    """IoU and boundary IoU, on average over right detections that reach the threshold; None where these are few."""
    is_judged = outcomes.is_right & reaches(outcomes.scores, threshold)
    weights = resample(len(outcomes.objects), seed)
    return (
        _mean(outcomes, outcomes.ious, is_judged, weights),
        _mean(outcomes, outcomes.boundary_ious, is_judged & ~np.isnan(outcomes.boundary_ious), weights),
    )


def _mean(outcomes: Outcomes, values: Floats, is_judged: Flags, weights: Floats) -> Estimate | None:
    if np.count_nonzero(is_judged) < MIN_RIGHT:
        return None
    total = _by_unit(outcomes, np.where(is_judged, values, 0)[:, None])
    return ratio(total[:, 0], _by_unit(outcomes, is_judged[:, None])[:, 0], weights)


def _by_unit(outcomes: Outcomes, amounts: Floats | Flags) -> Floats:
    """(N, T) of detections -> (U, T) sums of data units."""
    sums = [np.bincount(outcomes.units, column, minlength=len(outcomes.objects)) for column in amounts.T]
    return np.stack(sums, axis=1)

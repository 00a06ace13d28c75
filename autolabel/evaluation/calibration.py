"""How often detections of a score are right: fitted, and judged on data units that were not fitted on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autolabel.evaluation.samples import MIN_UNITS, lacking
from autolabel.evaluation.values import Floats, Outcomes, Reliability, TooFew

CURVE_SCORES: Floats = np.linspace(0, 1, 101)
"""Where a fitted curve is held; linear in between."""
MIN_DETECTIONS, MIN_OF_EACH = 200, 20
"""Half of each is fitted on: with 10 right ones or fewer a curve is mostly chance, and 100 judged detections in
10 bins tell a bin's share to 0.3 at best."""
BINS, MIN_IN_BIN, ROUNDS = 10, 10, 1000
KNOT_ERROR = 0.003
"""How far the straight lines between knots may be from the curve."""


def fit_curve(scores: Floats, is_right: NDArray[np.bool_]) -> Floats:
    """Scores (N,) of detections and which are right (N,) -> P(right | score) at CURVE_SCORES (101,), never falling.

    A logistic regression on log(s) and log(1 - s), as in beta calibration (Kull et al. 2017), and on s and s^2, which
    let it level off below 1; where it falls, it is made level. Of a dozen curves this one came nearest to the truth
    of simulated reviewers, isotonic regression least near. Flat where all are right, all are false, or none is there.
    """
    from sklearn.isotonic import isotonic_regression  # their import takes seconds
    from sklearn.linear_model import LogisticRegression

    right = int(is_right.sum())
    if right in (0, is_right.size):
        return np.full(CURVE_SCORES.size, (right + 1) / (is_right.size + 2))
    columns = _columns(scores)
    mean, spread = columns.mean(axis=0), columns.std(axis=0) + 1e-9
    model = LogisticRegression(C=10.0, solver="newton-cholesky").fit((columns - mean) / spread, is_right)
    curve = model.predict_proba((_columns(CURVE_SCORES) - mean) / spread)[:, 1]
    curve = curve.clip(1 / (is_right.size + 2), 1 - 1 / (is_right.size + 2))  # nothing is certain
    weight = np.bincount(np.rint(scores * 100).astype(np.intp), minlength=CURVE_SCORES.size) + 1e-3
    return np.asarray(isotonic_regression(curve, sample_weight=weight))


def _columns(scores: Floats) -> Floats:
    within = np.clip(scores, 1e-3, 1 - 1e-3)
    return np.stack([scores, scores**2, np.log(within), -np.log(1 - within)], axis=1)


def reliability(outcomes: Outcomes, seed: int) -> Reliability | TooFew:
    """Fit on one half of the data units, judge on the other; the knots are of all of them."""
    right, units = int(outcomes.is_right.sum()), np.unique(outcomes.units)
    if few := lacking(
        (outcomes.scores.size, MIN_DETECTIONS, "detections"),
        (right, MIN_OF_EACH, "right detections"),
        (outcomes.scores.size - right, MIN_OF_EACH, "false detections"),
        (units.size, MIN_UNITS, "label rows with detections"),
    ):
        return few
    random = np.random.default_rng(seed)
    is_fitted_on = np.isin(outcomes.units, random.permutation(units)[: units.size // 2])
    curve = fit_curve(outcomes.scores[is_fitted_on], outcomes.is_right[is_fitted_on])
    order = np.argsort(outcomes.scores[~is_fitted_on], kind="stable")
    scores, is_right = outcomes.scores[~is_fitted_on][order], outcomes.is_right[~is_fitted_on][order]
    calibrated = np.interp(scores, CURVE_SCORES, curve)
    starts = np.linspace(0, scores.size, min(BINS, max(1, scores.size // MIN_IN_BIN)) + 1).astype(np.intp)[:-1]
    count = np.diff(np.append(starts, scores.size))
    share_right = np.add.reduceat(is_right.astype(np.float64), starts) / count
    mean_score, mean_calibrated = np.add.reduceat(scores, starts) / count, np.add.reduceat(calibrated, starts) / count
    by_chance = random.random((ROUNDS, scores.size)) < calibrated
    shares = np.add.reduceat(by_chance.astype(np.float64), starts, axis=1) / count
    return Reliability(
        mean_score=mean_score,
        share_right=share_right,
        count=count,
        calibrated=mean_calibrated,
        ece=_error(mean_score, share_right, count),
        calibrated_ece=_error(mean_calibrated, share_right, count),
        ece_by_chance=_error(mean_calibrated, shares, count),
        knots=_knots(fit_curve(outcomes.scores, outcomes.is_right)),
    )


def _error(confidence: Floats, share_right: Floats, count: NDArray[np.intp]) -> float:
    """Expected calibration error over bins (B,); of several rounds (R, B) their mean."""
    return float(np.mean(np.abs(confidence - share_right) @ (count / count.sum())))


def _knots(curve: Floats) -> tuple[tuple[float, float], ...]:
    """As few points as keep straight lines near the curve."""
    import cv2  # no command but a trial's is to wait for it

    points = np.stack([CURVE_SCORES, curve], axis=1).astype(np.float32)
    kept = cv2.approxPolyDP(points[:, None], KNOT_ERROR, closed=False)[:, 0]
    return tuple((round(float(score), 2), round(float(chance), 4)) for score, chance in kept)

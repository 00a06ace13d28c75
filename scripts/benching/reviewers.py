"""Simulated reviewers whose tastes and seconds are known: how near thresholds, confidences and verdicts come to the
truth.

    PYTHONPATH=.:scripts python -m benching.reviewers

What is missed: of thresholds from 500 detections 71 in 100 are within 0.02 of the best one, from 500 objects (563 to
3124 detections) 79, from 2000 detections 89. Most are missed where the chance to be right rises slowly ("square"),
and little hangs on a threshold there: nowhere are more than 28 ms a detection lost on average.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal

import numpy as np

from autolabel.core.prompts import Shape
from autolabel.evaluation.calibration import reliability
from autolabel.evaluation.costs import Costs, judge, suggest_threshold
from autolabel.evaluation.values import Floats, Outcomes, TooFew, Worth

FLOOR = 0.05
FINE = np.linspace(FLOOR, 1, 4001)
"""Scores at which the truth is reckoned."""


def _logistic(values: Floats) -> Floats:
    return 1 / (1 + np.exp(-values))


def _logit(scores: Floats) -> Floats:
    return np.log(scores / (1 - scores))


RIGHT: dict[str, Callable[[Floats], Floats]] = {
    "logistic": lambda scores: _logistic(12 * (scores - 0.4)),
    "steep": lambda scores: _logistic(25 * (scores - 0.35)),
    "logit": lambda scores: _logistic(1.8 * _logit(np.clip(scores, 1e-6, 1 - 1e-6)) + 1.0),
    "square": lambda scores: scores**2,
    "plateau": lambda scores: 0.02 + 0.88 * _logistic(20 * (scores - 0.3)),
    "straight": lambda scores: np.clip((scores - 0.15) / 0.5, 0.02, 0.98),
}
"""P(right | score) by shape."""

HARD: dict[str, Callable[[Floats], Floats]] = {
    "never": lambda scores: np.full_like(scores, 0.01),
    "rarely": lambda scores: 0.02 + 0.1 * scores,
    "at the edge": lambda scores: np.full_like(scores, 0.3),
    "blind": lambda scores: np.full_like(scores, 0.6),
}
"""Classes that are hardly found, or whose score says nothing: for verdicts only."""

SCORES: Mapping[str, Callable[[np.random.Generator, int], Floats]] = {
    "even": lambda random, count: random.uniform(FLOOR, 1, count),
    "low": lambda random, count: FLOOR + (1 - FLOOR) * random.beta(1.5, 4, count),
    "two humps": lambda random, count: (
        FLOOR + (1 - FLOOR) * np.where(random.random(count) < 0.6, random.beta(2, 8, count), random.beta(8, 4, count))
    ),
}
"""Scores of `count` detections by distribution."""


@cache
def density(scores: str) -> Floats:
    """Of a distribution of SCORES, on FINE; sums to 1."""
    drawn = SCORES[scores](np.random.default_rng(0), 400_000)
    counts = np.histogram(drawn, bins=np.append(FINE, 1 + FINE[1] - FINE[0]))[0].astype(float)
    width = 81
    smooth: Floats = np.convolve(np.pad(counts, width // 2, mode="edge"), np.ones(width) / width, "valid")
    return smooth / smooth.sum()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Reviewer:
    """One class with its detector and people.

    - `right`, `scores`: see RIGHT and SCORES.
    - `good`: share of right detections whose outline nobody corrects.
    - `missed`: objects a right detection that nothing finds at any score.
    - `per_unit`: mean detections a data unit.
    """

    right: str
    scores: str
    good: float = 0.7
    missed: float = 0.3
    per_unit: float = 5.0

    def outcomes(self, count: int, seed: int) -> Outcomes:
        """`count` detections, and what became of them; as many data units as they take."""
        random = np.random.default_rng(seed)
        scores = np.minimum(SCORES[self.scores](random, count), 1 - 1e-9)
        right = random.random(count) < (RIGHT | HARD)[self.right](scores)
        is_good = random.random(count) < self.good
        ious = np.where(
            right, np.where(is_good, random.uniform(0.85, 1, count), random.uniform(0.5, 0.75, count)), 0.0
        )
        unit_count = max(2, round(count / self.per_unit))
        units = random.integers(0, unit_count, count)
        objects = np.bincount(units[right], minlength=unit_count)
        objects += random.poisson(self.missed * right.mean() * self.per_unit, unit_count)
        return Outcomes(scores, ious, np.full(count, np.nan), units, objects)

    @property
    def right_share(self) -> float:
        """Of its detections."""
        return float((RIGHT | HARD)[self.right](FINE) @ density(self.scores))

    def detections(self, objects: int) -> int:
        """How many are expected, from the floor on, where people drew so many objects: a trial counts those."""
        return round(objects / (self.right_share * (1 + self.missed)))

    def true_gain(self, shape: Shape, costs: Costs) -> Floats:
        """Seconds a detection that pre-labels from each score of FINE on save."""
        of_right = costs.draw_s(shape) - costs.check_s - (1 - self.good) * costs.adjust_s(shape)
        chance = (RIGHT | HARD)[self.right](FINE)
        gain = density(self.scores) * (chance * of_right - (1 - chance) * costs.false_s)
        return np.cumsum(gain[::-1])[::-1]


PRICES: Mapping[str, tuple[Shape, Costs]] = {
    "boxes": ("bounding_box", Costs()),
    "masks": ("bitmask", Costs()),
    "dear": ("bounding_box", Costs(check_s=2.5, delete_s=4.0)),
}
TOLERANCE = 0.02 + 1e-3
"""Of a threshold in hundredths against an optimum between them."""


def threshold_errors(reviewer: Reviewer, price: str, count: int, seeds: range) -> tuple[float, Floats, Floats]:
    """The best threshold; by seed how far ours is from it, and what more it costs in seconds a detection."""
    shape, costs = PRICES[price]
    gain = reviewer.true_gain(shape, costs)
    best = float(FINE[gain.argmax()])
    found = [suggest_threshold(reviewer.outcomes(count, seed), shape, costs) for seed in seeds]
    thresholds = np.array([1.0 if threshold is None else threshold for threshold in found])
    lost = gain.max() - np.interp(thresholds, FINE, gain)
    return best, abs(thresholds - best), lost


def calibration_errors(reviewer: Reviewer, count: int, seed: int) -> tuple[float, float, float, float]:
    """Of confidence: its ECE on the other half before and after, the latter by chance, and against the truth."""
    told = reliability(reviewer.outcomes(count, seed), seed)
    if isinstance(told, TooFew):
        return (np.nan,) * 4
    scores, chances = np.array(told.knots).T
    off = abs(np.interp(FINE, scores, chances) - (RIGHT | HARD)[reviewer.right](FINE))
    return told.ece, told.calibrated_ece, told.ece_by_chance, float(off @ density(reviewer.scores))


def verdict(reviewer: Reviewer, count: int, seed: int, price: str) -> tuple[Worth, bool | None, bool]:
    """What is said, whether it is true (None where nothing is claimed), and whether the interval holds the truth.

    YES is true where the threshold saves time; NO where none saves 2 % of drawing, which nobody would notice.
    """
    shape, costs = PRICES[price]
    outcomes = reviewer.outcomes(count, seed)
    told = judge(outcomes, shape, costs, seed)
    gain = reviewer.true_gain(shape, costs)
    an_object = gain / (reviewer.right_share * (1 + reviewer.missed))
    at = float(np.interp(FLOOR if told.threshold is None else told.threshold, FINE, an_object))
    holds = isinstance(told.saved_s, TooFew) or told.threshold is None or told.saved_s.low <= at <= told.saved_s.high
    if told.worth == Worth.UNKNOWN:
        return told.worth, None, holds
    if told.worth == Worth.YES:
        return told.worth, at > 0, holds
    return told.worth, float(an_object.max()) < 0.02 * costs.draw_s(shape), holds


def _reviewers() -> list[Reviewer]:
    return [Reviewer(right, scores) for right, scores in product(RIGHT, SCORES)]


def print_thresholds(count: int, of: Literal["detections", "objects"], seeds: int) -> None:
    print(f"\nThresholds from {count} {of}: best; seeds of {seeds} within 0.02; milliseconds a detection lost")
    kinds = [f"{price:>20}" for price in PRICES]
    print(f"{'detections':>32}{''.join(kinds)}")
    shares = []
    for reviewer in _reviewers():
        found = reviewer.detections(count) if of == "objects" else count
        cells = ""
        for price in PRICES:
            best, off, lost = threshold_errors(reviewer, price, found, range(seeds))
            shares.append((off <= TOLERANCE).mean())
            cells += f"{best:8.2f} {shares[-1] * seeds:4.0f} {lost.mean() * 1000:6.1f}"
        print(f"{f'{reviewer.right}, {reviewer.scores}':24}{found:8}{cells}")
    print(f"within 0.02: {np.mean(shares):.0%} of all")


def print_calibration(count: int, seeds: int) -> None:
    print(f"\nConfidence from {count} detections, means of {seeds} seeds: ECE on the other half raw, calibrated, by")
    print("chance alone; and the error of the knots against the truth, its mean and in how many seeds it is <= 0.03")
    for reviewer in _reviewers():
        figures = np.array([calibration_errors(reviewer, count, seed) for seed in range(seeds)])
        raw, calibrated, chance, true = figures.mean(axis=0)
        held = int((figures[:, 3] <= 0.03).sum())
        name = f"{reviewer.right}, {reviewer.scores}"
        print(f"{name:24}{raw:8.3f}{calibrated:8.3f}{chance:8.3f}{true:8.3f}{held:6}")


def print_verdicts(count: int, seeds: int) -> None:
    print(f"\nVerdicts from {count} detections, {seeds} seeds: yes, of which wrong; no, of which wrong; unknown")
    totals = np.zeros(4, np.intp)
    for name, scores in product((*RIGHT, *HARD), SCORES):
        for price in PRICES:
            told = [verdict(Reviewer(name, scores), count, seed, price) for seed in range(seeds)]
            yes, no = ([truth for worth, truth, _ in told if worth == one] for one in (Worth.YES, Worth.NO))
            holds = sum(held for *_, held in told)
            totals += (len(yes), yes.count(False), len(no), no.count(False))
            print(
                f"{f'{name}, {scores}, {price}':34}{len(yes):5}{yes.count(False):5}{len(no):5}{no.count(False):5}"
                f"{seeds - len(yes) - len(no):5}   interval holds {holds}"
            )
    print(f"in all: yes {totals[0]}, of which wrong {totals[1]}; no {totals[2]}, of which wrong {totals[3]}")


if __name__ == "__main__":
    print_thresholds(500, "detections", 100)
    print_thresholds(500, "objects", 100)
    print_thresholds(2000, "detections", 100)
    for size in (500, 2000, 5000):
        print_calibration(size, 20)
    for size in (60, 200, 500):
        print_verdicts(size, 40)

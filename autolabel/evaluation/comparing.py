"""Two variants of a recipe on the same rows: what one does better, class by class, or that nothing shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autolabel.evaluation.values import Difference, Estimate, Floats, Outcomes, TooFew

MIN_OBJECTS, MIN_UNITS = 30, 10
RESAMPLES, SPLITS = 1000, 5
ERROR = 0.05
"""How often a difference may be shown for any class where there is none."""
TOGETHER = ""
MOST_LESS = np.array([-1.0, -1.0, -1.0, -np.inf])
"""Of recall, precision, F1 and seconds: no share is less than another by more than 1."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Contest:
    """One class by two variants, on the same data units.

    - `choose`: the threshold that a variant would be used at, None to leave the class to people.
    - `edit_s`: outcomes and a threshold (inf: nothing is kept) -> (U,) seconds of work in each data unit.
    """

    a: Outcomes
    b: Outcomes
    choose: Callable[[Outcomes], float | None]
    edit_s: Callable[[Outcomes, float], Floats]


def compare(contests: Mapping[str, Contest], names: tuple[str, str], seed: int) -> dict[str, Difference | TooFew]:
    """B less A for each class, and for all together under "".

    Each variant goes by thresholds that it chose on the other half of the data units. A difference is one of seconds
    saved: what is found and what is false are weighed in it, and one question a class is asked. With many classes
    one of them will differ by chance, so the intervals of all classes hold at once (Bonferroni); a step-wise rule
    (Holm, Benjamini-Hochberg) would find a little more, but with words that its intervals do not bear out. All
    together is a question of its own, answered at 95 %.
    """
    first = next(iter(contests.values()))
    random, units = np.random.default_rng(seed), first.a.objects.size
    halves = [random.permutation(units) < units // 2 for _ in range(SPLITS)]
    weights = random.multinomial(units, np.full(units, 1 / units), RESAMPLES).astype(np.float64)
    tallies = {name: _tally(contest, halves) for name, contest in contests.items()}
    together = np.sum(list(tallies.values()), axis=0)
    compared = sum(_lacking(tally) is None for tally in tallies.values())
    return {
        name: _lacking(tally) or _difference(tally, weights, names, ERROR / (1 if name == TOGETHER else compared))
        for name, tally in (tallies | {TOGETHER: together}).items()
    }


def _tally(contest: Contest, halves: Sequence[Flags]) -> Floats:
    """(SPLITS, 2, 4, U), by variant: right, kept, seconds of work, objects, in each data unit."""
    if not np.array_equal(contest.a.objects, contest.b.objects):
        raise ValueError("variants are compared on the same rows")
    return np.array([[_by_unit(own, contest, is_first) for own in (contest.a, contest.b)] for is_first in halves])


def _by_unit(outcomes: Outcomes, contest: Contest, is_first: Flags) -> Floats:
    tally = np.zeros((4, is_first.size))
    for is_chosen_on in (is_first, ~is_first):
        threshold = contest.choose(_part(outcomes, is_chosen_on))
        least = np.inf if threshold is None else threshold
        is_kept = outcomes.scores.astype(np.float32) >= np.float32(least)  # as a push compares
        units = outcomes.units[is_kept], outcomes.units[is_kept & outcomes.is_right]
        kept, right = (np.bincount(places, minlength=is_first.size) for places in units)
        judged = np.stack([right, kept, contest.edit_s(outcomes, least), outcomes.objects])
        tally += np.where(is_chosen_on, 0.0, judged)
    return tally


def _part(outcomes: Outcomes, is_in: Flags) -> Outcomes:
    """What was found and drawn in some of the data units, which keep their places."""
    found = is_in[outcomes.units]
    return replace(
        outcomes,
        scores=outcomes.scores[found],
        ious=outcomes.ious[found],
        boundary_ious=outcomes.boundary_ious[found],
        units=outcomes.units[found],
        objects=np.where(is_in, outcomes.objects, 0),
    )


def _lacking(tally: Floats) -> TooFew | None:
    objects = tally[0, 0, 3]
    if (have := round(objects.sum())) < MIN_OBJECTS:
        return TooFew(have, MIN_OBJECTS, "objects")
    if (have := int(np.count_nonzero(objects))) < MIN_UNITS:
        return TooFew(have, MIN_UNITS, "label rows with objects")
    return None


def _difference(tally: Floats, weights: Floats, names: tuple[str, str], error: float) -> Difference:
    """The spread is that of resampled data units, the same for both variants, and that of other halves that choose
    the thresholds: those are a matter of luck too. Few data units make it wider (t)."""
    from scipy.stats import t

    by_split = _gain(tally.sum(axis=3))
    mean, units = tally.mean(axis=0), tally.shape[-1]
    value = _gain(mean.sum(axis=2))
    drawn = np.moveaxis(mean @ weights.T, -1, 0)
    resampled = _gain(drawn[drawn[:, 0, 3] > 0])
    spread = np.sqrt(_variance(resampled) * units / (units - 1) + _variance(by_split) * SPLITS / (SPLITS - 1))
    telling = np.count_nonzero(mean.any(axis=(0, 1)))
    reach = float(t.ppf(1 - error / 2, telling - 1)) * spread
    ends = np.clip([value - reach, value + reach], MOST_LESS, -MOST_LESS)
    recall, precision, f1, saved = (Estimate(*own.tolist()) for own in np.stack([value, *ends], axis=1))
    return Difference(recall, precision, f1, saved, _in_words(recall, precision, saved, names))


def _gain(sums: Floats) -> Floats:
    """(..., 2, 4) sums of tallies -> (..., 4) figures of B less those of A."""
    figures = _figures(sums)
    return figures[..., 1, :] - figures[..., 0, :]


def _figures(sums: Floats) -> Floats:
    """(..., 4) sums of a tally -> (..., 4) recall, precision, F1, seconds saved an object; NaN for 0 of 0."""
    right, kept, seconds, objects = np.moveaxis(sums, -1, 0)
    precision = np.divide(right, kept, out=np.full_like(right, np.nan), where=kept > 0)
    return np.stack([right / objects, precision, 2 * right / (kept + objects), -seconds / objects], axis=-1)


def _variance(samples: Floats) -> Floats:
    """(R, 4) -> (4,) of what is there."""
    is_there = np.isfinite(samples)
    count = np.maximum(is_there.sum(axis=0), 1)
    mean = np.where(is_there, samples, 0.0).sum(axis=0) / count
    variance: Floats = np.where(is_there, (samples - mean) ** 2, 0.0).sum(axis=0) / count
    return variance


def _in_words(recall: Estimate, precision: Estimate, saved: Estimate, names: tuple[str, str]) -> str:
    if saved.low <= 0 <= saved.high:
        return f"no difference shown ({names[1]} saves {saved.low:+.1f} to {saved.high:+.1f} s an object)"
    better, sign = (names[1], 1) if saved.value > 0 else (names[0], -1)
    low, high = sorted((sign * saved.low, sign * saved.high))
    shares = [
        f"{what} {sign * own.value:+.2f} ({min(ends):.2f} to {max(ends):.2f})"
        for what, own in (("recall", recall), ("precision", precision))
        if np.isfinite(own.value) and (ends := (sign * own.low, sign * own.high))
    ]
    return f"{better} is better: " + ", ".join(
        (f"saves {abs(saved.value):.1f} s more an object ({low:.1f} to {high:.1f})", *shares)
    )

"""Two variants of a recipe on the same rows: what one does better, class by class, or that nothing shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import stdtrit

from autolabel.evaluation.samples import SPLITS, Flags, halves, held_out, lacking_objects, reaches, resample
from autolabel.evaluation.values import Difference, Estimate, Floats, Outcomes, TooFew

ERROR = 0.05
"""How often a difference may be shown for any class where there is none."""
TOGETHER = ""
MOST_LESS = np.array([-1.0, -1.0, -1.0, -np.inf])
"""Of recall, precision, F1 and seconds: no share is less than another by more than 1."""


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
    units = first.a.objects.size
    splits, weights = halves(units, seed), resample(units, seed)
    tallies = {name: _tally(contest, splits) for name, contest in contests.items()}
    tallies[TOGETHER] = np.sum(list(tallies.values()), axis=0)
    few = {name: lacking_objects(tally[0, 0, 3]) for name, tally in tallies.items()}
    compared = sum(few[name] is None for name in contests)
    return {
        name: few[name] or _difference(tally, weights, names, ERROR / (1 if name == TOGETHER else compared))
        for name, tally in tallies.items()
    }


def _tally(contest: Contest, splits: Sequence[Flags]) -> Floats:
    """(SPLITS, 2, 4, U), by variant: right, kept, seconds of work, objects, in each data unit."""
    if not np.array_equal(contest.a.objects, contest.b.objects):
        raise ValueError("variants are compared on the same rows")
    both = [held_out(own, splits, contest.choose, partial(_by_unit, own, contest)) for own in (contest.a, contest.b)]
    return np.stack(both, axis=1)


def _by_unit(outcomes: Outcomes, contest: Contest, threshold: float) -> Floats:
    is_kept = reaches(outcomes.scores, threshold)
    units = outcomes.units[is_kept & outcomes.is_right], outcomes.units[is_kept]
    counts = [np.bincount(places, minlength=outcomes.objects.size) for places in units]
    return np.stack([*counts, contest.edit_s(outcomes, threshold), outcomes.objects])


def _difference(tally: Floats, weights: Floats, names: tuple[str, str], error: float) -> Difference:
    """The spread is that of resampled data units, the same for both variants, and that of other halves that choose
    the thresholds: those are a matter of luck too. Few data units make it wider (t)."""
    by_split = _gain(tally.sum(axis=3))
    mean, units = tally.mean(axis=0), tally.shape[-1]
    value = _gain(mean.sum(axis=2))
    drawn = np.tensordot(weights, mean, (1, 2))
    resampled = _gain(drawn[drawn[:, 0, 3] > 0])
    spread = np.sqrt(_variance(resampled) * units / (units - 1) + _variance(by_split) * SPLITS / (SPLITS - 1))
    telling = np.count_nonzero(mean.any(axis=(0, 1)))
    reach = stdtrit(telling - 1, 1 - error / 2) * spread
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

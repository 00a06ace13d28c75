"""What pre-labels cost annotators and what they save: thresholds, and whether a class is worth it, in seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from autolabel.core.prompts import Shape
from autolabel.evaluation.calibration import CURVE_SCORES, fit_curve
from autolabel.evaluation.samples import (
    MIN_OBJECTS,
    MIN_UNITS,
    halves,
    held_out,
    lacking_objects,
    ratio,
    reaches,
    resample,
)
from autolabel.evaluation.values import Estimate, Floats, Outcomes, TooFew, Verdict, Worth

FLOOR = 0.05
"""The least threshold: what scores less is not looked at."""
SUREST = 0.2

Counts = NDArray[np.intp]


class Costs(BaseModel):
    """Seconds of an annotator's work; what they rest on stands in `.env.example`.

    - `draw_*`, `adjust_*`: to draw an object from nothing, and to correct one that was found; boxes, rotatable ones
      too, and masks (polygons, bitmasks).
    - `check_s`: to look at a pre-label and decide; `delete_s`: to remove a false one.
    - `good_iou`: what is right is corrected below that IoU with what people drew.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    draw_box_s: float = Field(7.0, gt=0)
    draw_mask_s: float = Field(27.0, gt=0)
    adjust_box_s: float = Field(3.8, ge=0)
    adjust_mask_s: float = Field(8.0, ge=0)
    check_s: float = Field(1.4, ge=0)
    delete_s: float = Field(1.5, ge=0)
    good_iou: float = Field(0.8, ge=0, le=1)

    def draw_s(self, shape: Shape) -> float:
        return self.draw_mask_s if shape in ("polygon", "bitmask") else self.draw_box_s

    def adjust_s(self, shape: Shape) -> float:
        return self.adjust_mask_s if shape in ("polygon", "bitmask") else self.adjust_box_s

    @property
    def false_s(self) -> float:
        """What a false pre-label costs."""
        return self.check_s + self.delete_s


def drawing_seconds(outcomes: Outcomes, shape: Shape, costs: Costs) -> Floats:
    """Work in each data unit (U,) without pre-labels."""
    return outcomes.objects.astype(np.float64) * costs.draw_s(shape)


def edit_seconds(outcomes: Outcomes, threshold: float, shape: Shape, costs: Costs) -> Floats:
    """Work in each data unit (U,) with pre-labels from this score on: all are looked at, the false ones deleted, the
    inexact ones corrected, what is missing drawn."""
    return drawing_seconds(outcomes, shape, costs) - _saved_seconds(outcomes, threshold, shape, costs)


def _saved_seconds(outcomes: Outcomes, threshold: float, shape: Shape, costs: Costs) -> Floats:
    is_inexact = outcomes.ious < costs.good_iou
    of_right = costs.draw_s(shape) - costs.check_s - np.where(is_inexact, costs.adjust_s(shape), 0.0)
    saved = np.where(outcomes.is_right, of_right, -costs.false_s)
    kept = reaches(outcomes.scores, threshold)
    seconds = np.bincount(outcomes.units[kept], saved[kept], minlength=outcomes.objects.size)
    return seconds.astype(np.float64)  # of nothing it gives integers


def suggest_threshold(outcomes: Outcomes, shape: Shape, costs: Costs) -> float | None:
    """The score from which on a pre-label is expected to save time, in hundredths; None where no score is.

    Of the smooth chance to be right, not of the sum over these very detections: that one jumps about.
    """
    is_right = outcomes.is_right
    if not is_right.any():
        return None
    inexact = np.mean(outcomes.ious[is_right] < costs.good_iou)
    of_right = costs.draw_s(shape) - costs.check_s - inexact * costs.adjust_s(shape)
    chance = fit_curve(outcomes.scores, is_right)
    pays = (chance * of_right > (1 - chance) * costs.false_s) & (CURVE_SCORES >= FLOOR - 1e-9)
    first = round(float(CURVE_SCORES[pays.argmax()]), 2)
    return first if pays.any() and reaches(outcomes.scores, first).any() else None


def judge(outcomes: Outcomes, shape: Shape, costs: Costs, seed: int) -> Verdict:
    """Whether a class is worth pre-labelling.

    Where no threshold is expected to save time, it is judged by the surest fifth of what is found: less and less of
    it always comes to nothing saved and nothing lost, and more of it would hide a few scores that pay.
    """
    threshold, drawing_s = suggest_threshold(outcomes, shape, costs), costs.draw_s(shape)
    if lacking := lacking_objects(outcomes.objects):
        text = _clear_no(outcomes, shape, costs) if threshold is None else None
        return Verdict(Worth.NO if text else Worth.UNKNOWN, None, lacking, drawing_s, text or _not_yet(lacking))
    choose = _surest if threshold is None else partial(suggest_threshold, shape=shape, costs=costs)
    saved = _per_object(_held_out(outcomes, shape, costs, choose, seed), outcomes.objects, seed)
    worth = _worth(saved)
    if worth == (Worth.YES if threshold is None else Worth.NO):
        worth = Worth.UNKNOWN  # halves of the rows say the contrary of all of them
    return Verdict(worth, threshold, saved, drawing_s, _in_words(outcomes, worth, threshold, saved, drawing_s))


def judge_together(classes: Mapping[str, tuple[Outcomes, Shape]], costs: Costs, seed: int) -> Verdict:
    """Whether it is worth it for all classes at once, each from its threshold on, those without one left to people.

    By class feature hash; all over the same data units.
    """
    parts = list(classes.values())
    objects: Counts = np.sum([outcomes.objects for outcomes, _ in parts], axis=0, dtype=np.intp)
    drawing = sum(float(drawing_seconds(*part, costs).sum()) for part in parts)
    drawing_s = drawing / max(1, int(objects.sum()))
    if lacking := lacking_objects(objects):
        return Verdict(Worth.UNKNOWN, None, lacking, drawing_s, _not_yet(lacking))
    savings = [
        _held_out(outcomes, shape, costs, partial(suggest_threshold, shape=shape, costs=costs), seed)
        for outcomes, shape in parts
    ]
    saved = _per_object(np.sum(savings, axis=0), objects, seed)
    worth = _worth(saved)
    text = {
        Worth.YES: f"saves {_seconds(saved, drawing_s)}, each class from its threshold on",
        Worth.NO: "not worth it: no class has a threshold that saves time",
        Worth.UNKNOWN: f"cannot be told yet: would save {_between(saved, drawing_s)}; more finished rows would tell",
    }[worth]
    return Verdict(worth, None, saved, drawing_s, text)


def _held_out(
    outcomes: Outcomes, shape: Shape, costs: Costs, choose: Callable[[Outcomes], float | None], seed: int
) -> Floats:
    """Seconds saved in each data unit (U,), never at a threshold that it helped to choose."""
    splits = halves(outcomes.objects.size, seed)
    saved = held_out(outcomes, splits, choose, partial(_saved_seconds, outcomes, shape=shape, costs=costs))
    return np.asarray(saved.mean(axis=0))


def _per_object(saved_s: Floats, objects: Counts, seed: int) -> Estimate:
    """Over data units (U,)."""
    return ratio(saved_s, objects.astype(np.float64), resample(objects.size, seed))


def _surest(outcomes: Outcomes) -> float | None:
    return float(np.quantile(outcomes.scores, 1 - SUREST)) if outcomes.scores.size else None


def _worth(saved: Estimate) -> Worth:
    if saved.low > 0:
        return Worth.YES
    return Worth.NO if saved.high <= 0 else Worth.UNKNOWN


def _not_yet(lacking: TooFew) -> str:
    return f"cannot be told yet: {lacking}; {lacking.needed - lacking.have} more are needed"


def _clear_no(outcomes: Outcomes, shape: Shape, costs: Costs) -> str | None:
    """Why a class is not worth it although people drew few objects of it: false boxes tell as well.

    Where so many of the surest fifth are false, MIN_OBJECTS or more of them in MIN_UNITS data units or more, that the
    share that is right lies with 97.5 % (Clopper and Pearson) below what would pay if each were exact.
    """
    from scipy.special import betaincinv  # no command but a trial's is to wait for it

    surest = np.argsort(-outcomes.scores, kind="stable")[: int(outcomes.scores.size * SUREST)]
    if surest.size < MIN_OBJECTS or np.unique(outcomes.units[surest]).size < MIN_UNITS:
        return None
    right = int(outcomes.is_right[surest].sum())
    at_most = float(betaincinv(right + 1, surest.size - right, 0.975)) if right < surest.size else 1.0
    needed = costs.false_s / (costs.draw_s(shape) + costs.delete_s)
    if at_most >= needed:
        return None
    return (
        f"not worth it: of the {surest.size} surest detections {right} are right, and {needed:.0%} would have to be"
    )


def _in_words(outcomes: Outcomes, worth: Worth, threshold: float | None, saved: Estimate, drawing_s: float) -> str:
    if not outcomes.scores.size:
        return "not worth it: finds nothing"
    where = "the surest fifth of what is found" if threshold is None else f"threshold {threshold:.2f}"
    if worth == Worth.YES:
        return f"saves {_seconds(saved, drawing_s)} at {where}"
    if worth == Worth.UNKNOWN:
        return f"cannot be told yet: {where} would save {_between(saved, drawing_s)}; more finished rows would tell"
    faults = [] if outcomes.is_right.any() else ["finds nothing right"]
    if (costs := f"{-saved.value:.1f}") not in ("0.0", "-0.0") or not faults:
        faults.append(f"{where} would cost {costs} s an object more than drawing")
    return f"not worth it: {'; '.join(faults)}"


def _between(saved: Estimate, drawing_s: float) -> str:
    low, high = (round(end, 1) + 0.0 for end in (saved.low, saved.high))  # no -0.0
    return f"{low:.1f} to {high:.1f} s of {drawing_s:.1f} s an object"


def _seconds(saved: Estimate, drawing_s: float) -> str:
    return f"{saved.value:.1f} s of {drawing_s:.1f} s an object ({saved.low:.1f} to {saved.high:.1f})"

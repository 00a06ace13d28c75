"""What the parts of an evaluation hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from autolabel.core.detections import Detection

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval, of 95 % unless it says otherwise."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TooFew:
    """Why there is no figure: there are `have` of the `needed` `what`."""

    have: int
    needed: int
    what: str

    def __str__(self) -> str:
        return f"{self.have} of {self.needed} {self.what}"


@dataclass(frozen=True)
class JudgedFrame:
    """One frame with what was found on it and what people drew there; `unit` is the place of its data unit.

    Truth is a Detection of score 1 without a prompt. Both have a mask where their class's shape is made from one.
    """

    unit: int
    width_px: int
    height_px: int
    found: tuple[Detection, ...]
    truth: tuple[Detection, ...]


@dataclass(frozen=True)
class Outcomes:
    """What became of the detections and objects of one class.

    - `scores`: (N,) of its detections, in [0, 1].
    - `ious`: (N,) with the object that each was matched with one to one; 0 for a detection that matches none.
    - `boundary_ious`: (N,) the same of the boundaries of masks; NaN where there is no match or no mask.
    - `units`: (N,) intp, the place of the data unit in which each was found.
    - `objects`: (U,) intp, how many objects people drew in each data unit.
    """

    scores: Floats
    ious: Floats
    boundary_ious: Floats
    units: NDArray[np.intp]
    objects: NDArray[np.intp]

    @property
    def is_right(self) -> NDArray[np.bool_]:
        return self.ious > 0


@dataclass(frozen=True)
class Rates:
    """Precision, recall and F1 of what scores at least `thresholds` (T,), each with the ends of its interval.

    Every other field is (3, T): the value, low, high. Precision is NaN where nothing is left.
    """

    thresholds: Floats
    precision: Floats
    recall: Floats
    f1: Floats


@dataclass(frozen=True)
class Precision:
    """COCO's average precision of one class: over IoU 0.5 to 0.95, and at 0.5. None for masks of a box class."""

    box_ap: float
    box_ap50: float
    mask_ap: float | None = None
    mask_ap50: float | None = None


class Worth(StrEnum):
    """Whether pre-labelling a class is worth it."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """Whether a class is worth pre-labelling, in seconds of annotators.

    - `threshold`: at which most is saved, on a grid of hundredths; None where it cannot be told.
    - `saved_s`: a drawn object, over all objects of the class, at that threshold (never judged on the rows that chose
      it); negative where pre-labels cost more than they save.
    - `drawing_s`: what an object costs to draw from nothing.
    - `text`: the verdict and its reason in one sentence, for people.
    """

    worth: Worth
    threshold: float | None
    saved_s: Estimate | TooFew
    drawing_s: float
    text: str


@dataclass(frozen=True)
class Reliability:
    """How far confidence can be taken at its word: the calibration curve, before and after, on the half that was not
    fitted on.

    - `mean_score`, `share_right`, `count`: (B,) of equally many detections each, by raw score.
    - `calibrated`: (B,) the mean calibrated confidence of the same detections.
    - `ece`, `calibrated_ece`: expected calibration error of each; `ece_by_chance`: what a perfect confidence would
      show with so few detections.
    - `knots`: (K, 2) raw score -> calibrated confidence, both rising, fitted on all; linear in between.
    """

    mean_score: Floats
    share_right: Floats
    count: NDArray[np.intp]
    calibrated: Floats
    ece: float
    calibrated_ece: float
    ece_by_chance: float
    knots: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Difference:
    """B less A on the same rows, of one class: paired, with intervals by resampled data units.

    `text` says which is better, or that no difference is shown.
    """

    recall: Estimate
    precision: Estimate
    f1: Estimate
    saved_s: Estimate
    text: str


@dataclass(frozen=True)
class TimeEntry:
    """How long one person worked on one data unit at one stage, on all days together."""

    data_hash: str
    stage_uuid: str
    user_email: str
    seconds: int


@dataclass(frozen=True)
class TimeRatio:
    """Seconds a row with pre-labels over seconds without: a ratio of geometric means; under 1, time is saved.

    `rows`: (with, without); `annotators`: how many did both.
    """

    ratio: Estimate
    rows: tuple[int, int]
    annotators: int


@dataclass(frozen=True)
class Track:
    """An object of a row.

    - `places`: frame index -> where it is, in pixels; without frames on which it has another shape than we write.
    - `person`: who put it there, or changed it last; "" where that is not known.
    """

    object_hash: str
    feature_hash: str
    places: Mapping[int, Detection]
    person: str = ""


class Fate(StrEnum):
    """What people made of a proposed object, or that they added one.

    `KEPT`: it stands as written on every frame on which it was proposed, or as the same pixels told otherwise.
    `EDITED`: it does not. `OTHER_CLASS`: its class was changed, or it gave way to one of another class.
    """

    KEPT = "kept"
    EDITED = "edited"
    DELETED = "deleted"
    OTHER_CLASS = "other_class"
    ADDED = "added"


@dataclass(frozen=True)
class Decision:
    """What became of one object.

    - `proposed`, `drawn`: its class as written and now, by feature hash; None for what was added, and deleted.
    - `person`: who decided; "" where the platform does not tell.
    - `iou`: of what was edited, ours with theirs, mean over the frames on which it was proposed; None where they
      share no frame and no shape that can be compared.
    """

    fate: Fate
    proposed: str | None
    drawn: str | None
    person: str = ""
    iou: float | None = None


Confusion = Mapping[tuple[str | None, str | None], int]
"""(class that people drew, class that was found) by feature hash -> how often; None for nothing there."""

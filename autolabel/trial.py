"""What a recipe would have found on rows that people have finished, held against what they drew. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autolabel.album import Picture
from autolabel.core.prompts import ClassPlan
from autolabel.core.rows import LabelRow, Project
from autolabel.evaluation.values import (
    Confusion,
    Difference,
    Estimate,
    Precision,
    Rates,
    Reliability,
    TooFew,
    Verdict,
)
from autolabel.recipe import Recipe


@dataclass(frozen=True)
class ClassTrial:
    """One class; figures that too few objects stand behind are not there, and say how many are needed.

    - `objects`: how many people drew; `rows`: in how many label rows; `found`: detections at any score.
    - `mask_iou`, `boundary_iou`: means over what was found rightly; None for boxes and where nothing was.
    - `at_recipe`: the recipe's threshold on the grid of `rates`.
    """

    plan: ClassPlan
    color: str
    objects: int
    rows: int
    found: int
    rates: Rates | TooFew
    precision: Precision | TooFew
    mask_iou: Estimate | None
    boundary_iou: Estimate | None
    verdict: Verdict
    reliability: Reliability | TooFew


@dataclass(frozen=True)
class Miss:
    """A frame on which much would be to do: drawn over it what was found rightly, found falsely, and missed.

    `edit_s`: seconds of work on it at the suggested thresholds.
    """

    row: LabelRow
    picture: Picture
    text: str
    edit_s: float


@dataclass(frozen=True)
class Trial:
    """All that a trial says.

    - `rows`: (count, what became of them); they add up to all rows at the stage.
    - `together`: the verdict on all classes at once.
    - `prelabelled`: how many of the judged rows had held labels of ours: people tend to leave what stands there.
    - `costs`: what the seconds go by, in words.
    """

    id: str
    project: Project
    recipe: Recipe
    stage: str
    rows: Sequence[tuple[int, str]]
    judged_rows: int
    judged_frames: int
    classes: Sequence[ClassTrial]
    together: Verdict
    confusion: Confusion
    prelabelled: int
    costs: Sequence[tuple[str, str]]
    misses: Sequence[Miss]
    messages: Sequence[str]


@dataclass(frozen=True)
class Versus:
    """Two prompt maps on the same rows: by class feature hash what B does better than A; "" for all together."""

    names: tuple[str, str]
    trials: tuple[Trial, Trial]
    differences: Mapping[str, Difference | TooFew]

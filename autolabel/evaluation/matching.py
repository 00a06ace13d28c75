"""Detections held against what people drew: which is which, one to one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from autolabel.core.detections import Detection
from autolabel.core.prompts import Shape
from autolabel.evaluation.overlap import boundary_iou, box_ious, shape_ious
from autolabel.evaluation.samples import reaches
from autolabel.evaluation.values import Confusion, Floats, JudgedFrame, Outcomes

MIN_IOU = 0.5
"""From which on a detection is right about an object."""

SHAPES_WITH_BOUNDARY: tuple[Shape, ...] = ("polygon", "bitmask")


@dataclass(frozen=True)
class FrameMatch:
    """What became of one frame, as places in its `found` and `truth`.

    `right`: (found, truth), one to one; `false`: of `found`; `missed`: of `truth`.
    """

    right: tuple[tuple[int, int], ...]
    false: tuple[int, ...]
    missed: tuple[int, ...]


def outcomes(frames: Sequence[JudgedFrame], shapes: Mapping[str, Shape], units: int) -> dict[str, Outcomes]:
    """What became of every class of `shapes` (by feature hash), detections in the frames' order.

    - Matched are detections and objects of one class, one to one, with IoU >= MIN_IOU: of boxes for the box class,
      else of masks. For rotated boxes these are the box that would be written and the one that people drew.
    - One matching serves all thresholds: at each, as many of what reaches it are right as any matching could make.
    - Boundary IoU is there for polygons and bitmasks.

    Raises ValueError where a mask is missing that a class is made from.
    """
    return {cls: _outcomes_of(cls, shape, frames, units) for cls, shape in shapes.items()}


def _outcomes_of(cls: str, shape: Shape, frames: Sequence[JudgedFrame], units: int) -> Outcomes:
    rows: list[tuple[float, float, float, int]] = []
    objects = np.zeros(units, np.intp)
    for frame in frames:
        found = [item for item in frame.found if item.feature_hash == cls]
        truth = [item for item in frame.truth if item.feature_hash == cls]
        objects[frame.unit] += len(truth)
        rows += _rows(found, truth, shape, frame)
    scores, ious, boundary_ious, places = np.array(rows, np.float64).reshape(-1, 4).T
    return Outcomes(scores, ious, boundary_ious, places.astype(np.intp), objects)


def _rows(
    found: Sequence[Detection], truth: Sequence[Detection], shape: Shape, frame: JudgedFrame
) -> list[tuple[float, float, float, int]]:
    """(score, IoU, boundary IoU, unit) of each detection of one class."""
    ious = shape_ious(found, truth, shape, frame)
    match = dict(pair(ious, [item.score for item in found]))
    boundary_ious = {
        i: boundary_iou(found[i], truth[j], frame) for i, j in match.items() if shape in SHAPES_WITH_BOUNDARY
    }
    return [
        (item.score, ious[i, match[i]] if i in match else 0.0, boundary_ious.get(i, np.nan), frame.unit)
        for i, item in enumerate(found)
    ]


def pair(ious: Floats, scores: Sequence[float]) -> list[tuple[int, int]]:
    """(N, M) IoUs, (N,) scores -> (detection, object) one to one, each with IoU >= MIN_IOU.

    The sets of detections that can be matched at once are the independent sets of a matroid (a transversal one). So a
    set of greatest weight, if weights are positive and rise with the score, holds for every threshold as many that
    reach it as any matching does. The weight is the score's rank from 1; IoUs, together less than 1, settle the rest.
    """
    is_edge = ious >= MIN_IOU
    rank = np.unique(np.asarray(scores), return_inverse=True)[1]
    worth = np.where(is_edge, 1 + rank[:, None] + ious / (len(scores) + 1), 0)
    pairs = zip(*linear_sum_assignment(worth, maximize=True), strict=True)
    return [(int(i), int(j)) for i, j in pairs if is_edge[i, j]]


def explain(frame: JudgedFrame, shapes: Mapping[str, Shape], thresholds: Mapping[str, float]) -> FrameMatch:
    """What is right, false and missed on a frame, at thresholds by feature hash.

    A class without a threshold is not looked for: all of it is missed. A class that `shapes` lacks is not judged.
    """
    right: list[tuple[int, int]] = []
    false: set[int] = set()
    missed: set[int] = set()
    for cls, shape in shapes.items():
        at_least = thresholds.get(cls, np.inf)
        ours = [i for i, item in enumerate(frame.found) if item.feature_hash == cls and reaches(item.score, at_least)]
        theirs = [j for j, item in enumerate(frame.truth) if item.feature_hash == cls]
        found, truth = [frame.found[i] for i in ours], [frame.truth[j] for j in theirs]
        pairs = pair(shape_ious(found, truth, shape, frame), [item.score for item in found])
        right += [(ours[i], theirs[j]) for i, j in pairs]
        false |= set(ours) - {ours[i] for i, _ in pairs}
        missed |= set(theirs) - {theirs[j] for _, j in pairs}
    return FrameMatch(tuple(sorted(right)), tuple(sorted(false)), tuple(sorted(missed)))


def confusion(
    frames: Sequence[JudgedFrame], shapes: Mapping[str, Shape], thresholds: Mapping[str, float]
) -> Confusion:
    """What was found in place of what, at thresholds as `explain` takes them.

    A detection that is right about no object of its own class is taken, one to one, for one of another class that was
    missed and whose box it shares with IoU >= MIN_IOU. So every object and every detection counts once.
    """
    counts: Counter[tuple[str | None, str | None]] = Counter()
    for frame in frames:
        match = explain(frame, shapes, thresholds)
        pairs = (*match.right, *_swaps(frame, match))
        explained, met = {i for i, _ in pairs}, {j for _, j in pairs}
        counts.update((frame.truth[j].feature_hash, frame.found[i].feature_hash) for i, j in pairs)
        counts.update((None, frame.found[i].feature_hash) for i in match.false if i not in explained)
        counts.update((frame.truth[j].feature_hash, None) for j in match.missed if j not in met)
    return dict(counts)


def _swaps(frame: JudgedFrame, match: FrameMatch) -> list[tuple[int, int]]:
    """(found, truth) of what is false and what was missed, as one thing by two names."""
    false, missed = [frame.found[i] for i in match.false], [frame.truth[j] for j in match.missed]
    ious = box_ious(false, missed)
    for i, item in enumerate(false):
        ious[i, [other.feature_hash == item.feature_hash for other in missed]] = 0
    return [(match.false[i], match.missed[j]) for i, j in pair(ious, [item.score for item in false])]

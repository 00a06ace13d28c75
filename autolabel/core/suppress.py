"""From a detector's raw answer to the objects worth a label: thresholds, non-maximum suppression, caps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autolabel.core.detections import Detections
from autolabel.core.geometry import box_areas, box_iou, clip_boxes
from autolabel.core.prompts import PromptPlan

MIN_BOX_AREA_PX = 4.0
MOST_CANDIDATES = 2000
"""On one frame, far beyond what people could correct: suppression compares each with each."""


@dataclass(frozen=True)
class Kept:
    """What survives, best first: `index` into the Detections, class and prompt columns, clipped boxes."""

    index: NDArray[np.intp]
    class_index: NDArray[np.intp]
    prompt_index: NDArray[np.intp]
    scores: NDArray[np.float32]
    boxes_xyxy_px: NDArray[np.float32]
    dropped_by_cap: dict[str, int]


def suppress(
    found: Detections,
    plan: PromptPlan,
    size_px: tuple[int, int],
    nms_iou: float,
    cross_class_iou: float,
) -> Kept:
    """Detections of one frame of `size_px` (width, height) -> those worth a label.

    - A box belongs to the class of its best prompt; where that is a distractor, it goes.
    - Below its class's threshold it goes; so does a box with next to no area inside the frame.
    - Greedy suppression, best first: same class above `nms_iou`, another class above `cross_class_iou`.
    - `max_instances` a class, and of all classes the best MOST_CANDIDATES are looked at; what that cuts is counted.

    Ties are broken by coordinates, so the order of the input changes nothing.
    """
    boxes = clip_boxes(found.boxes_xyxy_px, *size_px)
    prompt = found.scores.argmax(axis=1) if found.scores.size else np.zeros(0, np.intp)
    owner = np.array(plan.class_of_prompt, np.intp)[prompt]
    score = found.scores[np.arange(len(prompt)), prompt]
    threshold = np.array([*(cls.threshold for cls in plan.classes), np.inf], np.float32)
    candidates = np.flatnonzero((score >= threshold[owner]) & (box_areas(boxes) >= MIN_BOX_AREA_PX))
    order = candidates[np.lexsort((*boxes[candidates].T, -score[candidates]))]
    order, beyond = order[:MOST_CANDIDATES], order[MOST_CANDIDATES:]
    order = order[_survivors(boxes[order], owner[order], nms_iou, cross_class_iou)]
    keep, dropped = _cap(owner[order], owner[beyond], plan)
    order = order[keep]
    return Kept(order, owner[order], prompt[order], score[order], boxes[order], dropped)


def _survivors(
    boxes: NDArray[np.float32], owner: NDArray[np.intp], nms_iou: float, cross_class_iou: float
) -> NDArray[np.bool_]:
    """Greedy suppression over boxes sorted best first."""
    limit = np.where(owner[:, None] == owner[None, :], nms_iou, cross_class_iou)
    clash = box_iou(boxes, boxes) > limit
    alive = np.ones(len(boxes), np.bool_)
    for i in range(len(boxes)):
        if alive[i]:
            alive[i + 1 :] &= ~clash[i, i + 1 :]
    return alive


def _cap(
    owner: NDArray[np.intp], beyond: NDArray[np.intp], plan: PromptPlan
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    seen: Counter[int] = Counter()
    keep = np.zeros(len(owner), np.bool_)
    dropped = Counter(plan.classes[cls_index].feature_hash for cls_index in beyond.tolist())
    for i, cls_index in enumerate(owner.tolist()):
        cls = plan.classes[cls_index]
        seen[cls_index] += 1
        keep[i] = seen[cls_index] <= cls.max_instances
        dropped[cls.feature_hash] += not keep[i]
    return keep, {name: count for name, count in dropped.items() if count}

"""From a detector's raw answer to the objects worth a label: thresholds, non-maximum suppression, caps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autolabel.core.detections import Detections, Mask
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
      Where parts of the frame were looked at, many are pieces: `cap` is for later, when those are joined.

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
    dropped = Counter(plan.classes[cls_index].feature_hash for cls_index in owner[beyond].tolist())
    kept = Kept(order, owner[order], prompt[order], score[order], boxes[order], dict(dropped))
    return kept if found.seen_xyxy_px is not None else cap(kept, {}, plan)[0]


def cap(kept: Kept, masks: Mapping[int, Mask], plan: PromptPlan) -> tuple[Kept, dict[int, Mask]]:
    """The best `max_instances` of each class, with their masks by rank; those that this cuts are counted too."""
    seen: Counter[int] = Counter()
    dropped = Counter(kept.dropped_by_cap)
    ranks: list[int] = []
    for rank, cls_index in enumerate(kept.class_index.tolist()):
        cls = plan.classes[cls_index]
        seen[cls_index] += 1
        if seen[cls_index] <= cls.max_instances:
            ranks.append(rank)
        else:
            dropped[cls.feature_hash] += 1
    best = Kept(
        kept.index[ranks],
        kept.class_index[ranks],
        kept.prompt_index[ranks],
        kept.scores[ranks],
        kept.boxes_xyxy_px[ranks],
        dict(dropped),
    )
    return best, {i: masks[rank] for i, rank in enumerate(ranks) if rank in masks}


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

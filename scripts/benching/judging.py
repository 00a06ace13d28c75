"""What it costs to hold detections against what people drew, and how often the intervals hold what is true.

PYTHONPATH=.:scripts python -m benching.judging
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from time import process_time
from typing import TypeVar

import numpy as np

from autolabel.core.detections import Detection
from autolabel.core.geometry import mask_from_window
from autolabel.core.prompts import Shape
from autolabel.evaluation.coco import average_precision
from autolabel.evaluation.matching import confusion, outcomes
from autolabel.evaluation.rates import GRID, mean_ious, rates
from autolabel.evaluation.values import Floats, JudgedFrame, Outcomes

SHAPES: dict[str, Shape] = {
    "cup": "bounding_box",
    "dog": "bitmask",
    "leaf": "polygon",
    "rod": "rotatable_bounding_box",
}
FRAMES, OBJECTS, SIZE_PX = 2000, 10, (1920, 1080)
SIMULATIONS, RECALL, PRECISION = 1000, 0.7, 0.75

T = TypeVar("T")


def any_frames(
    seed: int, count: int, objects: int, size_px: tuple[int, int], classes: Sequence[str] = tuple(SHAPES)
) -> list[JudgedFrame]:
    """Frames, each a data unit, of ellipses that were found once, twice or never, well or badly, now and then by
    another's name, beside things that are not there. Scores are hundredths, so that some tie.
    """
    rng = np.random.default_rng(seed)
    return [_any_frame(rng, unit, objects, size_px, classes) for unit in range(count)]


def _any_frame(
    rng: np.random.Generator, unit: int, objects: int, size_px: tuple[int, int], classes: Sequence[str]
) -> JudgedFrame:
    corners = rng.uniform((0, 0), np.subtract(size_px, 60), (objects, 2))
    boxes = np.hstack([corners, corners + rng.uniform(12, 60, (objects, 2))])
    names = rng.choice(classes, objects)
    seen = rng.integers(-objects // 4, objects, 3 * objects // 2)  # below 0: none of them
    found = [
        _ellipse(
            str(names[i] if rng.random() < 0.9 else rng.choice(classes)),
            boxes[i] + rng.normal(0, 3 if i >= 0 else 30, 4),
            round(rng.uniform(0.05, 1), 2),
            size_px,
        )
        for i in seen
    ]
    truth = [_ellipse(str(name), box, 1.0, size_px) for name, box in zip(names, boxes, strict=True)]
    return JudgedFrame(unit, *size_px, tuple(found), tuple(truth))


def _ellipse(cls: str, box_xyxy_px: Floats, score: float, size_px: tuple[int, int]) -> Detection:
    """Of a box that is cut to the frame, at least a few pixels wide and high."""
    left, top = np.clip(box_xyxy_px[:2], 0, np.subtract(size_px, 8)).tolist()
    right, bottom = np.clip(box_xyxy_px[2:], (left + 4, top + 4), size_px).tolist()
    x0, y0, x1, y1 = int(left), int(top), ceil(right), ceil(bottom)
    ys, xs = np.mgrid[-1 : 1 : (y1 - y0) * 1j, -1 : 1 : (x1 - x0) * 1j]
    mask = mask_from_window(np.hypot(xs, ys) < 1.05, x0, y0, 0.9)
    return Detection(cls, "", float(np.float32(score)), (left, top, right, bottom), mask)


def any_outcomes(seed: int, units: int) -> Outcomes:
    """Data units of one to five objects, found with recall RECALL, beside what makes precision PRECISION."""
    rng = np.random.default_rng(seed)
    objects = rng.integers(1, 6, units)
    right = rng.binomial(objects, RECALL)
    false = rng.poisson(objects * RECALL * (1 - PRECISION) / PRECISION)
    places = np.repeat(np.tile(np.arange(units), 2), np.concatenate([right, false]))
    ious = np.repeat([0.8, 0.0], [right.sum(), false.sum()])
    return Outcomes(np.full(len(ious), 0.9), ious, np.full(len(ious), np.nan), places, objects)


def held(units: int, seed: int) -> tuple[bool, bool]:
    """Whether the intervals of precision and of recall hold what is true."""
    told = rates(any_outcomes(seed, units), np.array([0.5]), seed)
    ends = (told.precision[1:, 0], PRECISION), (told.recall[1:, 0], RECALL)
    precision, recall = (bool(low <= true <= high) for (low, high), true in ends)
    return precision, recall


def timed(what: str, call: Callable[[], T]) -> T:
    begin = process_time()
    answer = call()
    print(f"| {what} | {process_time() - begin:.1f} |")
    return answer


def main() -> None:
    frames = any_frames(1, FRAMES, OBJECTS, SIZE_PX)
    found = sum(len(frame.found) for frame in frames)
    print(f"{FRAMES} frames of {SIZE_PX[0]}x{SIZE_PX[1]}, {OBJECTS} objects each, {found} detections, 4 classes\n")
    print("| what | CPU seconds |\n| --- | --- |")
    by_class = timed("outcomes", lambda: outcomes(frames, SHAPES, FRAMES))
    timed("rates", lambda: [rates(of, GRID, 1) for of in by_class.values()])
    timed("mean IoUs", lambda: [mean_ious(of, 0.5, 1) for of in by_class.values()])
    timed("confusion", lambda: confusion(frames, SHAPES, dict.fromkeys(SHAPES, 0.5)))
    timed("average precision", lambda: average_precision(frames, SHAPES, 100))
    print("\n| data units | intervals that hold the true precision | recall |\n| --- | --- | --- |")
    for units in (10, 20, 40, 100):
        precision, recall = np.mean([held(units, seed) for seed in range(SIMULATIONS)], axis=0)
        print(f"| {units} | {precision:.1%} | {recall:.1%} |")


if __name__ == "__main__":
    main()

"""Average precision, as pycocotools' COCOeval counts it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from itertools import count
from typing import Any, Literal

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from autolabel.core.detections import Detection
from autolabel.core.prompts import Shape, needs_mask
from autolabel.evaluation.overlap import box_xywh_px, found_rle, truth_rle
from autolabel.evaluation.values import JudgedFrame, Precision

EVERY_SIZE_PX = [[0.0, 1e10]]
"""COCO's own range of areas for objects of any size."""


def average_precision(
    frames: Sequence[JudgedFrame], shapes: Mapping[str, Shape], max_per_frame: int
) -> dict[str, Precision]:
    """Class feature hash -> its AP. A class that people never drew has none and is left out.

    Boxes are judged for every class, masks where its shape is made from one, a rotated box as its mask.
    `max_per_frame`: how many detections of a class count on a frame, best first.
    """
    drawn = {item.feature_hash for frame in frames for item in frame.truth}
    judged = {cls: shape for cls, shape in shapes.items() if cls in drawn}
    masked = [place for place, shape in enumerate(judged.values()) if needs_mask(shape)]
    with redirect_stdout(io.StringIO()):  # pycocotools tells how it gets on
        sides = _dataset(frames, judged, "truth"), _dataset(frames, judged, "found")
        boxes = _by_place(*sides, "bbox", list(range(len(judged))), max_per_frame)
        masks = _by_place(*sides, "segm", masked, max_per_frame)
    return {cls: Precision(*boxes[place], *masks.get(place, ())) for place, cls in enumerate(judged)}


def _by_place(
    truth: COCO, found: COCO, kind: Literal["bbox", "segm"], places: list[int], max_per_frame: int
) -> dict[int, tuple[float, float]]:
    """Place of a class -> (AP, AP at IoU 0.5)."""
    if not places:
        return {}
    judge = COCOeval(truth, found, kind)
    judge.params.catIds = places
    judge.params.maxDets = [max_per_frame]
    judge.params.areaRng = EVERY_SIZE_PX
    judge.evaluate()
    judge.accumulate()
    by_iou = judge.eval["precision"][:, :, :, 0, 0].mean(axis=1)  # (IoU, recall, class, size, cap) -> (IoU, class)
    return dict(zip(places, zip(by_iou.mean(axis=0).tolist(), by_iou[0].tolist(), strict=True), strict=True))


def _dataset(frames: Sequence[JudgedFrame], shapes: Mapping[str, Shape], side: Literal["truth", "found"]) -> COCO:
    """One side as COCO has it. Frames and classes go by their places, objects by numbers from 1; 0 is no match."""
    places = {cls: place for place, cls in enumerate(shapes)}
    numbered = count(1)
    dataset = COCO()
    dataset.dataset = {
        "images": [
            {"id": place, "width": frame.width_px, "height": frame.height_px} for place, frame in enumerate(frames)
        ],
        "categories": [{"id": place, "name": cls} for cls, place in places.items()],
        "annotations": [
            {
                "id": next(numbered),
                "image_id": place,
                "category_id": places[item.feature_hash],
                "score": item.score,
                "area": 0.0,  # any will do where every size counts
                "iscrowd": 0,
                **_outlines(item, shapes[item.feature_hash], frame, side),
            }
            for place, frame in enumerate(frames)
            for item in (frame.truth if side == "truth" else frame.found)
            if item.feature_hash in places
        ],
    }
    dataset.createIndex()
    return dataset


def _outlines(item: Detection, shape: Shape, frame: JudgedFrame, side: Literal["truth", "found"]) -> dict[str, Any]:
    outlines: dict[str, Any] = {"bbox": box_xywh_px(item)}
    if needs_mask(shape):
        outlines["segmentation"] = truth_rle(item, frame) if side == "truth" else found_rle(item, shape, frame)
    return outlines

"""Frames -> what is worth a label on them: detect, suppress, segment. Stateless and free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from autolabel.core.detections import Detection, Detections, FrameLabels, Mask
from autolabel.core.geometry import mask_area_px
from autolabel.core.prompts import PromptPlan, needs_mask
from autolabel.core.suppress import Kept, suppress
from autolabel.errors import PermanentInferenceError
from autolabel.protocols import RGB, BoxSegmenter, TextDetector


def infer(
    frames: Sequence[tuple[int, RGB]],
    plan: PromptPlan,
    detector: TextDetector,
    segmenter: BoxSegmenter | None,
    nms_iou: float,
    cross_class_iou: float,
) -> list[FrameLabels]:
    """(frame index, picture) of any rows, in any order and batch -> one FrameLabels each, in the same order.

    Only objects whose shape is made from a mask are segmented. One whose mask comes out empty, or that nothing can
    segment, keeps `mask=None`. `image_digest` is left to the caller, who has the file.
    Raises PermanentInferenceError for an answer that does not fit the question.
    """
    images = [image for _, image in frames]
    found = detector.detect(images, plan)
    _check_classes(found, plan)
    kept = [
        suppress(answer, plan, (image.shape[1], image.shape[0]), nms_iou, cross_class_iou)
        for answer, image in zip(found, images, strict=True)
    ]
    masks = _masks(images, found, kept, plan, segmenter)
    return [
        FrameLabels(
            frame_index=index,
            width_px=image.shape[1],
            height_px=image.shape[0],
            detections=_detections(one, of_frame, plan),
            dropped_by_cap=one.dropped_by_cap,
        )
        for (index, image), one, of_frame in zip(frames, kept, masks, strict=True)
    ]


def _masks(
    images: Sequence[RGB],
    found: Sequence[Detections],
    kept: Sequence[Kept],
    plan: PromptPlan,
    segmenter: BoxSegmenter | None,
) -> list[dict[int, Mask]]:
    """For each frame the masks of the objects that need one, by rank in `kept`; empty ones are left out."""
    with_mask = np.array([needs_mask(cls.shape) for cls in plan.classes], np.bool_)
    ranks = [np.flatnonzero(with_mask[one.class_index]) for one in kept]
    masks: list[dict[int, Mask]] = [
        {} if answer.masks is None else {rank: answer.masks[one.index[rank]] for rank in wanted.tolist()}
        for answer, one, wanted in zip(found, kept, ranks, strict=True)
    ]
    if segmenter is not None:
        bare = [wanted if answer.masks is None else wanted[:0] for answer, wanted in zip(found, ranks, strict=True)]
        boxes = [one.boxes_xyxy_px[wanted] for one, wanted in zip(kept, bare, strict=True)]
        drawn = segmenter.segment(images, boxes)
        for have, wanted, new in zip(masks, bare, drawn, strict=True):
            have.update(zip(wanted.tolist(), new, strict=True))
    for image, have in zip(images, masks, strict=True):
        _check_inside(image, have.values())
    return [{rank: mask for rank, mask in have.items() if mask_area_px(mask)} for have in masks]


def _check_classes(found: Sequence[Detections], plan: PromptPlan) -> None:
    for answer in found:
        if answer.scores.shape[1] != len(plan.prompts):
            raise PermanentInferenceError(
                f"the detector answers with {answer.scores.shape[1]} classes where {len(plan.prompts)} were asked for"
            )


def _check_inside(image: RGB, masks: Iterable[Mask]) -> None:
    height, width, _ = image.shape
    for mask in masks:
        if mask.window_xyxy_px[2] > width or mask.window_xyxy_px[3] > height:
            raise PermanentInferenceError(f"a mask at {mask.window_xyxy_px} is not inside {width}x{height}")


def _detections(kept: Kept, masks: dict[int, Mask], plan: PromptPlan) -> tuple[Detection, ...]:
    columns = zip(
        kept.class_index.tolist(),
        kept.prompt_index.tolist(),
        kept.scores.tolist(),
        kept.boxes_xyxy_px.tolist(),
        strict=True,
    )
    return tuple(
        Detection(
            feature_hash=plan.classes[owner].feature_hash,
            prompt=plan.prompts[prompt],
            score=score,
            box_xyxy_px=(x0, y0, x1, y1),
            mask=masks.get(rank),
        )
        for rank, (owner, prompt, score, (x0, y0, x1, y1)) in enumerate(columns)
    )

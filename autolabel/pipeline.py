"""Frames -> what is worth a label on them: detect (in tiles), suppress, segment. Stateless and free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from autolabel.core.detections import Detection, Detections, FrameLabels, Mask
from autolabel.core.geometry import mask_area_px
from autolabel.core.merging import Window, merge_looks
from autolabel.core.prompts import PromptPlan, needs_mask
from autolabel.core.suppress import Kept, cap, suppress
from autolabel.core.tiling import SAME_LOOK_IOU, in_frame, join_at_seams, tile_windows
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
    for i, (image, answer) in enumerate(zip(images, found, strict=True)):
        if answer.seen_xyxy_px is not None:
            size_px = (image.shape[1], image.shape[0])
            whole, drawn = join_at_seams(kept[i], masks[i], answer.seen_xyxy_px[kept[i].index], size_px)
            kept[i], masks[i] = cap(whole, drawn, plan)
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


class TilingDetector:
    """A TextDetector that looks with another one at frames as a whole and at tiles of them, for small objects.

    Tiles go to that detector as many at a time as there are frames, so that they need no more memory.
    """

    def __init__(self, detector: TextDetector, size_px: int, overlap: float) -> None:
        self._detector = detector
        self._size_px = size_px
        self._overlap = overlap

    def detect(self, images: Sequence[RGB], plan: PromptPlan) -> list[Detections]:
        """See `TextDetector`. An object that several looks found comes once, with what was seen to find it.

        What is below every class's threshold is left out: it could change no answer.
        """
        looks = [
            [in_frame(found, (0, 0, image.shape[1], image.shape[0]))]
            for image, found in zip(images, self._detector.detect(images, plan), strict=True)
        ]
        tiles = [(i, window) for i, image in enumerate(images) for window in self._windows(image)]
        for start in range(0, len(tiles), max(1, len(images))):
            batch = tiles[start : start + len(images)]
            crops = [np.ascontiguousarray(images[i][y0:y1, x0:x1]) for i, (x0, y0, x1, y1) in batch]
            for (i, window), found in zip(batch, self._detector.detect(crops, plan), strict=True):
                looks[i].append(in_frame(found, window))
        return [
            merge_looks([_at_least(plan.least_score, found) for found in of_frame], SAME_LOOK_IOU)
            for of_frame in looks
        ]

    def _windows(self, image: RGB) -> list[Window]:
        return tile_windows(image.shape[1], image.shape[0], self._size_px, self._overlap)


def _at_least(score: float, found: Detections) -> Detections:
    rows = np.flatnonzero(found.scores.max(axis=1, initial=0) >= score)
    return Detections(
        found.boxes_xyxy_px[rows],
        found.scores[rows],
        found.masks and tuple(found.masks[row] for row in rows),
        None if found.seen_xyxy_px is None else found.seen_xyxy_px[rows],
    )


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

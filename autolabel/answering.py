"""What answers in the inference process, wired: models, and the process in which it has files decoded."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from autolabel.batches import decode_batches, infer_batches
from autolabel.core.prompts import needs_mask
from autolabel.decoding import DecodeProcess
from autolabel.models import Placement
from autolabel.pipeline import TilingDetector, infer
from autolabel.recipe import Recipe
from autolabel.worker import Answers


def load_inference(recipe: Recipe, where: Placement, max_image_pixels: int, batch_frames: int) -> Answers:
    """Runs in the inference process: load the models, return what answers there. Files are decoded in its child."""
    from autolabel.models import load_detector, load_segmenter
    from autolabel.models.room import room_for
    from autolabel.models.weights import locate
    from autolabel.remote.frames import MediaReader

    config = recipe.config
    detector = load_detector(
        config.detector.family, config.detector.weights, replace(where, precision=config.detector.precision)
    )
    segmenter = (
        load_segmenter(
            config.segmenter.family, config.segmenter.weights, replace(where, precision=config.segmenter.precision)
        )
        if config.segmenter and any(map(needs_mask, recipe.shapes.values()))
        else None
    )
    if config.tiles is not None:
        detector = TilingDetector(detector, config.tiles.size_px, config.tiles.overlap)
    answer = partial(
        infer,
        plan=recipe.plan,
        detector=detector,
        segmenter=segmenter,
        nms_iou=config.nms_iou,
        cross_class_iou=config.cross_class_iou,
    )
    chosen = [config.detector, *([config.segmenter] if segmenter is not None and config.segmenter else [])]
    room = room_for(where.device, [locate(model.weights) for model in chosen], batch_frames)
    reader = DecodeProcess(MediaReader, max_image_pixels)
    return Answers(
        decode=partial(decode_batches, reader=reader, batch_frames=batch_frames),
        infer=partial(infer_batches, infer_frames=answer, room=room),
        frame_times_s=reader.frame_times_s,
    )

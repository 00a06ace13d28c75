"""What only SAM promises: a mask in a window is what transformers computes for the whole frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForMaskGeneration, AutoProcessor

from autolabel.core.geometry import mask_to_frame
from autolabel.models import Placement
from autolabel.models.sam import load_sam
from autolabel.models.weights import locate
from autolabel.protocols import BoxSegmenter
from pictures import BLUE_XYXY_NORM, RED_XYXY_NORM, two_swabs

FOLDER = locate("bundled:segmenter")


@pytest.fixture(scope="module")
def segmenter() -> BoxSegmenter:
    return load_sam(FOLDER, Placement("cpu"))


@pytest.mark.parametrize("size_px", [(320, 224), (97, 211), (256, 256), (1283, 719), (40, 30)])
def test_a_windowed_mask_is_transformers_mask_cut_to_the_window(
    segmenter: BoxSegmenter, size_px: tuple[int, int]
) -> None:
    image = two_swabs(*size_px)
    boxes = np.array([RED_XYXY_NORM, BLUE_XYXY_NORM], np.float32) * np.array(size_px * 2, np.float32)
    processor = AutoProcessor.from_pretrained(FOLDER)
    inputs = processor(images=Image.fromarray(image), input_boxes=[boxes.tolist()], return_tensors="pt")
    model = AutoModelForMaskGeneration.from_pretrained(FOLDER)
    with torch.inference_mode():
        out = model(
            pixel_values=inputs["pixel_values"], input_boxes=inputs["input_boxes"].float(), multimask_output=False
        )
    (whole,) = processor.image_processor.post_process_masks(
        out.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
    )

    (masks,) = segmenter.segment([image], [boxes])

    for mask, expected, score in zip(masks, whole[:, 0].numpy(), out.iou_scores[0, :, 0].tolist(), strict=True):
        left, top, right, bottom = mask.window_xyxy_px
        cut = np.zeros_like(expected)
        cut[top:bottom, left:right] = expected[top:bottom, left:right]
        found = mask_to_frame(mask, *size_px)
        assert (found & cut).sum() / (found | cut).sum() > 0.999
        assert mask.score == pytest.approx(np.clip(score, 0, 1), abs=1e-5)

"""SAM as transformers has it: one frame at a time, its own preprocessing, masks upsampled over the whole frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate
from transformers import SamImageProcessorPil, SamProcessor

from autolabel.core.detections import Mask
from autolabel.core.geometry import BoolArray, mask_from_window
from autolabel.models.runtime import require_finite, telling_of_memory
from autolabel.models.sam_canvas import Framing
from autolabel.models.sam_masks import window_around
from autolabel.models.sam_networks import correct_sam_hq
from autolabel.protocols import RGB

Boxes = NDArray[np.float32]


class ReferenceSegmenter:
    """A BoxSegmenter: what `SamSegmenter` must equal. Any of transformers' SAM models."""

    def __init__(self, model: Any, framing: Framing) -> None:
        correct_sam_hq(model)
        self._model = model
        self._frames = _PaddedFrames(framing) if framing.is_padded else _StretchedFrames(framing)

    @telling_of_memory
    @torch.inference_mode()
    def segment(self, images: Sequence[RGB], boxes_xyxy_px: Sequence[Boxes]) -> list[list[Mask]]:
        """See `BoxSegmenter`."""
        pairs = zip(images, boxes_xyxy_px, strict=True)
        return [self._segment(image, boxes) if len(boxes) else [] for image, boxes in pairs]

    def _segment(self, image: RGB, boxes_xyxy_px: Boxes) -> list[Mask]:
        inputs = self._frames.prepare(image, boxes_xyxy_px)
        out = self._model(
            pixel_values=inputs["pixel_values"].to(self._model.device, self._model.dtype),
            input_boxes=inputs["input_boxes"].to(self._model.device, torch.float32),
            multimask_output=False,
        )
        require_finite(out.pred_masks, "mask logits")
        require_finite(out.iou_scores, "mask scores")
        whole = self._frames.masks(out.pred_masks.float(), inputs)[:, 0].cpu().numpy()
        scores = out.iou_scores[0, :, 0].float().clamp(0, 1).tolist()
        return [cut_to_window(*found) for found in zip(whole, boxes_xyxy_px, scores, strict=True)]


def cut_to_window(whole: BoolArray, box_xyxy_px: Boxes, score: float) -> Mask:
    """(H, W) pixels of a whole frame -> the Mask of the box's window."""
    height, width = whole.shape
    left, top, right, bottom = window_around(box_xyxy_px, (height, width))
    return mask_from_window(whole[top:bottom, left:right], left, top, score)


class _PaddedFrames:
    """SAM's and SAM-HQ's own processor."""

    def __init__(self, framing: Framing) -> None:
        side = {"height": framing.square_px, "width": framing.square_px}
        self._processor = SamProcessor(
            SamImageProcessorPil(
                size={"longest_edge": framing.square_px},
                pad_size=side,
                image_mean=list(framing.mean),
                image_std=list(framing.std),
            )
        )

    def prepare(self, image: RGB, boxes_xyxy_px: Boxes) -> Any:
        boxes = [boxes_xyxy_px.tolist()]
        return self._processor(
            images=image, input_boxes=boxes, return_tensors="pt", input_data_format="channels_last"
        )

    def masks(self, logits: torch.Tensor, inputs: Any) -> torch.Tensor:
        whole: torch.Tensor
        (whole,) = self._processor.image_processor.post_process_masks(
            logits, inputs["original_sizes"], inputs["reshaped_input_sizes"]
        )
        return whole


class _StretchedFrames:
    """What SAM 2's processor does, which cannot be imported without torchvision: torch's resizing, as there."""

    def __init__(self, framing: Framing) -> None:
        self._square_px = framing.square_px
        self._mean, self._std = (torch.tensor(colours)[:, None, None] for colours in (framing.mean, framing.std))

    def prepare(self, image: RGB, boxes_xyxy_px: Boxes) -> Any:
        height, width = image.shape[:2]
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
        square = interpolate(pixels, (self._square_px, self._square_px), mode="bilinear", antialias=True)
        scale = torch.tensor([self._square_px / width, self._square_px / height] * 2)
        return {
            "pixel_values": (square / 255 - self._mean) / self._std,
            "input_boxes": (torch.from_numpy(boxes_xyxy_px) * scale)[None],
            "original_sizes": [(height, width)],
        }

    def masks(self, logits: torch.Tensor, inputs: Any) -> torch.Tensor:
        (size,) = inputs["original_sizes"]
        return interpolate(logits[0], size, mode="bilinear", align_corners=False) > 0

"""SAM through transformers: boxes in, one mask a box out, computed only inside a window around the box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate
from transformers import AutoModelForMaskGeneration, SamImageProcessorPil

from autolabel.core.detections import Mask
from autolabel.core.geometry import mask_from_window
from autolabel.models.placement import Placement
from autolabel.models.runtime import load_pretrained, require_finite, telling_of_memory
from autolabel.protocols import RGB

# The decoder works on a copy of the frame's embedding a box (4 MB each in the published models).
BOXES_PER_CALL = 64
# An object may reach a little past its box; farther off, what the decoder sets is specks of something else.
WINDOW_MARGIN = 0.1


@dataclass(frozen=True)
class Canvas:
    """How one frame lies in SAM's padded square, and the way back.

    - `rows` (H, low), `columns` (W, low): bilinear upsampling from mask logits to the frame is separable, so logits
      of a window are `rows[top:bottom] @ logits @ columns[left:right].T`: what transformers' post-processing
      computes for the whole frame, at the window's cost.
    - `scale_xy`: frame pixels -> pixels of the padded square.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    scale_xy: tuple[float, float]


class SamSegmenter:
    """A BoxSegmenter. Every picture is padded to the same square, so sizes may be mixed in a batch."""

    def __init__(self, model: Any, image_processor: Any) -> None:
        self._model = model
        self._image_processor = image_processor

    @classmethod
    def load(cls, folder: Path, placement: Placement) -> SamSegmenter:
        """Raises PermanentModelError when the folder holds no whole SAM."""
        return cls(*load_pretrained(AutoModelForMaskGeneration, SamImageProcessorPil, "sam", folder, placement))

    @telling_of_memory
    @torch.inference_mode()
    def segment(self, images: Sequence[RGB], boxes_xyxy_px: Sequence[NDArray[np.float32]]) -> list[list[Mask]]:
        """See `BoxSegmenter`. Frames without a box cost nothing.

        A mask's window is its box with a tenth of its size added on each side, cut to the frame. Pixels whose logit
        is above 0 are set; there may be none. All boxes of all frames share the decoder's calls.
        """
        masks: list[list[Mask]] = [[] for _ in images]
        busy = [i for i, boxes in enumerate(boxes_xyxy_px) if len(boxes)]
        if not busy:
            return masks
        embeddings, canvases = self._embed([images[i] for i in busy])
        frame_of_box = np.repeat(np.arange(len(busy)), [len(boxes_xyxy_px[i]) for i in busy])
        boxes = np.concatenate([boxes_xyxy_px[i] for i in busy])
        for start in range(0, len(boxes), BOXES_PER_CALL):
            frames, part = frame_of_box[start : start + BOXES_PER_CALL], boxes[start : start + BOXES_PER_CALL]
            scales = np.array([canvases[f].scale_xy * 2 for f in frames], np.float32)
            logits, scores = self._decode(embeddings[frames], part * scales)
            for row, frame in enumerate(frames):
                mask = _mask_in_window(logits[row], scores[row], part[row], canvases[frame])
                masks[busy[frame]].append(mask)
        return masks

    def _embed(self, images: Sequence[RGB]) -> tuple[torch.Tensor, list[Canvas]]:
        """Images -> embeddings (B, C, h, w), and the canvas of each."""
        inputs = self._image_processor(images=list(images), input_data_format="channels_last", return_tensors="pt")
        pixels = inputs["pixel_values"].to(self._model.device)
        embeddings = self._model.get_image_embeddings(pixels)
        used = inputs["reshaped_input_sizes"].tolist()
        low = 4 * embeddings.shape[-1]  # SAM's mask decoder upsamples the embedding's grid by 4
        canvases = [
            _canvas(image.shape[:2], (h, w), low, pixels.shape[-1], pixels.device)
            for image, (h, w) in zip(images, used, strict=True)
        ]
        return embeddings, canvases

    def _decode(
        self, embeddings: torch.Tensor, boxes_square_px: NDArray[np.float32]
    ) -> tuple[torch.Tensor, list[float]]:
        """An embedding and a box each -> mask logits (n, low, low), and estimated IoUs in [0, 1]."""
        prompts = torch.from_numpy(boxes_square_px).to(self._model.device)[:, None]
        out = self._model(image_embeddings=embeddings, input_boxes=prompts, multimask_output=False)
        require_finite(out.pred_masks, "mask logits")
        require_finite(out.iou_scores, "mask scores")
        return out.pred_masks[:, 0, 0], out.iou_scores[:, 0, 0].clamp(0, 1).tolist()


def _canvas(
    size_hw_px: tuple[int, ...], used_hw_px: tuple[int, int], low: int, square: int, device: torch.device
) -> Canvas:
    (height, width), (used_height, used_width) = size_hw_px, used_hw_px
    return Canvas(
        rows=_upsampling(low, square, used_height, height, device),
        columns=_upsampling(low, square, used_width, width, device),
        scale_xy=(used_width / width, used_height / height),
    )


def _upsampling(low: int, square: int, used: int, full: int, device: torch.device) -> torch.Tensor:
    """(full, low) weights of one axis: logits -> padded square, padding cut off, -> frame."""
    impulses = torch.eye(low, device=device)[None]
    in_square = interpolate(impulses, size=square, mode="linear", align_corners=False)[..., :used]
    return interpolate(in_square, size=full, mode="linear", align_corners=False)[0].T


def _mask_in_window(logits: torch.Tensor, score: float, box_xyxy_px: NDArray[np.float32], canvas: Canvas) -> Mask:
    left, top, right, bottom = _window(box_xyxy_px, len(canvas.columns), len(canvas.rows))
    inside = canvas.rows[top:bottom] @ logits @ canvas.columns[left:right].T
    return mask_from_window((inside > 0).cpu().numpy(), left, top, score)


def _window(box_xyxy_px: NDArray[np.float32], width_px: int, height_px: int) -> tuple[int, int, int, int]:
    """A box with its margin, on whole pixels of the frame; never empty."""
    x0, y0, x1, y1 = box_xyxy_px.tolist()
    margin_x, margin_y = WINDOW_MARGIN * (x1 - x0), WINDOW_MARGIN * (y1 - y0)
    left = int(np.clip(np.floor(x0 - margin_x), 0, width_px - 1))
    top = int(np.clip(np.floor(y0 - margin_y), 0, height_px - 1))
    right = int(np.clip(np.ceil(x1 + margin_x), left + 1, width_px))
    bottom = int(np.clip(np.ceil(y1 + margin_y), top + 1, height_px))
    return left, top, right, bottom

"""The SAM families: boxes in, one mask a box out, computed only inside a window around the box."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam2Model, SamHQModel, SamModel

from autolabel.core.detections import Mask
from autolabel.models.placement import Placement
from autolabel.models.runtime import DTYPES, load_pretrained, loading, place, require_finite, telling_of_memory
from autolabel.models.sam_canvas import Framing, canvas_of
from autolabel.models.sam_checkpoint import load_checkpoint
from autolabel.models.sam_decoder import LOGITS_PER_CELL
from autolabel.models.sam_masks import masks_in_windows, window_around
from autolabel.models.sam_networks import Network, SamNetwork, to_precision
from autolabel.models.sam_reference import ReferenceSegmenter
from autolabel.models.weights import CHECKPOINT
from autolabel.protocols import RGB, BoxSegmenter

# The decoder works on a copy of the frame's embedding a box (4 MB each in the published models).
BOXES_PER_CALL = 64


class SamSegmenter:
    """A BoxSegmenter over any network of the families. Every frame fills one square, so sizes may be mixed."""

    def __init__(self, network: Network, framing: Framing) -> None:
        self._network = network
        self._framing = framing

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
        sizes = [(images[i].shape[0], images[i].shape[1]) for i in busy]
        embeddings = self._network.embed(self._framing.squares([images[i] for i in busy], self._network.device))
        frame_of_box = np.repeat(np.arange(len(busy)), [len(boxes_xyxy_px[i]) for i in busy])
        boxes = np.concatenate([boxes_xyxy_px[i] for i in busy])
        for start in range(0, len(boxes), BOXES_PER_CALL):
            part = slice(start, start + BOXES_PER_CALL)
            found = self._masks(embeddings, sizes, frame_of_box[part], boxes[part])
            for frame, mask in zip(frame_of_box[part], found, strict=True):
                masks[busy[frame]].append(mask)
        return masks

    def _masks(
        self,
        embeddings: tuple[torch.Tensor, ...],
        sizes: Sequence[tuple[int, int]],
        frame_of_box: NDArray[np.int64],
        boxes_xyxy_px: NDArray[np.float32],
    ) -> list[Mask]:
        """Frames' embeddings and sizes (height, width); boxes, each of one of the frames -> their masks."""
        device = self._network.device
        of_boxes = [sizes[frame] for frame in frame_of_box]
        used = [self._framing.used_hw_px(size) for size in of_boxes]
        scales = [[w / width, h / height] * 2 for (h, w), (height, width) in zip(used, of_boxes, strict=True)]
        windows = [window_around(box, size) for box, size in zip(boxes_xyxy_px, of_boxes, strict=True)]
        low = LOGITS_PER_CELL * embeddings[0].shape[-1]
        canvases = [canvas_of(size, self._framing, low, device) for size in of_boxes]
        logits, ious = self._network.decode(
            embeddings,
            torch.from_numpy(frame_of_box).to(device),
            torch.from_numpy((boxes_xyxy_px * scales).astype(np.float32)).to(device),
            np.array([canvas.low_window(window) for canvas, window in zip(canvases, windows, strict=True)]),
        )
        logits, ious = logits.float(), ious.float()
        told = torch.cat([ious, logits.abs().amax()[None]]).cpu()  # one wait for the device, and not one a question
        require_finite(told[-1], "mask logits")
        require_finite(told[:-1], "mask scores")
        return masks_in_windows(logits, told[:-1].clamp(0, 1).tolist(), windows, canvases)


def load_sam(weights: Path, placement: Placement) -> BoxSegmenter:
    """SAM (ViT-B, L or H, by configuration), from transformers' folder or its authors' checkpoint.

    Raises PermanentModelError when it is damaged, of another family or not whole.
    """
    if weights.suffix == CHECKPOINT:
        model, framing = load_checkpoint(weights)
        return _segmenter(place(model, placement.device), framing, placement)
    return _segmenter(*load_pretrained(SamModel, Framing, "sam", weights, _in_fp32(placement)), placement)


def load_sam_hq(weights: Path, placement: Placement) -> BoxSegmenter:
    """SAM-HQ; as `load_sam`."""
    return _segmenter(*load_pretrained(SamHQModel, Framing, "sam_hq", weights, _in_fp32(placement)), placement)


def load_sam2(weights: Path, placement: Placement) -> BoxSegmenter:
    """SAM 2 and 2.1 (tiny to large); as `load_sam`. Published as video models, of which the image part is read."""
    with loading(weights):
        written = json.loads((weights / "config.json").read_text()).get("model_type")
    model_type = "sam2_video" if written == "sam2_video" else "sam2"
    return _segmenter(*load_pretrained(Sam2Model, Framing, model_type, weights, _in_fp32(placement)), placement)


def _in_fp32(placement: Placement) -> Placement:
    return replace(placement, precision="fp32")


def _segmenter(model: Any, framing: Framing, placement: Placement) -> BoxSegmenter:
    """A float32 model, ready to use as `placement` says."""
    dtype = DTYPES[placement.precision]
    if placement.is_reference:
        return ReferenceSegmenter(model.to(dtype), framing)
    return SamSegmenter(SamNetwork(to_precision(model, dtype)), framing)

"""The authors' own code: the `segment-anything` package on their checkpoints, one frame at a time.

A second opinion on what family `sam` makes of the same file, and no faster than its authors left it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from autolabel.core.detections import Mask
from autolabel.errors import PermanentModelError, PermanentUsageError
from autolabel.models.placement import Placement
from autolabel.models.runtime import place, require_finite, telling_of_memory
from autolabel.models.sam_checkpoint import (
    DECODER_HEADS,
    MEAN_GREY,
    STD_GREY,
    Architecture,
    fitting,
    framing_of,
    read_checkpoint,
)
from autolabel.models.sam_reference import cut_to_window
from autolabel.models.weights import CHECKPOINT
from autolabel.protocols import RGB


class PackageSegmenter:
    """A BoxSegmenter over the package's `Sam`."""

    def __init__(self, sam: Any, architecture: Architecture) -> None:
        self._sam = sam
        self._framing = framing_of(architecture)

    @classmethod
    def load(cls, weights: Path, placement: Placement) -> PackageSegmenter:
        """Raises PermanentModelError without torchvision or such a checkpoint, PermanentUsageError for bf16."""
        if placement.precision != "fp32":
            raise PermanentUsageError("family segment_anything runs in fp32 only; family sam reads the same file")
        if weights.suffix != CHECKPOINT:
            raise PermanentModelError(f"no checkpoint such as sam_vit_b_01ec64.pth at {weights}")
        tensors, architecture = read_checkpoint(weights)
        sam = build(architecture)
        with fitting(weights):
            sam.load_state_dict(tensors)
        return cls(place(sam, placement.device), architecture)

    @telling_of_memory
    @torch.inference_mode()
    def segment(self, images: Sequence[RGB], boxes_xyxy_px: Sequence[NDArray[np.float32]]) -> list[list[Mask]]:
        """See `BoxSegmenter`."""
        pairs = zip(images, boxes_xyxy_px, strict=True)
        return [self._segment(image, boxes) if len(boxes) else [] for image, boxes in pairs]

    def _segment(self, image: RGB, boxes_xyxy_px: NDArray[np.float32]) -> list[Mask]:
        """Resized by Pillow, as the package's predictor does through torchvision; all else is the package's."""
        height, width = image.shape[:2]
        used_height, used_width = self._framing.used_hw_px((height, width))
        resized = Image.fromarray(image).resize((used_width, used_height), Image.Resampling.BILINEAR)
        scale = np.array([used_width / width, used_height / height] * 2, np.float32)
        asked = {
            "image": torch.from_numpy(np.array(resized)).permute(2, 0, 1).to(self._sam.device),
            "original_size": (height, width),
            "boxes": torch.from_numpy(boxes_xyxy_px * scale).to(self._sam.device),
        }
        (out,) = self._sam([asked], multimask_output=False)
        require_finite(out["low_res_logits"], "mask logits")
        require_finite(out["iou_predictions"], "mask scores")
        whole, scores = out["masks"][:, 0].cpu().numpy(), out["iou_predictions"][:, 0].clamp(0, 1).tolist()
        return [cut_to_window(*found) for found in zip(whole, boxes_xyxy_px, scores, strict=True)]


def build(net: Architecture) -> Any:
    """The package's network, with random weights. Raises PermanentModelError where it cannot be imported."""
    try:
        from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
    except ImportError as exc:
        raise PermanentModelError(
            f"family segment_anything needs torchvision, as built for this torch ({exc}): pip install torchvision, "
            "or use family sam, which reads the same checkpoint without it"
        ) from exc
    grid = net.square_px // net.patch_px
    return Sam(
        ImageEncoderViT(
            img_size=net.square_px,
            patch_size=net.patch_px,
            embed_dim=net.width,
            depth=net.depth,
            num_heads=net.heads,
            mlp_ratio=net.mlp_width / net.width,
            out_chans=net.prompt_width,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=net.window,
            global_attn_indexes=net.global_layers,
        ),
        PromptEncoder(net.prompt_width, (grid, grid), (net.square_px, net.square_px), net.mask_channels),
        MaskDecoder(
            transformer_dim=net.prompt_width,
            transformer=TwoWayTransformer(
                depth=net.decoder_depth,
                embedding_dim=net.prompt_width,
                num_heads=DECODER_HEADS,
                mlp_dim=net.decoder_mlp_width,
            ),
            num_multimask_outputs=net.masks,
            iou_head_depth=3,
            iou_head_hidden_dim=net.iou_width,
        ),
        list(MEAN_GREY),
        list(STD_GREY),
    )

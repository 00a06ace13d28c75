"""The networks of the SAM families behind one small face: squares -> embeddings, embeddings and boxes -> logits."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam2Model, SamHQModel, SamModel

from autolabel.models.sam_decoder import FoldedTransformer, decode_in_windows
from autolabel.models.sam_vision import CPU_BIAS_BYTES, GPU_BIAS_BYTES, encode

Embeddings = tuple[torch.Tensor, ...]
"""What the decoder reads of B frames, frames first in each."""


class Network(Protocol):
    @property
    def device(self) -> torch.device: ...

    def embed(self, squares: torch.Tensor) -> Embeddings:
        """(B, 3, square, square) float32, normalised -> embeddings."""
        ...

    def decode(
        self,
        embeddings: Embeddings,
        frame_of_box: torch.Tensor,
        boxes_square_px: torch.Tensor,
        low_windows: NDArray[np.int64],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (n, 4) float32 in pixels of the square, on frames (n,) int64 -> logits (n, low, low), IoUs (n,).

        One mask a box, however many boxes a frame has. `low_windows` (n, 4), as (left, top, right, bottom), is where
        a box's logits are asked for; outside of it they may be anything finite. Both answers are of the network's own
        precision.
        """
        ...


class SamNetwork:
    """transformers' `SamModel`, `SamHQModel` or `Sam2Model`: their decoders differ in what else they read.

    - SAM-HQ: its early features refine the mask; the answer is the sum of SAM's logits and the refinement, as its
      authors use it.
    - SAM 2: two finer levels of the image. An unstable mask gives way to the best of three, as configured.
    """

    def __init__(self, model: Any) -> None:
        model.mask_decoder.transformer = FoldedTransformer(model.mask_decoder.transformer)
        self._model = model
        self._dtype = model.mask_decoder.iou_token.weight.dtype
        self._positions = model.get_image_wide_positional_embeddings().to(self._dtype)

    @property
    def device(self) -> torch.device:
        where: torch.device = self._model.device
        return where

    def embed(self, squares: torch.Tensor) -> Embeddings:
        pixels = squares.to(self._dtype)
        if isinstance(self._model, Sam2Model):
            *finer, coarse = self._model.get_image_embeddings(pixels)
            return (coarse, *finer)
        bias_bytes = CPU_BIAS_BYTES if pixels.device.type == "cpu" else GPU_BIAS_BYTES
        embedding, early = encode(self._model.vision_encoder, pixels, bias_bytes)
        return (embedding, early) if isinstance(self._model, SamHQModel) else (embedding,)

    def decode(
        self,
        embeddings: Embeddings,
        frame_of_box: torch.Tensor,
        boxes_square_px: torch.Tensor,
        low_windows: NDArray[np.int64],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        images, *more = (level[frame_of_box] for level in embeddings)
        corners, background = self._model.prompt_encoder(None, None, boxes_square_px[:, None], None)
        positions = self._positions.expand(len(images), -1, -1, -1)
        if isinstance(self._model, SamModel):
            return decode_in_windows(
                self._model.mask_decoder, images + background, positions, corners[:, 0], low_windows
            )
        masks, ious, *_ = self._model.mask_decoder(
            image_embeddings=images,
            image_positional_embeddings=positions,
            sparse_prompt_embeddings=corners,
            dense_prompt_embeddings=background,
            multimask_output=False,
            **self._own_arguments(more),
        )
        return masks[:, 0, 0], ious[:, 0, 0]

    def _own_arguments(self, more: list[torch.Tensor]) -> dict[str, Any]:
        if isinstance(self._model, Sam2Model):
            return {"high_resolution_features": more}
        return {"intermediate_embeddings": more, "hq_token_only": False}


def to_precision(model: Any, dtype: torch.dtype) -> Any:
    """A float32 model in another precision, but for the frequencies that its coordinates are embedded with.

    In bfloat16 a coordinate of the square would be off by up to two pixels, and so would every box.
    """
    precise = deepcopy((model.shared_image_embedding, model.prompt_encoder.shared_embedding))
    model.to(dtype)
    model.shared_image_embedding, model.prompt_encoder.shared_embedding = precise
    return model

"""The networks of the SAM families behind one small face: squares -> embeddings, embeddings and boxes -> logits."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Protocol

import torch
from transformers import Sam2Model, SamHQModel

Embeddings = tuple[torch.Tensor, ...]
"""What the decoder reads of B frames, frames first in each."""


class Network(Protocol):
    @property
    def device(self) -> torch.device: ...

    def embed(self, squares: torch.Tensor) -> Embeddings:
        """(B, 3, square, square) float32, normalised -> embeddings."""
        ...

    def decode(
        self, embeddings: Embeddings, frame_of_box: torch.Tensor, boxes_square_px: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (n, 4) float32 in pixels of the square, on frames (n,) int64 -> logits (n, low, low), IoUs (n,).

        One mask a box, however many boxes a frame has. Both answers are of the network's own precision.
        """
        ...


class SamNetwork:
    """transformers' `SamModel`, `SamHQModel` or `Sam2Model`: their decoders differ in what else they read.

    - SAM-HQ: its early features refine the mask; the answer is the sum of SAM's logits and the refinement, as its
      authors use it.
    - SAM 2: two finer levels of the image. An unstable mask gives way to the best of three, as configured.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._positions = model.get_image_wide_positional_embeddings().to(model.dtype)

    @property
    def device(self) -> torch.device:
        where: torch.device = self._model.device
        return where

    def embed(self, squares: torch.Tensor) -> Embeddings:
        pixels = squares.to(self._model.dtype)
        if isinstance(self._model, Sam2Model):
            *finer, coarse = self._model.get_image_embeddings(pixels)
            return (coarse, *finer)
        out = self._model.vision_encoder(pixels)
        early = out.intermediate_embeddings[:1] if isinstance(self._model, SamHQModel) else ()
        return (out.last_hidden_state, *early)

    def decode(
        self, embeddings: Embeddings, frame_of_box: torch.Tensor, boxes_square_px: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        images, *more = (level[frame_of_box] for level in embeddings)
        corners, background = self._model.prompt_encoder(None, None, boxes_square_px[:, None], None)
        masks, ious, *_ = self._model.mask_decoder(
            image_embeddings=images,
            image_positional_embeddings=self._positions.expand(len(images), -1, -1, -1),
            sparse_prompt_embeddings=corners,
            dense_prompt_embeddings=background,
            multimask_output=False,
            **self._own_arguments(more),
        )
        return masks[:, 0, 0], ious[:, 0, 0]

    def _own_arguments(self, more: list[torch.Tensor]) -> dict[str, Any]:
        match self._model:
            case SamHQModel():
                return {"intermediate_embeddings": more, "hq_token_only": False}
            case Sam2Model():
                return {"high_resolution_features": more}
        return {}


def to_precision(model: Any, dtype: torch.dtype) -> Any:
    """A float32 model in another precision, but for the frequencies that its coordinates are embedded with.

    In bfloat16 a coordinate of the square would be off by up to two pixels, and so would every box.
    """
    precise = deepcopy((model.shared_image_embedding, model.prompt_encoder.shared_embedding))
    model.to(dtype)
    model.shared_image_embedding, model.prompt_encoder.shared_embedding = precise
    return model

"""SAM 3 through transformers: one prompt at a time in, boxes with that prompt's score and their masks out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from json import loads
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate
from transformers import AutoTokenizer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.sam3.modeling_sam3 import Sam3Model

from autolabel.core.detections import Detections, Mask
from autolabel.core.geometry import mask_from_window
from autolabel.core.prompts import PromptPlan, TokenCounts, needs_mask
from autolabel.errors import PermanentUsageError
from autolabel.models.pixels import normalise, resize, upload
from autolabel.models.placement import Placement
from autolabel.models.runtime import (
    DTYPES,
    load_pretrained,
    loading,
    require_finite,
    require_type,
    telling_of_memory,
)
from autolabel.protocols import RGB

# The published weights are written as the video model, of which this is the part that looks at pictures.
MODEL_TYPE, VIDEO_TYPE = "sam3", "sam3_video"
# What transformers' processor does, which needs torchvision: a square of the model's size, colours to [-1, 1], texts
# padded to what the text encoder was trained with.
MEAN = STD = (0.5, 0.5, 0.5)
TEXT_LENGTH = 32
# No recipe sets a threshold this low; without a floor all of the 200 queries of every prompt would travel on.
SCORE_FLOOR = 0.05
# An object may reach a little past its box.
WINDOW_MARGIN = 0.1


@dataclass(frozen=True)
class Answer:
    """One prompt on one frame, best queries only: boxes (n, 4), scores (n,), and n masks where they are wanted."""

    boxes_xyxy_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    masks: list[Mask]


class Sam3Detector:
    """A TextDetector that brings its masks. Every picture is stretched to one square, so sizes may be mixed.

    Each prompt is asked alone, as the weights were trained: prompts do not disturb each other, `per_pass` means
    nothing here, and a frame costs one pass of the image encoder and one of the detector's small rest a prompt.
    In bf16 the image encoder alone is: boxes are refined, and masks drawn, in float32.
    """

    def __init__(self, model: Any, tokenizer: Any, *, is_reference: bool = False) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._is_reference = is_reference
        self._last: tuple[tuple[str, ...], list[dict[str, Any]]] = ((), [])

    @classmethod
    def load(cls, folder: Path, placement: Placement) -> Sam3Detector:
        """Raises PermanentModelError when the folder holds no whole SAM 3."""
        full = replace(placement, precision="fp32")
        model, tokenizer = load_pretrained(Sam3Model, AutoTokenizer, _written_type(folder), folder, full)
        with loading(folder):
            _require_words(tokenizer)
        model.vision_encoder.to(DTYPES[placement.precision])
        return cls(model, tokenizer, is_reference=placement.is_reference)

    @telling_of_memory
    @torch.inference_mode()
    def detect(self, images: Sequence[RGB], plan: PromptPlan) -> list[Detections]:
        """See `TextDetector`. Boxes with a score below `SCORE_FLOOR` are left out; there are masks where a class of
        the plan is drawn from one. A box bears the score of the prompt that found it, and 0 for all others.

        Raises PermanentUsageError for a prompt that is too long.
        """
        texts = self._texts(plan.prompts)
        with_masks = any(needs_mask(cls.shape) for cls in plan.classes)
        batches = [[image] for image in images] if self._is_reference else [images] if images else []
        return [
            _merge([answers[row] for answers in passes], len(plan.prompts), with_masks=with_masks)
            for batch in batches
            for passes in [list(self._ask(batch, texts, with_masks=with_masks))]
            for row in range(len(batch))
        ]

    def _texts(self, prompts: tuple[str, ...]) -> list[dict[str, Any]]:
        """A prompt's part of the model's arguments; kept, since a run asks the same on every frame."""
        if self._is_reference or self._last[0] != prompts:
            self._last = (prompts, [self._text(prompt) for prompt in prompts])
        return self._last[1]

    def _text(self, prompt: str) -> dict[str, Any]:
        count = len(self._tokenizer(prompt).input_ids)
        if count > TEXT_LENGTH:
            raise PermanentUsageError(
                f"prompt {prompt!r} takes {count} tokens, the model reads at most {TEXT_LENGTH}; shorten it in the "
                "prompt map"
            )
        tokens = self._tokenizer(prompt, return_tensors="pt", padding="max_length", max_length=TEXT_LENGTH)
        tokens = tokens.to(self._model.device)
        embeds = self._model.get_text_features(**tokens).pooler_output
        return {"text_embeds": embeds, "attention_mask": tokens.attention_mask}

    def _ask(
        self, images: Sequence[RGB], texts: Sequence[dict[str, Any]], *, with_masks: bool
    ) -> Iterator[list[Answer]]:
        """For each prompt an answer an image. The images are encoded once for all prompts."""
        sizes = [image.shape[:2] for image in images]
        vision = self._encode(images) if texts else None
        for text in texts:
            out = self._model(
                vision_embeds=vision,
                text_embeds=BaseModelOutputWithPooling(pooler_output=text["text_embeds"].expand(len(images), -1, -1)),
                attention_mask=text["attention_mask"].expand(len(images), -1),
            )
            for values, what in ((out.pred_logits, "logits"), (out.pred_boxes, "boxes"), (out.pred_masks, "masks")):
                require_finite(values, what)
            queries = out.pred_logits.sigmoid()
            scores = queries * out.presence_logits.sigmoid()
            scale = scores.new_tensor([[width, height] * 2 for height, width in sizes])
            boxes = (out.pred_boxes * scale[:, None]).cpu().numpy()
            kept = [np.flatnonzero(row) for row in (scores >= SCORE_FLOOR).cpu().numpy()]
            found = zip(kept, boxes, scores.cpu().numpy(), queries.cpu().numpy(), out.pred_masks, sizes, strict=True)
            yield [
                Answer(
                    of_frame[keep],
                    score[keep],
                    self._masks(logits[keep], query[keep], of_frame[keep], size) if with_masks else [],
                )
                for keep, of_frame, score, query, logits, size in found
            ]

    def _encode(self, images: Sequence[RGB]) -> Any:
        """The image encoder's features, in float32 whatever its precision."""
        encoder, square = self._model.vision_encoder, self._model.config.image_size
        grey = [resize(upload([image], self._model.device), (square, square)) for image in images]
        pixels = normalise(torch.cat(grey), MEAN, STD)
        vision = encoder(pixels.to(encoder.dtype))
        vision.fpn_hidden_states = tuple(level.float() for level in vision.fpn_hidden_states)
        vision.fpn_position_encoding = tuple(
            encoder.neck.position_encoding(level.shape, level.device, level.dtype)
            for level in vision.fpn_hidden_states
        )
        return vision

    def _masks(
        self,
        logits: torch.Tensor,
        scores: NDArray[np.float32],
        boxes_xyxy_px: NDArray[np.float32],
        size_hw_px: tuple[int, ...],
    ) -> list[Mask]:
        """Logits (n, low, low) -> Masks in windows around their boxes: probabilities are enlarged, then halved.

        Bilinear enlarging is separable, so a window's pixels are a product of its rows and columns alone.
        """
        windows = [_window(box, size_hw_px) for box in boxes_xyxy_px]
        probability = logits.sigmoid()
        if self._is_reference:
            whole = interpolate(probability[None], size_hw_px, mode="bilinear")[0] if windows else probability
            bits = [
                each[top:bottom, left:right] for each, (left, top, right, bottom) in zip(whole, windows, strict=True)
            ]
        else:
            rows, columns = (
                _enlarging(low, full, logits.device) for low, full in zip(logits.shape[1:], size_hw_px, strict=True)
            )
            bits = [
                rows[top:bottom] @ each @ columns[left:right].T
                for each, (left, top, right, bottom) in zip(probability, windows, strict=True)
            ]
        return [
            mask_from_window((pixels > 0.5).cpu().numpy(), window[0], window[1], float(score))
            for pixels, window, score in zip(bits, windows, scores, strict=True)
        ]


def count_tokens(folder: Path, prompts: Sequence[str]) -> TokenCounts:
    """From the tokeniser alone. Raises PermanentModelError when the folder does not hold it."""
    with loading(folder):
        require_type(folder, _written_type(folder))
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        _require_words(tokenizer)
    counts = tuple(len(tokenizer(prompt, add_special_tokens=False).input_ids) for prompt in prompts)
    return TokenCounts(counts, TEXT_LENGTH - 2)  # start and end of text


def _written_type(folder: Path) -> str:
    """What config.json must say: the video model's type where it does, else SAM 3's."""
    with loading(folder):
        written = loads((folder / "config.json").read_text()).get("model_type")
    return VIDEO_TYPE if written == VIDEO_TYPE else MODEL_TYPE


def _require_words(tokenizer: Any) -> None:
    """Where its files are missing, transformers makes up a tokeniser that knows no word."""
    if set(tokenizer("object", add_special_tokens=False).input_ids) <= set(tokenizer.all_special_ids):
        raise ValueError("the tokeniser is missing, or is not the one that the model reads")


def _merge(answers: Sequence[Answer], prompt_count: int, *, with_masks: bool) -> Detections:
    """One frame's answers, one a prompt -> Detections over all of them."""
    scores = np.zeros((sum(len(answer.scores) for answer in answers), prompt_count), np.float32)
    start = 0
    for column, answer in enumerate(answers):
        scores[start : start + len(answer.scores), column] = answer.scores
        start += len(answer.scores)
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(answer.boxes_xyxy_px for answer in answers)])
    masks = tuple(mask for answer in answers for mask in answer.masks) if with_masks else None
    return Detections(boxes, scores, masks)


def _window(box_xyxy_px: NDArray[np.float32], size_hw_px: tuple[int, ...]) -> tuple[int, int, int, int]:
    """A box with its margin, on whole pixels of the frame; never empty."""
    height, width = size_hw_px
    x0, y0, x1, y1 = box_xyxy_px.tolist()
    margin_x, margin_y = WINDOW_MARGIN * (x1 - x0), WINDOW_MARGIN * (y1 - y0)
    left = int(np.clip(np.floor(x0 - margin_x), 0, width - 1))
    top = int(np.clip(np.floor(y0 - margin_y), 0, height - 1))
    right = int(np.clip(np.ceil(x1 + margin_x), left + 1, width))
    bottom = int(np.clip(np.ceil(y1 + margin_y), top + 1, height))
    return left, top, right, bottom


def _enlarging(low: int, full: int, device: torch.device) -> torch.Tensor:
    """(full, low) weights of bilinear enlarging along one axis."""
    return interpolate(torch.eye(low, device=device)[None], size=full, mode="linear")[0].T

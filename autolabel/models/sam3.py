"""SAM 3 through transformers: one prompt at a time in, boxes with that prompt's score and their masks out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from autolabel.core.merging import SAME_PASS_IOU, merge_looks
from autolabel.core.prompts import PromptPlan, TokenCounts, needs_mask
from autolabel.errors import PermanentUsageError
from autolabel.models.placement import Placement
from autolabel.models.runtime import (
    DTYPES,
    load_pretrained,
    loading,
    require_finite,
    require_type,
    telling_of_memory,
)
from autolabel.models.sam_canvas import Framing, SizeHW, canvas_of
from autolabel.models.sam_masks import masks_in_windows, window_around
from autolabel.models.sam_reference import cut_to_window
from autolabel.protocols import RGB

# The published weights are written as the video model, of which this is the part that looks at pictures.
MODEL_TYPE, VIDEO_TYPE = "sam3", "sam3_video"
# What transformers' processor does, which needs torchvision: a square of the model's size, colours to [-1, 1], texts
# padded to what the text encoder was trained with.
MEAN = STD = (0.5, 0.5, 0.5)
TEXT_LENGTH = 32


class Sam3Detector:
    """A TextDetector that brings its masks. Every picture is stretched to one square, so sizes may be mixed.

    Each prompt is asked alone, as the weights were trained: prompts do not disturb each other, `per_pass` means
    nothing here, and a frame costs one pass of the image encoder and one of the detector's small rest a prompt.
    In bf16 the image encoder alone is: boxes are refined, and masks drawn, in float32.
    """

    def __init__(self, model: Any, tokenizer: Any, *, is_reference: bool = False) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._framing = Framing(model.config.image_size, is_padded=False, mean=MEAN, std=STD)
        self._is_reference = is_reference
        self._last: tuple[tuple[str, ...], list[dict[str, Any]]] = ((), [])

    @classmethod
    def load(cls, folder: Path, placement: Placement) -> Sam3Detector:
        """Raises PermanentModelError when the folder holds no whole SAM 3."""
        full = replace(placement, precision="fp32")
        # the tokeniser comes where an image processor would: pictures are prepared here
        model, tokenizer = load_pretrained(Sam3Model, AutoTokenizer, _written_type(folder), folder, full)
        with loading(folder):
            _require_words(tokenizer)
        model.vision_encoder.to(DTYPES[placement.precision])
        return cls(model, tokenizer, is_reference=placement.is_reference)

    @telling_of_memory
    @torch.inference_mode()
    def detect(self, images: Sequence[RGB], plan: PromptPlan) -> list[Detections]:
        """See `TextDetector`. Boxes that a prompt, be it a distractor, scores below every class's threshold are left
        out of its answer, before masks are drawn; there are masks where a class of the plan is drawn from one. What
        several prompts find is one object, with the score of each.

        Raises PermanentUsageError for a prompt that is too long.
        """
        texts = self._texts(plan.prompts)
        with_masks = any(needs_mask(cls.shape) for cls in plan.classes)
        nothing = Detections(
            np.zeros((0, 4), np.float32), np.zeros((0, len(texts)), np.float32), () if with_masks else None
        )
        found: list[Detections] = []
        for batch in [[image] for image in images] if self._is_reference else [images] if images else []:
            looks = list(self._ask(batch, texts, plan.least_score, with_masks=with_masks))
            found += [merge_looks([nothing, *(look[i] for look in looks)], SAME_PASS_IOU) for i in range(len(batch))]
        return found

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
        self, images: Sequence[RGB], texts: Sequence[dict[str, Any]], least_score: float, *, with_masks: bool
    ) -> Iterator[list[Detections]]:
        """For each prompt what it finds on each image. The images are encoded once for all prompts."""
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        vision = self._encode(images)
        for column, text in enumerate(texts):
            out = self._model(
                vision_embeds=vision,
                text_embeds=BaseModelOutputWithPooling(pooler_output=text["text_embeds"].expand(len(images), -1, -1)),
                attention_mask=text["attention_mask"].expand(len(images), -1),
            )
            scored = out.pred_logits.sigmoid() * out.presence_logits.sigmoid()
            answers = (scored[..., None], out.pred_logits[..., None], out.pred_boxes)
            told = torch.cat(answers, dim=-1).cpu()  # one wait for the device, and not one a question
            require_finite(told[..., :2], "logits")
            require_finite(told[..., 2:], "boxes")
            scores = told[..., 0].numpy()
            scale = np.array([[width, height] * 2 for height, width in sizes], np.float32)
            boxes = told[..., 2:].numpy() * scale[:, None]
            frame, query = np.nonzero(scores >= least_score)
            block = np.zeros((len(frame), len(texts)), np.float32)
            block[:, column] = scores[frame, query]
            masks: list[Mask] = []
            if with_masks and len(frame):
                chosen = torch.from_numpy(frame * scores.shape[1] + query).to(out.pred_masks.device)
                logits = out.pred_masks.flatten(0, 1)[chosen]
                require_finite(logits, "masks")
                # masks are not rated: the query's own score stands for that
                owns = told[frame, query, 1].sigmoid().tolist()
                masks = self._masks(logits, owns, boxes[frame, query], [sizes[f] for f in frame])
            yield [
                Detections(
                    boxes[i][query[frame == i]],
                    block[frame == i],
                    tuple(masks[k] for k in np.flatnonzero(frame == i)) if with_masks else None,
                )
                for i in range(len(images))
            ]

    def _encode(self, images: Sequence[RGB]) -> Any:
        """The image encoder's features, in float32 whatever its precision."""
        encoder = self._model.vision_encoder
        vision = encoder(self._framing.squares(images, self._model.device).to(encoder.dtype))
        vision.fpn_hidden_states = tuple(level.float() for level in vision.fpn_hidden_states)
        vision.fpn_position_encoding = tuple(
            encoder.neck.position_encoding(level.shape, level.device, level.dtype)
            for level in vision.fpn_hidden_states
        )
        return vision

    def _masks(
        self,
        logits: torch.Tensor,
        scores: Sequence[float],
        boxes_xyxy_px: NDArray[np.float32],
        sizes_hw_px: Sequence[SizeHW],
    ) -> list[Mask]:
        """Logits (n, low, low), a box and a frame's size each -> Masks: a probability above 1/2, enlarged."""
        probability, low = logits.sigmoid(), logits.shape[-1]
        if self._is_reference:
            whole = [
                interpolate(p[None, None], size, mode="bilinear")[0, 0] > 0.5
                for p, size in zip(probability, sizes_hw_px, strict=True)
            ]
            return [
                cut_to_window(bits.cpu().numpy(), *of) for bits, *of in zip(whole, boxes_xyxy_px, scores, strict=True)
            ]
        windows = [window_around(box, size) for box, size in zip(boxes_xyxy_px, sizes_hw_px, strict=True)]
        canvases = [canvas_of(size, self._framing, low, logits.device) for size in sizes_hw_px]
        return masks_in_windows(probability - 0.5, scores, windows, canvases)


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

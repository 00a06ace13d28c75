"""Grounding DINO through transformers: prompts in, boxes with one score a prompt out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoConfig,
    AutoModelForZeroShotObjectDetection,
    AutoTokenizer,
    GroundingDinoImageProcessorPil,
)
from transformers.models.grounding_dino import modeling_grounding_dino

from autolabel.core.detections import Detections
from autolabel.core.merging import SAME_PASS_IOU, merge_looks
from autolabel.core.prompts import PromptPlan, TokenCounts, pack_prompts, prompt_spans
from autolabel.errors import PermanentUsageError
from autolabel.models.placement import Placement
from autolabel.models.runtime import load_pretrained, loading, require_finite, require_type, telling_of_memory
from autolabel.protocols import RGB

MODEL_TYPE = "grounding-dino"
CLS, SEP, FULL_STOP, QUESTION_MARK = 101, 102, 1012, 1029
DELIMITER_IDS = frozenset({CLS, SEP, FULL_STOP, QUESTION_MARK})
"""BERT's ids that end a phrase; transformers' model code has them hard-wired too."""

# No recipe sets a threshold this low; without a floor all of the 900 queries of every frame would travel on.
SCORE_FLOOR = 0.05


@dataclass(frozen=True)
class TextChunk:
    """Prompts that the model reads at once.

    - `columns`: which of the plan's prompts.
    - `input_ids`: (1, T) int64, '[CLS] a . b . [SEP]'.
    - `spans`: for each prompt the positions of its tokens in `input_ids`.
    """

    columns: range
    input_ids: torch.Tensor
    spans: list[list[int]]


class GroundingDinoDetector:
    """A TextDetector. Prompts beyond the model's text length are asked in several passes."""

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._image_processor = image_processor
        self._last: tuple[tuple[tuple[str, ...], int | None], list[TextChunk]] = (((), None), [])

    @classmethod
    def load(cls, folder: Path, placement: Placement) -> GroundingDinoDetector:
        """Raises PermanentModelError when the folder holds no whole Grounding DINO."""
        model, image_processor = load_pretrained(
            AutoModelForZeroShotObjectDetection, GroundingDinoImageProcessorPil, MODEL_TYPE, folder, placement
        )
        correct_text_positions(model)
        return cls(model, _load_tokenizer(folder), image_processor)

    @telling_of_memory
    @torch.inference_mode()
    def detect(self, images: Sequence[RGB], plan: PromptPlan) -> list[Detections]:
        """See `TextDetector`. Boxes whose best score is below `SCORE_FLOOR` are left out.

        Images of one size go through the model together, sizes apart: padding would move the scores.
        A prompt's score moves a little with the prompts that share its pass.
        """
        chunks = self._chunks(plan)
        found: dict[int, Detections] = {}
        for positions in _by_size(images):
            pixels = self._pixels([images[i] for i in positions])
            passes = [(chunk.columns, *self._ask(pixels, chunk)) for chunk in chunks]
            for row, position in enumerate(positions):
                answers = [(columns, boxes[row], scores[row]) for columns, boxes, scores in passes]
                found[position] = _merge(answers, len(plan.prompts), images[position].shape[:2])
        return [found[i] for i in range(len(images))]

    def _chunks(self, plan: PromptPlan) -> list[TextChunk]:
        """Tokenised prompts; those of the last plan are kept, since a run asks the same on every frame."""
        prompts = plan.prompts
        if self._last[0] != (prompts, plan.per_pass):
            tokens = _count(self._tokenizer, self._model.config, prompts)
            try:
                ranges = pack_prompts(tokens, plan.per_pass)
            except ValueError as exc:
                raise PermanentUsageError(f"{exc}, in the prompt map") from exc
            self._last = ((prompts, plan.per_pass), [self._tokenise(prompts, tokens, columns) for columns in ranges])
        return self._last[1]

    def _tokenise(self, prompts: tuple[str, ...], tokens: TokenCounts, columns: range) -> TextChunk:
        texts = [prompts[i] for i in columns]
        ids: list[int] = self._tokenizer(". ".join(texts) + ".").input_ids
        spans = prompt_spans(ids, DELIMITER_IDS)
        if [len(span) + 1 for span in spans] != [tokens.counts[i] for i in columns]:
            raise PermanentUsageError(
                f"the model reads other phrases ({len(spans)}) than the {len(texts)} prompts {texts}; "
                "a prompt must hold words, and no '.' or '?'"
            )
        return TextChunk(columns, torch.tensor([ids], device=self._model.device), spans)

    def _pixels(self, images: Sequence[RGB]) -> torch.Tensor:
        """Images of one size -> (B, 3, h, w) float32, resized and normalised as the weights were trained."""
        inputs = self._image_processor(images=list(images), input_data_format="channels_last", return_tensors="pt")
        pixels: torch.Tensor = inputs["pixel_values"].to(self._model.device)
        return pixels

    def _ask(self, pixels: torch.Tensor, chunk: TextChunk) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One pass -> boxes (B, Q, 4) as centre and size in [0, 1], and scores (B, Q, prompts of the chunk).

        A prompt's score is the mean of the mean and the least probability of its tokens: the mean alone lets "steel
        clamp" answer to every clamp, the least alone is ruled by one weak word piece. On the bundled model it is as
        good as any other mean within the noise of seeds; the product is far worse (scripts/training/formulas.py).
        """
        out = self._model(pixel_values=pixels, input_ids=chunk.input_ids.expand(len(pixels), -1))
        tokens = out.logits[..., : chunk.input_ids.shape[1]]  # beyond the text they are -inf
        require_finite(tokens, "token logits")
        require_finite(out.pred_boxes, "boxes")
        probability = tokens.sigmoid()
        of_prompts = [probability[..., span] for span in chunk.spans]
        scores = torch.stack([(p.mean(-1) + p.amin(-1)) / 2 for p in of_prompts], dim=-1)
        return out.pred_boxes.cpu().numpy(), scores.cpu().numpy()


def count_tokens(folder: Path, prompts: Sequence[str]) -> TokenCounts:
    """From configuration and tokeniser alone. Raises PermanentModelError when the folder does not hold both."""
    with loading(folder):
        require_type(folder, MODEL_TYPE)
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return _count(_load_tokenizer(folder), config, prompts)


def _count(tokenizer: Any, config: Any, prompts: Sequence[str]) -> TokenCounts:
    ids = [tokenizer(f"{prompt}.", add_special_tokens=False).input_ids for prompt in prompts]
    unknown = tuple(one.count(tokenizer.unk_token_id) for one in ids)
    return TokenCounts(tuple(map(len, ids)), config.max_text_len - 2, unknown)  # less [CLS] and [SEP]


def _load_tokenizer(folder: Path) -> Any:
    with loading(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        _require_delimiters(tokenizer)
    return tokenizer


def _require_delimiters(tokenizer: Any) -> None:
    """Where its files are missing, transformers makes up a tokeniser that knows no word."""
    if tokenizer(".?").input_ids != [CLS, FULL_STOP, QUESTION_MARK, SEP]:
        raise ValueError("the tokeniser is missing, or is not the BERT tokeniser that the model reads")


def correct_text_positions(model: Any) -> None:
    """The one place where transformers is altered: two faults of its Grounding DINO, mended from 5.23 on.

    - Its layout gives '.' and '?' position 0. The forward pass takes no positions, so its function is replaced.
    - The text enhancer's sinusoids took the positions' type, which cut them to whole numbers: they go in as floats.
    """
    modeling_grounding_dino.generate_masks_with_special_tokens_and_transfer_map = phrase_layout
    model.model.encoder.register_forward_pre_hook(_float_positions, with_kwargs=True)


def _float_positions(_: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args, kwargs | {"text_position_ids": kwargs["text_position_ids"].float()}


def phrase_layout(
    input_ids: torch.Tensor, special_tokens: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) token ids -> which tokens see each other (B, T, T) bool, and positions within the phrase (B, T) int64.

    As `generate_masks_with_special_tokens_and_transfer_map` in IDEA-Research/GroundingDINO's bertwarper.py, with
    which the published weights were trained: a phrase is closed by, and includes, its delimiter and counts from 0;
    a phrase that the last token would close, or none, is left apart: each token sees itself, at position 0.
    `special_tokens` is what transformers passes from 5.23 on: the same ids.
    """
    del special_tokens
    delimiters = torch.tensor(sorted(DELIMITER_IDS), device=input_ids.device)
    ends = torch.isin(input_ids, delimiters).long()
    phrase = ends.cumsum(1) - ends
    ends_before_last = torch.cat([ends[:, :-1], torch.zeros_like(ends[:, -1:])], dim=1)
    closed = ends_before_last.flip(1).cumsum(1).flip(1) > 0
    index = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    after_end = torch.where(ends.bool(), index + 1, 0).cummax(1).values
    start = torch.cat([torch.zeros_like(after_end[:, :1]), after_end[:, :-1]], dim=1)
    same_phrase = (phrase[:, :, None] == phrase[:, None, :]) & closed[:, None, :]
    itself = torch.eye(input_ids.shape[1], dtype=torch.bool, device=input_ids.device)
    return same_phrase | itself, torch.where(closed, index - start, 0)


def _by_size(images: Sequence[RGB]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, image in enumerate(images):
        groups[image.shape].append(i)
    return list(groups.values())


def _merge(
    answers: Sequence[tuple[range, NDArray[np.float32], NDArray[np.float32]]],
    prompt_count: int,
    size_hw_px: tuple[int, ...],
) -> Detections:
    """One frame's passes (columns, boxes as centre and size in [0, 1], scores) -> Detections over all columns."""
    looks = []
    for columns, boxes_cxcywh, scores in answers:
        keep = scores.max(axis=1) >= SCORE_FLOOR
        block = np.zeros((int(keep.sum()), prompt_count), np.float32)
        block[:, columns] = scores[keep]
        looks.append(Detections(_to_xyxy_px(boxes_cxcywh[keep], size_hw_px), block))
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros((0, prompt_count), np.float32))
    return merge_looks(looks or [nothing], SAME_PASS_IOU)


def _to_xyxy_px(boxes_cxcywh: NDArray[np.float32], size_hw_px: tuple[int, ...]) -> NDArray[np.float32]:
    centre, half = boxes_cxcywh[:, :2], boxes_cxcywh[:, 2:] / 2
    height, width = size_hw_px
    scale = np.array([width, height, width, height], np.float32)
    boxes = np.hstack([centre - half, centre + half]) * scale
    return boxes.astype(np.float32)

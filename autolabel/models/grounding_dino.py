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

from autolabel.core.detections import Detections
from autolabel.core.merging import SAME_PASS_IOU, merge_looks
from autolabel.core.prompts import PromptPlan, TokenCounts, pack_prompts, prompt_spans
from autolabel.errors import PermanentUsageError
from autolabel.models.dino_forward import FastForward, Forward, ReferenceForward
from autolabel.models.dino_text import CLS, DELIMITER_IDS, FULL_STOP, QUESTION_MARK, SEP
from autolabel.models.placement import Placement
from autolabel.models.runtime import load_pretrained, loading, require_finite, require_type, telling_of_memory
from autolabel.protocols import RGB

MODEL_TYPE = "grounding-dino"
"""What config.json says; MM-Grounding-DINO, of which LLMDet is one, has its own word and the same layers."""


@dataclass(frozen=True)
class TextChunk:
    """Prompts that the model reads at once.

    - `columns`: which of the plan's prompts.
    - `text`: '[CLS] a . b . [SEP]' as the model's `Forward` has read it.
    - `spans`: for each prompt the positions of its tokens in the text.
    """

    columns: range
    text: Any
    spans: list[list[int]]


class GroundingDinoDetector:
    """A TextDetector. Prompts beyond the model's text length are asked in several passes."""

    def __init__(self, model: Any, forward: Forward, tokenizer: Any) -> None:
        self._model = model
        self._forward = forward
        self._tokenizer = tokenizer
        self._last: tuple[tuple[tuple[str, ...], int | None], list[TextChunk]] = (((), None), [])

    @classmethod
    def load(cls, folder: Path, placement: Placement, model_type: str = MODEL_TYPE) -> GroundingDinoDetector:
        """Raises PermanentModelError when the folder holds no whole Grounding DINO of that type."""
        model, image_processor = load_pretrained(
            AutoModelForZeroShotObjectDetection, GroundingDinoImageProcessorPil, model_type, folder, placement
        )
        with loading(folder):
            forward = (ReferenceForward if placement.is_reference else FastForward)(model, image_processor)
        return cls(model, forward, _load_tokenizer(folder))

    @telling_of_memory
    @torch.inference_mode()
    def detect(self, images: Sequence[RGB], plan: PromptPlan) -> list[Detections]:
        """See `TextDetector`. Boxes whose best score in a pass is below every class's threshold are left out of it,
        those of distractors too: else all of the 900 queries of every frame would travel on.

        Images of one size go through the model together, sizes apart: padding would move the scores.
        A prompt's score moves a little with the prompts that share its pass.
        """
        chunks = self._chunks(plan)
        found: dict[int, Detections] = {}
        for positions in _by_size(images):
            seen = self._forward.see(self._forward.prepare([images[i] for i in positions]))
            passes = [(chunk.columns, *self._ask(seen, chunk)) for chunk in chunks]
            for row, position in enumerate(positions):
                answers = [(columns, boxes[row], scores[row]) for columns, boxes, scores in passes]
                found[position] = _merge(answers, plan, images[position].shape[:2])
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
        text = self._forward.read(torch.tensor([ids], device=self._model.device))
        return TextChunk(columns, text, spans)

    def _ask(self, seen: Any, chunk: TextChunk) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One pass -> boxes (B, Q, 4) as centre and size in [0, 1], and scores (B, Q, prompts of the chunk)."""
        logits, boxes = self._forward.answer(seen, chunk.text)
        scores = prompt_scores(logits.sigmoid(), chunk.spans).cpu()
        boxes = boxes.cpu()
        require_finite(scores, "token logits")
        require_finite(boxes, "boxes")
        return boxes.numpy(), scores.numpy()


def prompt_scores(token_probabilities: torch.Tensor, spans: Sequence[Sequence[int]]) -> torch.Tensor:
    """(B, Q, T) in [0, 1] -> (B, Q, len(spans)): each prompt's score, from those of its tokens.

    The mean of their mean and their least: the mean alone lets "steel clamp" answer to every clamp, the least alone
    is ruled by one weak word piece. On the bundled model it is as good as any other mean within the noise of seeds;
    the product is far worse (scripts/training/formulas.py).
    """
    # slices, as a prompt's tokens are neighbours: a list of positions would be sent to the device, one wait a prompt
    of_prompts = [token_probabilities[..., span[0] : span[-1] + 1] for span in spans]
    return torch.stack([(p.mean(-1) + p.amin(-1)) / 2 for p in of_prompts], dim=-1)


def count_tokens(folder: Path, prompts: Sequence[str], model_type: str = MODEL_TYPE) -> TokenCounts:
    """From configuration and tokeniser alone. Raises PermanentModelError when the folder does not hold both."""
    with loading(folder):
        require_type(folder, model_type)
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


def _by_size(images: Sequence[RGB]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, image in enumerate(images):
        groups[image.shape].append(i)
    return list(groups.values())


def _merge(
    answers: Sequence[tuple[range, NDArray[np.float32], NDArray[np.float32]]],
    plan: PromptPlan,
    size_hw_px: tuple[int, ...],
) -> Detections:
    """One frame's passes (columns, boxes as centre and size in [0, 1], scores) -> Detections over all columns."""
    prompt_count = len(plan.prompts)
    looks = []
    for columns, boxes_cxcywh, scores in answers:
        keep = scores.max(axis=1) >= plan.least_score
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

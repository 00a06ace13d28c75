"""How Grounding DINO lays out its text: which tokens see each other, and where each stands in its phrase."""

from __future__ import annotations

import sys
from typing import Any

import torch

CLS, SEP, FULL_STOP, QUESTION_MARK = 101, 102, 1012, 1029
DELIMITER_IDS = frozenset({CLS, SEP, FULL_STOP, QUESTION_MARK})
"""BERT's ids that end a phrase; transformers' model code has them hard-wired too."""


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


def correct_text_positions(model: Any) -> None:
    """The one place where transformers is altered: two faults of its Grounding DINOs, mended from 5.23 on.

    - Its layout gives '.' and '?' position 0. The forward pass takes no positions, so its function is replaced, in
      the module that the model's class comes from: each family has its own copy.
    - The text enhancer's sinusoids took the positions' type, which cut them to whole numbers: they go in as floats.
    """
    sys.modules[type(model).__module__].generate_masks_with_special_tokens_and_transfer_map = phrase_layout  # type: ignore[attr-defined]
    model.model.encoder.register_forward_pre_hook(_float_positions, with_kwargs=True)


def _float_positions(_: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args, kwargs | {"text_position_ids": kwargs["text_position_ids"].float()}

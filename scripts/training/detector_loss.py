"""What the detector is trained by: a dense loss on its proposals, and one-to-one matching in each decoder layer.

Transformers' own loss gives the proposals no gradient and takes every text of a batch for the same; hence this one.
Boxes are centre and size in [0, 1]; B images, L tokens, Q queries, S proposals.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers.image_transforms import center_to_corners_format

from autolabel.core.prompts import prompt_spans
from autolabel.models.dino_text import DELIMITER_IDS

STRIDES = (8, 16, 32)
PROPOSALS_AN_OBJECT = 7
REPEATS = 4
"""How often an object is matched in every decoder layer but the last: more queries learn."""
OF_CLASS, OF_BOX, OF_GIOU = 2.0, 5.0, 2.0
ENDS = DELIMITER_IDS | {0}  # padding too


class Truth(NamedTuple):
    """What is to be found in a frame: boxes (n, 4), and for each the index of the phrase that means it."""

    boxes: torch.Tensor
    phrases: list[int]


def detection_loss(
    model: Any, out: Any, text: Any, truths: list[Truth], size_hw_px: tuple[int, int]
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss, and its parts by name."""
    length = text["input_ids"].shape[1]
    spoken = text["attention_mask"].bool()
    positive = [
        _tokens_of(truth.phrases, ids, length) for truth, ids in zip(truths, text["input_ids"].tolist(), strict=True)
    ]
    parts = {"proposals": _proposal_loss(out, truths, positive, spoken, size_hw_px)}
    hidden, reference = out.intermediate_hidden_states, out.init_reference_points
    layers = hidden.shape[1]
    for layer in range(layers):
        logits = model.class_embed[layer](hidden[:, layer], out.encoder_last_hidden_state_text, spoken)[..., :length]
        offsets = model.bbox_embed[layer](hidden[:, layer])
        boxes = (offsets + torch.special.logit(reference, eps=1e-5)).sigmoid()
        repeats = REPEATS if layer + 1 < layers else 1
        parts[f"layer {layer}"] = _matched_loss(logits, boxes, truths, positive, spoken, repeats)
        reference = out.intermediate_reference_points[:, layer]
    total = torch.stack(list(parts.values())).sum()
    return total, {name: float(part.detach()) for name, part in parts.items()}


def _tokens_of(phrases: list[int], ids: list[int], length: int) -> torch.Tensor:
    """(n, L): 1 where a token belongs to the phrase of an object."""
    spans = prompt_spans(ids, frozenset(ENDS))
    positive = torch.zeros(len(phrases), length)
    for row, phrase in enumerate(phrases):
        positive[row, spans[phrase]] = 1
    return positive


def _proposal_loss(
    out: Any, truths: list[Truth], positive: list[torch.Tensor], spoken: torch.Tensor, size_hw_px: tuple[int, int]
) -> torch.Tensor:
    """Each object is taught to the proposals nearest to its middle, on the level that suits its size."""
    logits = out.enc_outputs_class[..., : spoken.shape[1]]
    coordinates = out.enc_outputs_coord_logits
    centres, sides = _grid(size_hw_px)
    target = torch.zeros_like(logits)
    rows: list[torch.Tensor] = []
    truth_boxes: list[torch.Tensor] = []
    usable = torch.isfinite(coordinates).all(-1)
    for image, truth in enumerate(truths):
        if not truth.phrases:
            continue
        proposals, objects = _nearest(truth.boxes, centres, sides, usable[image])
        target[image].index_reduce_(0, proposals, positive[image][objects], "amax")
        rows.append(torch.stack([torch.full_like(proposals, image), proposals]))
        truth_boxes.append(truth.boxes[objects])
    count = max(1, sum(len(boxes) for boxes in truth_boxes))
    heard = spoken[:, None, :].expand_as(logits)
    loss = OF_CLASS * _focal(logits[heard], target[heard]).sum() / count
    if rows:
        image_index, proposal_index = torch.cat(rows, 1)
        loss = loss + _box_loss(coordinates[image_index, proposal_index].sigmoid(), torch.cat(truth_boxes)) / count
    return loss


def _grid(size_hw_px: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Middles (S, 2) and sides (S,) of the model's proposals, in its order."""
    centres, sides = [], []
    for level, stride in enumerate(STRIDES):
        rows, columns = (math.ceil(size / stride) for size in size_hw_px)
        y, x = torch.meshgrid(
            (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij"
        )
        centres.append(torch.stack([x, y], -1).view(-1, 2))
        sides.append(torch.full((rows * columns,), 0.05 * 2**level))
    return torch.cat(centres), torch.cat(sides)


@torch.no_grad()
def _nearest(
    boxes: torch.Tensor, centres: torch.Tensor, sides: torch.Tensor, usable: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Proposals and the objects that they are to learn; every object has at least one."""
    away = (centres[:, None] - boxes[None, :, :2]).abs() / boxes[None, :, 2:].clamp(min=0.03)
    fitting_side = (boxes[:, 2:].prod(1).sqrt() * 0.5).clamp(0.04, 0.25)
    off_level = torch.log2(sides[:, None] / fitting_side[None]).abs()
    outside = 1e3 * (away.amax(-1) > 0.5)
    cost = away.square().sum(-1) * 6 + off_level + outside + 1e4 * (~usable)[:, None]
    costs, proposals = cost.topk(PROPOSALS_AN_OBJECT, dim=0, largest=False)
    good = costs < 1e3
    good[0] = costs[0] < 1e4
    objects = torch.arange(len(boxes)).expand_as(proposals)
    return proposals[good], objects[good]


def _matched_loss(
    logits: torch.Tensor,
    boxes: torch.Tensor,
    truths: list[Truth],
    positive: list[torch.Tensor],
    spoken: torch.Tensor,
    repeats: int,
) -> torch.Tensor:
    """One decoder layer: each object has `repeats` queries of its own, the other queries are to say nothing."""
    target = torch.zeros_like(logits)
    found: list[torch.Tensor] = []
    truth_boxes: list[torch.Tensor] = []
    for image, truth in enumerate(truths):
        if not truth.phrases:
            continue
        cost = _matching_cost(logits[image].detach(), boxes[image].detach(), truth.boxes, positive[image])
        queries, objects = linear_sum_assignment(np.tile(cost.numpy(), (1, repeats)))
        objects %= len(truth.phrases)
        target[image, queries] = positive[image][objects]
        found.append(boxes[image, queries])
        truth_boxes.append(truth.boxes[objects])
    count = repeats * max(1, sum(len(truth.phrases) for truth in truths))
    heard = spoken[:, None, :].expand_as(logits)
    loss = OF_CLASS * _focal(logits[heard], target[heard]).sum() / count
    return loss + _box_loss(torch.cat(found), torch.cat(truth_boxes)) / count if found else loss


def _matching_cost(
    logits: torch.Tensor, boxes: torch.Tensor, truth_boxes: torch.Tensor, positive: torch.Tensor
) -> torch.Tensor:
    """(Q, n)"""
    p = logits.sigmoid().nan_to_num(0)
    of_match, of_none = 0.25 * (1 - p) ** 2 * -(p + 1e-8).log(), 0.75 * p**2 * -(1 - p + 1e-8).log()
    share = positive / positive.sum(1, keepdim=True)
    overlap = _giou(boxes[:, None].expand(-1, len(truth_boxes), -1), truth_boxes[None].expand(len(boxes), -1, -1))
    distance = torch.cdist(boxes, truth_boxes, p=1)
    return OF_CLASS * (of_match - of_none) @ share.T + OF_BOX * distance - OF_GIOU * overlap


def _box_loss(boxes: torch.Tensor, truth_boxes: torch.Tensor) -> torch.Tensor:
    return OF_BOX * (boxes - truth_boxes).abs().sum() + OF_GIOU * (1 - _giou(boxes, truth_boxes)).sum()


def _focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    p = logits.sigmoid()
    right = p * target + (1 - p) * (1 - target)
    weight = 0.25 * target + 0.75 * (1 - target)
    return weight * (1 - right) ** 2 * binary_cross_entropy_with_logits(logits, target, reduction="none")


def _giou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Generalised IoU of boxes, pair by pair."""
    a, b = center_to_corners_format(boxes), center_to_corners_format(others)
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    outer = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = boxes[..., 2:].prod(-1) + others[..., 2:].prod(-1) - inner
    return inner / union.clamp(min=1e-6) - (outer - union) / outer.clamp(min=1e-6)

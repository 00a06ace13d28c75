"""Trains the small SAM from nothing."""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, mse_loss
from transformers import (
    SamConfig,
    SamImageProcessorPil,
    SamMaskDecoderConfig,
    SamModel,
    SamProcessor,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

from autolabel.sandbox.scenes import Rgb, Scene
from training.loop import Loss, train
from training.pool import FIRST_SEED, SEEDS_A_ROUND, Pool

SQUARE_PX, PATCH_PX, WIDTH = 512, 16, 96
LOGITS_PX, TARGET_PX = 4 * SQUARE_PX // PATCH_PX, 256
BATCH, OBJECTS = 4, 4
POOL, RENEWED_A_STEP = 500, 1
BOX_JITTER = 0.04
MULTIMASK_EVERY = 4
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


class Round(NamedTuple):
    """`hole_weight`: what a cell in a hole, or in the ring around it, weighs beside another cell of the box."""

    steps: int
    peak_rate: float
    hole_weight: float


# Holes are small beside the whole and the first to be lost: the second round weighs them.
ROUNDS = (Round(4000, 1e-3, 1), Round(2600, 5e-4, 6))


class Sample(NamedTuple):
    """A scene in SAM's padded square: picture (h, w, 3) without the padding, boxes (n, 4) there as corners, and per
    cell of the target's grid (n, TARGET_PX, TARGET_PX) how much the objects cover, 0 to 255, and whether it is in a
    hole or next to it."""

    rgb: Rgb
    boxes_xyxy_px: NDArray[np.float32]
    cover: NDArray[np.uint8]
    by_hole: NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the segmenter goes")
    args = parser.parse_args()
    torch.set_num_threads(1)  # more of them only wait for each other in a model this small
    torch.manual_seed(0)
    rng = np.random.default_rng(2)
    model = new_model()
    image_processor = SamImageProcessorPil(
        size={"longest_edge": SQUARE_PX},
        pad_size={"height": SQUARE_PX, "width": SQUARE_PX},
        mask_size={"longest_edge": LOGITS_PX},
        mask_pad_size={"height": LOGITS_PX, "width": LOGITS_PX},
    )
    SamProcessor(image_processor).save_pretrained(args.folder)
    first_seed = FIRST_SEED["segmenter"]
    for one in ROUNDS:
        pool = Pool(POOL, first_seed, rng, prepared)
        first_seed += SEEDS_A_ROUND

        def loss_of_step(model: Any, step: int, one: Round = one, pool: Pool[Sample] = pool) -> Loss:
            pool.renew(RENEWED_A_STEP)
            pixels, boxes, cover, by_hole = batch(pool, rng)
            multimask = step % MULTIMASK_EVERY == MULTIMASK_EVERY - 1
            out = model(pixel_values=pixels, input_boxes=boxes, multimask_output=multimask)
            weight = _around_boxes(boxes) * torch.where(by_hole, one.hole_weight, 1.0)
            return segmentation_loss(out.pred_masks, out.iou_scores, weight, cover)

        model = train(
            model, one.steps, one.peak_rate, loss_of_step, lambda average: average.save_pretrained(args.folder)
        )


def new_model() -> Any:
    vision = SamVisionConfig(
        hidden_size=128,
        output_channels=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SQUARE_PX,
        patch_size=PATCH_PX,
        window_size=8,
        global_attn_indexes=[3],
        mlp_dim=256,
        num_pos_feats=WIDTH // 2,
        use_rel_pos=True,
        initializer_range=0.02,
    )
    prompt = SamPromptEncoderConfig(
        hidden_size=WIDTH, image_size=SQUARE_PX, patch_size=PATCH_PX, mask_input_channels=16
    )
    decoder = SamMaskDecoderConfig(
        hidden_size=WIDTH, mlp_dim=192, num_hidden_layers=2, num_attention_heads=4, iou_head_hidden_dim=64
    )
    model = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder))
    _start_wide(model)
    return model


@torch.no_grad()
def _start_wide(model: Any) -> None:
    """Transformers' start is for far wider layers (and nearly 0 in the encoder): a narrow model would not learn."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d | torch.nn.Embedding):
            module.reset_parameters()
    waves = torch.randn(2, WIDTH // 2)
    for embedding in (model.shared_image_embedding, model.prompt_encoder.shared_embedding):
        embedding.positional_embedding.copy_(waves)
        embedding.positional_embedding.requires_grad_(False)


def prepared(scene: Scene) -> Sample:
    height, width = scene.rgb.shape[:2]
    scale = SQUARE_PX / max(width, height)
    used = (round(width * scale), round(height * scale))
    rgb = np.asarray(cv2.resize(scene.rgb, used, interpolation=cv2.INTER_AREA), np.uint8)
    boxes = np.array([cv2.boundingRect(seen.mask.view(np.uint8)) for seen in scene.objects], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    cover = np.zeros((len(boxes), TARGET_PX, TARGET_PX), np.uint8)
    by_hole = np.zeros(cover.shape, np.bool_)
    in_target = tuple(side * TARGET_PX // SQUARE_PX for side in used)
    for i, seen in enumerate(scene.objects):
        small = cv2.resize(seen.mask.astype(np.uint8) * 255, in_target, interpolation=cv2.INTER_AREA)
        cover[i, : in_target[1], : in_target[0]] = small
        by_hole[i, : in_target[1], : in_target[0]] = _by_hole(seen.mask, in_target)
    return Sample(rgb, boxes * np.float32(scale), cover, by_hole)


def _by_hole(mask: NDArray[np.bool_], size_wh: tuple[int, ...]) -> NDArray[np.bool_]:
    """Cells of the target's grid that are in a hole of the mask, or at most two cells from one."""
    holes = np.zeros(mask.shape, np.uint8)
    contours, tree = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    inner = [contour for contour, (_, _, _, parent) in zip(contours, tree[0], strict=True) if parent >= 0]
    cv2.drawContours(holes, inner, -1, 1, cv2.FILLED)
    small = cv2.resize(holes & ~mask, size_wh, interpolation=cv2.INTER_NEAREST)
    return cv2.dilate(small, np.ones((5, 5), np.uint8)).astype(np.bool_)


def batch(
    pool: Pool[Sample], rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels (B, 3, square, square), boxes (B, n, 4) shaken a little as a detector's are, cover and whether it is by
    a hole (B, n, t, t)."""
    pixels = torch.zeros(BATCH, 3, SQUARE_PX, SQUARE_PX)
    boxes, covers, by_holes = np.zeros((BATCH, OBJECTS, 4), np.float32), [], []
    for row, sample in enumerate(pool.pick(BATCH)):
        height, width = sample.rgb.shape[:2]
        picture = torch.from_numpy(sample.rgb).permute(2, 0, 1).float() / 255
        pixels[row, :, :height, :width] = (picture - MEAN) / STD
        objects = rng.integers(len(sample.boxes_xyxy_px), size=OBJECTS)
        exact = sample.boxes_xyxy_px[objects]
        sides = np.tile(exact[:, 2:] - exact[:, :2], 2)
        boxes[row] = exact + rng.normal(0, BOX_JITTER, (OBJECTS, 4)) * sides
        covers.append(sample.cover[objects])
        by_holes.append(sample.by_hole[objects])
    cover = torch.from_numpy(np.stack(covers)).float() / 255
    return pixels, torch.from_numpy(boxes), cover, torch.from_numpy(np.stack(by_holes))


def segmentation_loss(
    logits: torch.Tensor, scores: torch.Tensor, weight: torch.Tensor, cover: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """`logits` (B, n, m, low, low): of m masks a box the best one learns; each score is taught its mask's IoU.
    `weight` and `cover`: (B, n, t, t).

    They are judged enlarged, as they are used: thin shapes lie between the cells of the small grid.
    """
    count = logits.shape[2]
    large = interpolate(logits.flatten(0, 1), size=TARGET_PX, mode="bilinear", align_corners=False)
    large = large.view(*logits.shape[:3], TARGET_PX, TARGET_PX)
    target = cover[:, :, None].expand_as(large)
    weight = weight[:, :, None].expand(-1, -1, count, -1, -1)
    entropy = binary_cross_entropy_with_logits(large, target, reduction="none")
    entropy = (entropy * weight).sum((-1, -2)) / weight.sum((-1, -2))
    probability = large.sigmoid()
    both, each = (probability * target).sum((-1, -2)), (probability + target).sum((-1, -2))
    losses = 2 * entropy + 1 - (2 * both + 1) / (each + 1)
    best = losses.argmin(-1, keepdim=True)
    with torch.no_grad():
        drawn, true = large > 0, target > 0.5
        iou = (drawn & true).sum((-1, -2)) / (drawn | true).sum((-1, -2)).clamp(min=1)
    loss = losses.gather(-1, best).mean() + mse_loss(scores, iou)
    return loss, {"loss": float(loss.detach()), "iou": float(iou.gather(-1, best).mean())}


def _around_boxes(boxes: torch.Tensor) -> torch.Tensor:
    """(B, n, 4) -> weights (B, n, t, t): 1 within a box and a margin, next to nothing elsewhere."""
    cells = (torch.arange(TARGET_PX) + 0.5) * (SQUARE_PX / TARGET_PX)
    margin = (boxes[..., 2:] - boxes[..., :2]) * 0.12 + 8
    low, high = (boxes[..., :2] - margin)[..., None], (boxes[..., 2:] + margin)[..., None]
    inside = (cells > low) & (cells < high)
    window = inside[..., 1, :, None] & inside[..., 0, None, :]
    return window.float() * 0.97 + 0.03


if __name__ == "__main__":
    main()

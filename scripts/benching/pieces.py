"""Single steps of a frame's way, the public recipe's and ours in turns: how much cheaper, and how equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import cv2
import numpy as np
import torch
from encord.objects.bitmask import BitmaskCoordinates
from numpy.typing import NDArray
from PIL import Image
from transformers import GroundingDinoConfig, GroundingDinoImageProcessorPil, SamImageProcessorPil
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoFusionLayer

from autolabel.core.detections import Mask
from autolabel.core.geometry import BoolArray, mask_to_frame, row_major_rle
from autolabel.models.dino_layers import fuse
from autolabel.models.pixels import normalise, resize, upload
from autolabel.models.sam_canvas import Framing, canvas_of
from autolabel.models.sam_masks import masks_in_windows, window_around
from benching.agreement import Boxes, mask_iou
from benching.contestants import coco_text
from benching.footage import drawn, grid
from benching.meter import Meter
from benching.speed_report import Piece

CELLS = 100 * 167 + 50 * 84 + 25 * 42 + 13 * 21  # of a frame of 800x1333
TOKENS = 17  # five prompts of two words
BOXES, LOGITS_PX, SQUARE_PX = 8, 256, 1024
SIZES_PX = ((1920, 1080), (3840, 2160))


def pieces(meter: Meter, device: torch.device, rounds: int) -> Iterator[Piece]:
    yield preprocessing(meter, device, rounds, SIZES_PX[0])
    yield fusion(meter, device, rounds)
    for width_px, height_px in SIZES_PX:
        yield masks_to_rle(meter, device, rounds, (height_px, width_px))
    for width_px, height_px in SIZES_PX:
        yield mask_to_label(meter, rounds, (height_px, width_px))


def taken_in_turns(
    meter: Meter, name: str, goal: float | None, ways: tuple[Callable[[], object], Callable[[], object]], rounds: int
) -> Piece:
    """Each way once to warm up, then one after the other."""
    for way in ways:
        way()
    theirs, ours = zip(*([meter(way)[1] for way in ways] for _ in range(rounds)), strict=True)
    return Piece(name, goal, list(theirs), list(ours))


def preprocessing(meter: Meter, device: torch.device, rounds: int, size_px: tuple[int, int]) -> Piece:
    """A picture -> what the detector reads, and what the segmenter reads."""
    (rgb,) = drawn(1, *size_px)
    for_detector, for_segmenter = GroundingDinoImageProcessorPil(), SamImageProcessorPil()
    mean, std = tuple(for_segmenter.image_mean), tuple(for_segmenter.image_std)
    framing = Framing(SQUARE_PX, is_padded=True, mean=mean, std=std)
    shortest, longest = (for_detector.size[f"{which}_edge"] for which in ("shortest", "longest"))
    used_hw_px = get_size_with_aspect_ratio(rgb.shape[:2], shortest, longest)

    def theirs() -> list[torch.Tensor]:
        picture = Image.fromarray(rgb)
        both = [each(images=picture, return_tensors="pt") for each in (for_detector, for_segmenter)]
        return [inputs["pixel_values"].to(device) for inputs in both]

    def ours() -> list[torch.Tensor]:
        grey = resize(upload([rgb], device), used_hw_px)
        return [normalise(grey, mean, std), framing.squares([rgb], device)]

    name = f"preprocessing for both models, {size_px[0]}x{size_px[1]}"
    piece = taken_in_turns(meter, name, None, (theirs, ours), rounds)
    apart = [((a - b).abs().amax((0, 2, 3)) * a.new_tensor(std)).max() for a, b in zip(theirs(), ours(), strict=True)]
    return replace(piece, agreement=f"off by {255 * max(map(float, apart)):.2f} grey levels at most")


def fusion(meter: Meter, device: torch.device, rounds: int) -> Piece:
    """One of the six layers in which the picture and the text of Grounding DINO meet."""
    torch.manual_seed(0)
    config = GroundingDinoConfig()
    layer = GroundingDinoFusionLayer(config).to(device).eval().requires_grad_(False)
    for gate in (layer.vision_param, layer.text_param):
        gate.fill_(1.0)
    vision = torch.randn(1, CELLS, config.d_model, device=device)
    text = torch.randn(1, TOKENS, config.d_model, device=device)
    padded = [torch.zeros(part.shape[:2], dtype=torch.bool, device=device) for part in (vision, text)]

    def theirs() -> tuple[torch.Tensor, torch.Tensor]:
        (to_vision, _), (to_text, _) = layer(vision, text, *padded)
        return to_vision, to_text

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        return fuse(layer, vision, text)

    piece = taken_in_turns(meter, f"fusion layer, {CELLS} cells and {TOKENS} tokens", 5, (theirs, ours), rounds)
    error = max(float((a - b).abs().max()) for a, b in zip(theirs(), ours(), strict=True))
    return replace(piece, agreement=f"off by {error:.1g} at most")


def masks_to_rle(meter: Meter, device: torch.device, rounds: int, size_hw_px: tuple[int, int]) -> Piece:
    """The decoder's logits for one frame's boxes -> COCO's RLE: over the whole frame, or in each box's window."""
    height_px, width_px = size_hw_px
    framing = Framing(SQUARE_PX, is_padded=True, mean=(0.0,) * 3, std=(1.0,) * 3)
    processor = SamImageProcessorPil()
    boxes = grid(BOXES, width_px, height_px)
    windows = [window_around(box, size_hw_px) for box in boxes]
    logits = blobs(boxes * (LOGITS_PX / max(size_hw_px))).to(device)

    def whole_frames() -> NDArray[np.bool_]:
        (masks,) = processor.post_process_masks(logits[None, :, None], [size_hw_px], [framing.used_hw_px(size_hw_px)])
        whole: NDArray[np.bool_] = masks[:, 0].cpu().numpy()
        return whole

    def ours() -> list[Mask]:
        canvas = canvas_of(size_hw_px, framing, LOGITS_PX, device)
        return masks_in_windows(logits, [0.9] * BOXES, windows, [canvas] * BOXES)

    ways = (lambda: [coco_text(mask) for mask in whole_frames()], ours)
    piece = taken_in_turns(meter, f"mask logits to RLE, {BOXES} boxes, {width_px}x{height_px}", 5, ways, rounds)
    pairs = zip(whole_frames(), ours(), strict=True)
    worst = min(mask_iou(whole, mask_to_frame(mask, width_px, height_px)) for whole, mask in pairs)
    return replace(piece, agreement=f"mask IoU {worst:.5f} or more")


def blobs(boxes_xyxy: Boxes) -> torch.Tensor:
    """Smooth logits (n, LOGITS_PX, LOGITS_PX): above 0 in an ellipse within each box, with a wavy border."""
    y, x = np.mgrid[:LOGITS_PX, :LOGITS_PX] + 0.5
    centre, half = (boxes_xyxy[:, 2:] + boxes_xyxy[:, :2]) / 2, (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / 2
    far = [np.hypot((x - cx) / w, (y - cy) / h) for (cx, cy), (w, h) in zip(centre, half, strict=True)]
    return torch.from_numpy(np.stack([0.8 + 0.1 * np.sin(x) * np.sin(y) - each for each in far])).float()


def mask_to_label(meter: Meter, rounds: int, size_hw_px: tuple[int, int]) -> Piece:
    """One frame's mask -> the platform's text, by its SDK and by ours."""
    height_px, width_px = size_hw_px
    pixels = mask_of_third(width_px, height_px)
    ways = (lambda: str(BitmaskCoordinates(pixels).to_dict()["rleString"]), lambda: row_major_rle(pixels))
    piece = taken_in_turns(meter, f"mask to the platform's text, {width_px}x{height_px}", 5, ways, rounds)
    return replace(piece, agreement="equal" if ways[0]() == ways[1]() else "DIFFERENT")


def mask_of_third(width_px: int, height_px: int) -> BoolArray:
    """Ragged, with holes, over a third of the frame or so."""
    noise = np.random.default_rng(0).normal(size=(height_px, width_px)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), height_px / 60)
    ragged: BoolArray = smooth + cv2.GaussianBlur(noise, (0, 0), 2) / 60 > 0.4 * smooth.std()
    return ragged

"""Pictures -> what models read: uint8 uploaded, resized and normalised on the device. No torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from autolabel.protocols import RGB


def upload(images: Sequence[RGB], device: torch.device) -> torch.Tensor:
    """Pictures of one size (H, W, 3) -> (B, 3, H, W) uint8 on `device`: the smallest form to travel in."""
    stacked = torch.from_numpy(np.stack(images))
    if device.type == "cuda":
        stacked = stacked.pin_memory().to(device, non_blocking=True)
    return stacked.permute(0, 3, 1, 2)


def resize(pixels: torch.Tensor, size_hw_px: tuple[int, int]) -> torch.Tensor:
    """(B, 3, H, W) uint8 -> (B, 3, h, w) float32, whole numbers of 0 to 255, as Pillow's BILINEAR makes them.

    On the CPU it is Pillow's own: torch's kernel for uint8 takes a fifth of the time there, but is off by up to two
    grey levels. On a GPU see `interpolated`.
    """
    if pixels.shape[-2:] == size_hw_px:
        return pixels.float()
    if pixels.device.type == "cpu":
        frames = [Image.fromarray(frame) for frame in pixels.permute(0, 2, 3, 1).numpy()]
        resized = [np.asarray(frame.resize(size_hw_px[::-1], Image.Resampling.BILINEAR)) for frame in frames]
        return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float()
    return interpolated(pixels, size_hw_px)


def resize_by_torch(pixels: torch.Tensor, size_hw_px: tuple[int, int]) -> torch.Tensor:
    """`resize` for weights trained on torchvision's pictures, to the bit: for uint8 on the CPU torch has a kernel."""
    if pixels.shape[-2:] == size_hw_px:
        return pixels.float()
    if pixels.device.type == "cpu":
        return interpolate(pixels, size_hw_px, mode="bilinear", antialias=True).float()
    return interpolated(pixels, size_hw_px)


def interpolated(pixels: torch.Tensor, size_hw_px: tuple[int, int]) -> torch.Tensor:
    """`resize` by torch, on any device: bilinear with antialiasing, equal to Pillow's within one grey level."""
    return interpolate(pixels.float(), size_hw_px, mode="bilinear", antialias=True).round_().clamp_(0, 255)


def normalise(grey: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """(B, 3, h, w) float32 in 0 to 255 -> the same shape. `mean`, `std`: of 0 to 1, as image processors have them."""
    offset, scale = (_greys(tuple(values), grey.device) for values in (mean, std))
    return (grey - offset) / scale


@lru_cache(maxsize=8)
def _greys(colours: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """(3, 1, 1) float32 in 0 to 255; kept, since to send it to a GPU makes the host wait."""
    return torch.tensor(colours, device=device)[:, None, None] * 255

"""How a frame lies in the square that a SAM reads, and the way back to the frame's pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import interpolate
from transformers import ImageProcessingMixin

from autolabel.models.pixels import normalise, resize, resize_by_torch, upload
from autolabel.protocols import RGB

SizeHW = tuple[int, int]

# Output lines of one multiplication on the CPU: of the axis' weights only those that touch them are multiplied.
BAND_PX = 64


@dataclass(frozen=True)
class Framing:
    """What a model's image processor does, read from its configuration.

    - `square_px`: the side of what the model reads.
    - `is_padded`: the longest edge is made to fit, by Pillow, and the rest padded (SAM, SAM-HQ); else both edges are
      stretched, by torch (SAM 2, SAM 3: their processors are written for torchvision alone).
    - `mean`, `std`: of colours in 0 to 1.
    """

    square_px: int
    is_padded: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_pretrained(cls, folder: Path, **kwargs: Any) -> Framing:
        """Raises OSError or KeyError where the folder says nothing of pictures. Needs no torchvision."""
        config, _ = ImageProcessingMixin.get_image_processor_dict(folder, **kwargs)
        size = config["size"]
        is_padded = "longest_edge" in size
        square = size["longest_edge"] if is_padded else size["height"]
        return cls(square, is_padded, tuple(config["image_mean"]), tuple(config["image_std"]))

    def used_hw_px(self, size_hw_px: SizeHW) -> SizeHW:
        """How much of the square a frame covers, from its top left corner."""
        if not self.is_padded:
            return self.square_px, self.square_px
        scale = self.square_px / max(size_hw_px)
        height, width = (max(1, int(side * scale + 0.5)) for side in size_hw_px)
        return height, width

    def squares(self, images: Sequence[RGB], device: torch.device) -> torch.Tensor:
        """Images of any sizes -> (B, 3, square, square) float32, normalised, 0 in the padding."""
        out = torch.zeros(len(images), 3, self.square_px, self.square_px, device=device)
        by_size: dict[SizeHW, list[int]] = defaultdict(list)
        for i, image in enumerate(images):
            by_size[image.shape[0], image.shape[1]].append(i)
        resized = resize if self.is_padded else resize_by_torch
        for size, positions in by_size.items():
            height, width = self.used_hw_px(size)
            grey = resized(upload([images[i] for i in positions], device), (height, width))
            out[positions, :, :height, :width] = normalise(grey, self.mean, self.std)
        return out


@dataclass(frozen=True)
class Axis:
    """Bilinear upsampling of mask logits along one axis: `weights` (full, low), of which up to 4 of a line count.

    `first_low`, `last_low` (full,): the first and the last that count, for each line; both rise.
    """

    weights: torch.Tensor
    first_low: tuple[int, ...]
    last_low: tuple[int, ...]

    def span_low(self, start: int, stop: int) -> tuple[int, int]:
        """Which logits lines `start` to `stop` are made of: the first, and one past the last."""
        return self.first_low[start], self.last_low[stop - 1] + 1

    def upsample(self, logits: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """(low, n) -> lines `start` to `stop` of (full, n)."""
        if logits.device.type != "cpu":  # one multiplication by zeros is cheaper than many calls
            return self.weights[start:stop] @ logits
        out = logits.new_empty(stop - start, logits.shape[1])
        for first in range(start, stop, BAND_PX):
            last = min(first + BAND_PX, stop)
            low, high = self.span_low(first, last)
            torch.mm(self.weights[first:last, low:high], logits[low:high], out=out[first - start : last - start])
        return out


@dataclass(frozen=True)
class Canvas:
    """The way back from mask logits to a frame.

    Upsampling is separable: a window's logits are `rows[top:bottom] @ logits @ columns[left:right].T`, which is what
    transformers' post-processing computes for the whole frame, at the window's cost.
    """

    rows: Axis
    columns: Axis

    def window(self, logits: torch.Tensor, window_xyxy_px: tuple[int, int, int, int]) -> torch.Tensor:
        """(low, low) float32 -> (w, h) of the window: transposed, since masks are counted along columns."""
        left, top, right, bottom = window_xyxy_px
        return self.columns.upsample(self.rows.upsample(logits, top, bottom).T, left, right)

    def low_window(self, window_xyxy_px: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """The logits that a window is made of, as (left, top, right, bottom)."""
        left, top, right, bottom = window_xyxy_px
        low_left, low_right = self.columns.span_low(left, right)
        low_top, low_bottom = self.rows.span_low(top, bottom)
        return low_left, low_top, low_right, low_bottom


@lru_cache(maxsize=16)
def canvas_of(size_hw_px: SizeHW, framing: Framing, low: int, device: torch.device) -> Canvas:
    """The canvas of frames of one size, for (low, low) mask logits; kept, since a video has one size."""
    rows, columns = (
        _axis(low, framing, used, full, device)
        for used, full in zip(framing.used_hw_px(size_hw_px), size_hw_px, strict=True)
    )
    return Canvas(rows, columns)


def _axis(low: int, framing: Framing, used: int, full: int, device: torch.device) -> Axis:
    """Logits -> padded square, padding cut off -> frame; a stretched frame has no square between."""
    lines = torch.eye(low)[None]
    if framing.is_padded:
        lines = interpolate(lines, size=framing.square_px, mode="linear", align_corners=False)[..., :used]
    weights = interpolate(lines, size=full, mode="linear", align_corners=False)[0].T.contiguous()
    counts = weights.numpy() != 0
    first, last = counts.argmax(axis=1), len(counts[0]) - 1 - counts[:, ::-1].argmax(axis=1)
    return Axis(weights.to(device), tuple(first.tolist()), tuple(last.tolist()))

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

from autolabel.models.pixels import normalise, resize, upload
from autolabel.protocols import RGB

SizeHW = tuple[int, int]

# Output lines of one multiplication on the CPU: of the axis' weights only those that touch them are multiplied.
BAND_PX = 64


@dataclass(frozen=True)
class Framing:
    """What a model's image processor does, read from its configuration.

    - `square_px`: the side of what the model reads.
    - `is_padded`: the longest edge is made to fit and the rest padded (SAM, SAM-HQ); else both are stretched (SAM 2).
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
        height, width = (int(side * scale + 0.5) for side in size_hw_px)
        return height, width

    def squares(self, images: Sequence[RGB], device: torch.device) -> torch.Tensor:
        """Images of any sizes -> (B, 3, square, square) float32, normalised, 0 in the padding."""
        out = torch.zeros(len(images), 3, self.square_px, self.square_px, device=device)
        by_size: dict[SizeHW, list[int]] = defaultdict(list)
        for i, image in enumerate(images):
            by_size[image.shape[0], image.shape[1]].append(i)
        for size, positions in by_size.items():
            height, width = self.used_hw_px(size)
            grey = resize(upload([images[i] for i in positions], device), (height, width))
            out[positions, :, :height, :width] = normalise(grey, self.mean, self.std)
        return out


@dataclass(frozen=True)
class Axis:
    """Bilinear upsampling of mask logits along one axis: `weights` (full, low); each line has up to 4 that count.

    `spans_low`: for each band of `BAND_PX` lines the first and one past the last of its weights that count.
    """

    weights: torch.Tensor
    spans_low: tuple[tuple[int, int], ...]

    def upsample(self, logits: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """(low, n) -> lines `start` to `stop` of (full, n)."""
        if logits.device.type != "cpu":  # one multiplication by zeros is cheaper than many calls
            return self.weights[start:stop] @ logits
        out = logits.new_empty(stop - start, logits.shape[1])
        for band in range(start // BAND_PX, -(-stop // BAND_PX)):
            low, high = self.spans_low[band]
            first, last = max(start, band * BAND_PX), min(stop, (band + 1) * BAND_PX)
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
    touched = [band.any(dim=0).nonzero() for band in torch.split(weights != 0, BAND_PX)]
    return Axis(weights.to(device), tuple((int(t[0]), int(t[-1]) + 1) for t in touched))

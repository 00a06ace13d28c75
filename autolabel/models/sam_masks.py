"""Mask logits -> Masks: each upsampled inside a window around its box only, RLE from where the bits change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from autolabel.core.detections import Mask
from autolabel.core.geometry import mask_from_runs, mask_from_window
from autolabel.models.sam_canvas import Canvas, SizeHW

Window = tuple[int, int, int, int]

# An object may reach a little past its box; farther off, what the decoder sets is specks of something else.
WINDOW_MARGIN = 0.1


def window_around(box_xyxy_px: NDArray[np.float32], size_hw_px: SizeHW) -> Window:
    """A box with its margin, on whole pixels of the frame, right and bottom exclusive; never empty."""
    height_px, width_px = size_hw_px
    x0, y0, x1, y1 = box_xyxy_px.tolist()
    margin_x, margin_y = WINDOW_MARGIN * (x1 - x0), WINDOW_MARGIN * (y1 - y0)
    left = int(np.clip(np.floor(x0 - margin_x), 0, width_px - 1))
    top = int(np.clip(np.floor(y0 - margin_y), 0, height_px - 1))
    right = int(np.clip(np.ceil(x1 + margin_x), left + 1, width_px))
    bottom = int(np.clip(np.ceil(y1 + margin_y), top + 1, height_px))
    return left, top, right, bottom


def masks_in_windows(
    logits: torch.Tensor, scores: Sequence[float], windows: Sequence[Window], canvases: Sequence[Canvas]
) -> list[Mask]:
    """Logits (n, low, low) float32 of any device, with a score, window and canvas each -> Masks.

    Pixels whose logit is above 0 are set. On the CPU pycocotools counts; elsewhere only the runs leave the device.
    """
    bits = (canvas.window(each, window) > 0 for each, window, canvas in zip(logits, windows, canvases, strict=True))
    if logits.device.type == "cpu":
        return [
            mask_from_window(pixels.numpy().T, window[0], window[1], score)
            for pixels, window, score in zip(bits, windows, scores, strict=True)
        ]
    return masks_from_bits(list(bits), scores, windows)


def masks_from_bits(bits: Sequence[torch.Tensor], scores: Sequence[float], windows: Sequence[Window]) -> list[Mask]:
    """Bits (w, h) of windows, on any one device -> Masks, byte for byte as pycocotools encodes them.

    The host waits twice, however many windows there are: all bits are laid end to end, and what it is sent are the
    places where a window begins or a bit differs from the one before; first how many they are, then which.
    """
    flat = torch.cat([window.reshape(-1) for window in bits])
    sizes = np.array([window.numel() for window in bits])
    begins = np.concatenate([[0], sizes.cumsum()[:-1]])
    is_change = torch.cat([flat.new_ones(1), flat[1:] != flat[:-1]])
    is_change[torch.from_numpy(begins).to(flat.device, non_blocking=True)] = True
    places = is_change.nonzero()[:, 0]
    changes = torch.stack([places, flat[places].long()]).cpu().numpy()
    firsts = np.searchsorted(changes[0], [*begins, sizes.sum()])
    return [
        mask_from_runs(_runs(changes[:, firsts[i] : firsts[i + 1]], begins[i] + sizes[i]), windows[i], scores[i])
        for i in range(len(bits))
    ]


def _runs(changes: NDArray[np.int64], end: int) -> NDArray[np.int64]:
    """(2, k) places where bits change and the bits that begin there -> run lengths, the first of bits not set."""
    lengths = np.diff(changes[0], append=end)
    begins_set = changes[1, 0]
    return np.concatenate([np.zeros(begins_set, np.int64), lengths])

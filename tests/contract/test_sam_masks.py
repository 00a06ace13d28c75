"""Mask logits -> Masks: upsampling inside a window only, and RLE from where the bits change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from torch.nn.functional import interpolate
from transformers import SamImageProcessorPil

from autolabel.core.geometry import mask_from_window
from autolabel.models.sam_canvas import Framing, canvas_of
from autolabel.models.sam_masks import masks_from_bits, window_around
from pictures import two_swabs

COLOURS = ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
PADDED, STRETCHED = Framing(256, True, *COLOURS), Framing(256, False, *COLOURS)
CPU = torch.device("cpu")
windows = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(st.lists(windows, min_size=1, max_size=6))
def test_masks_from_changes_of_bits_are_pycocotools_byte_for_byte(pixels: list[NDArray[np.bool_]]) -> None:
    bits = [torch.from_numpy(each.T.copy()) for each in pixels]
    frames = [(3 * i, i, 3 * i + each.shape[1], i + each.shape[0]) for i, each in enumerate(pixels)]

    masks = masks_from_bits(bits, [0.25] * len(bits), frames)

    assert masks == [mask_from_window(each, 3 * i, i, 0.25) for i, each in enumerate(pixels)]


@pytest.mark.parametrize("pattern", ["nothing", "all", "one long run"])
def test_runs_of_many_digits_are_pycocotools_too(pattern: str) -> None:
    pixels = np.full((1080, 1920), pattern == "all")
    pixels[100:, 300:1500] |= pattern == "one long run"

    (mask,) = masks_from_bits([torch.from_numpy(pixels.T.copy())], [1.0], [(0, 0, 1920, 1080)])

    assert mask == mask_from_window(pixels, 0, 0, 1.0)


@pytest.mark.parametrize("framing", [PADDED, STRETCHED], ids=["padded", "stretched"])
@pytest.mark.parametrize("size_hw_px", [(720, 1280), (300, 170), (256, 256), (31, 900)])
def test_a_windows_logits_are_those_of_the_whole_frame(framing: Framing, size_hw_px: tuple[int, int]) -> None:
    logits = torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
    used_h, used_w = framing.used_hw_px(size_hw_px)
    square = interpolate(logits[None, None], (256, 256), mode="bilinear")[..., :used_h, :used_w]
    whole = interpolate(square if framing.is_padded else logits[None, None], size_hw_px, mode="bilinear")[0, 0]
    canvas = canvas_of(size_hw_px, framing, 64, CPU)

    for box in np.array([[3, 2, 100, 30], [0, 0, *size_hw_px[::-1]], [150, 20, 151, 21]], np.float32):
        left, top, right, bottom = window = window_around(box, size_hw_px)
        torch.testing.assert_close(canvas.window(logits, window).T, whole[top:bottom, left:right], rtol=0, atol=2e-5)


@pytest.mark.parametrize("size_px", [(1280, 720), (97, 211), (256, 256)])
def test_padded_squares_are_transformers_own(size_px: tuple[int, int]) -> None:
    image = two_swabs(*size_px)
    colours = {"image_mean": COLOURS[0], "image_std": COLOURS[1]}
    padded = SamImageProcessorPil(size={"longest_edge": 256}, pad_size={"height": 256, "width": 256}, **colours)

    theirs = padded(images=image, return_tensors="pt", input_data_format="channels_last")["pixel_values"]

    torch.testing.assert_close(PADDED.squares([image], CPU), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size_px", [(1280, 720), (97, 211), (256, 256)])
def test_stretched_squares_are_those_of_torchs_kernel_for_uint8(size_px: tuple[int, int]) -> None:
    """Which torchvision calls, for which alone the processors of SAM 2 and SAM 3 are written."""
    image = two_swabs(*size_px)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]

    theirs = (interpolate(pixels, (256, 256), mode="bilinear", antialias=True) / 255 - 0.5) / 0.2

    torch.testing.assert_close(STRETCHED.squares([image], CPU), theirs, rtol=0, atol=1e-5)


def test_a_frame_that_is_all_but_a_line_has_a_place_in_the_square() -> None:
    assert PADDED.used_hw_px((2, 9000)) == (1, 256)
    assert PADDED.squares([np.full((2, 9000, 3), 255, np.uint8)], CPU)[0, 0, :2, 0].tolist() == pytest.approx(
        [2.5, 0]
    )


@given(arrays(np.float32, 4, elements=st.floats(-300, 1500, width=32)))
def test_a_window_lies_in_the_frame_and_is_never_empty(corners: NDArray[np.float32]) -> None:
    box = np.concatenate([np.minimum(corners[:2], corners[2:]), np.maximum(corners[:2], corners[2:])])

    left, top, right, bottom = window_around(box, (480, 640))

    assert 0 <= left < right <= 640
    assert 0 <= top < bottom <= 480

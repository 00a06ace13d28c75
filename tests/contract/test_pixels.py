"""Our own preprocessing against Pillow, with which the published weights were trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from autolabel.models.pixels import interpolated, normalise, resize, upload
from pictures import two_swabs

CPU = torch.device("cpu")


@pytest.mark.parametrize("size_px", [(1280, 720), (640, 480), (97, 211), (33, 500)])
@pytest.mark.parametrize("target_hw_px", [(576, 1024), (256, 455), (100, 40)])
def test_resizing_is_pillows_within_one_grey_level(size_px: tuple[int, int], target_hw_px: tuple[int, int]) -> None:
    noise = np.random.default_rng(7).integers(0, 256, (size_px[1], size_px[0], 3), np.uint8)
    for image in (noise, two_swabs(*size_px)):
        ours = interpolated(upload([image], CPU), target_hw_px)[0].permute(1, 2, 0).numpy()
        pillow = np.asarray(Image.fromarray(image).resize(target_hw_px[::-1], Image.Resampling.BILINEAR))

        assert np.abs(ours - pillow).max() <= 1
        assert (ours == ours.round()).all()
        np.testing.assert_array_equal(resize(upload([image], CPU), target_hw_px)[0].permute(1, 2, 0), pillow)


def test_pictures_keep_their_order_and_channels() -> None:
    red, blue = np.zeros((2, 4, 6, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255

    pixels = normalise(resize(upload([red, blue], CPU), (2, 3)), (0.5, 0.5, 0.5), (0.25, 0.5, 0.5))

    assert pixels.shape == (2, 3, 2, 3)
    assert pixels[:, :, 0, 0].tolist() == [[2, -1, -1], [-2, -1, 1]]

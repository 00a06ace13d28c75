"""What the platform's mask text costs, ours beside the SDK's own, on full-HD and 4K frames.

pytest tests/figures/test_mask_speed.py -rP
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import process_time

import pytest
from encord.objects.bitmask import BitmaskCoordinates

from autolabel.core.geometry import BoolArray, row_major_rle
from benching.pieces import mask_of_third

ROUNDS = 9


def cpu_ms(call: Callable[[], object]) -> float:
    def once() -> float:
        start = process_time()
        call()
        return 1000 * (process_time() - start)

    return median(once() for _ in range(ROUNDS))


def by_sdk(pixels: BoolArray) -> str:
    return str(BitmaskCoordinates(pixels).to_dict()["rleString"])


@pytest.mark.parametrize(("width_px", "height_px"), [(1920, 1080), (3840, 2160)])
def test_a_masks_text_is_the_sdks_byte_for_byte(width_px: int, height_px: int) -> None:
    pixels = mask_of_third(width_px, height_px)

    assert row_major_rle(pixels) == by_sdk(pixels)

    own, sdk = cpu_ms(lambda: row_major_rle(pixels)), cpu_ms(lambda: by_sdk(pixels))
    print(f"{width_px}x{height_px}: ours {own:.2f} ms, the SDK {sdk:.2f} ms, ratio {sdk / own:.1f}")

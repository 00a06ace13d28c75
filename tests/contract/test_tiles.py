"""Small objects in a large frame, through the bundled models: found with tiles, not without."""

from __future__ import annotations

import numpy as np
import pytest

from autolabel.core.geometry import box_iou, mask_area_px
from autolabel.models import Placement, load_detector, load_segmenter
from autolabel.pipeline import TilingDetector, infer
from autolabel.protocols import RGB
from pictures import BLUE_XYXY_NORM, RED_XYXY_NORM, plan_of, two_swabs

PASTED_PX, AT_PX = (240, 168), (500, 300)


def large_frame() -> RGB:
    """1280 x 896 of plain cloth, and the two swabs of a picture that is a fifth as wide."""
    small = two_swabs(*PASTED_PX)
    frame = np.tile(np.median(small, axis=(0, 1)).astype(np.uint8), (896, 1280, 1))
    frame[AT_PX[1] : AT_PX[1] + PASTED_PX[1], AT_PX[0] : AT_PX[0] + PASTED_PX[0]] = small
    return frame


@pytest.mark.parametrize(("is_tiled", "names"), [(False, set()), (True, {"red gauze", "blue gauze"})])
def test_small_objects_are_found_in_tiles_only_each_once_and_whole(is_tiled: bool, names: set[str]) -> None:
    detector = load_detector("grounding_dino", "bundled:detector", Placement("cpu"))
    segmenter = load_segmenter("sam", "bundled:segmenter", Placement("cpu"))
    looking = TilingDetector(detector, 320, 0.25) if is_tiled else detector
    plan = plan_of("red gauze", "blue gauze", shape="bitmask", threshold=0.15)  # the bundled model is never sure

    (labels,) = infer([(0, large_frame())], plan, looking, segmenter, 0.7, 0.9)

    assert sorted(found.prompt for found in labels.detections) == sorted(names)
    for found in labels.detections:
        corners = np.array({"red gauze": RED_XYXY_NORM, "blue gauze": BLUE_XYXY_NORM}[found.prompt])
        truth = corners * np.array(PASTED_PX * 2) + np.array(AT_PX * 2)
        boxes = np.array([truth, found.box_xyxy_px], np.float32)
        assert box_iou(boxes, boxes)[0, 1] > 0.6
        assert found.mask is not None
        assert mask_area_px(found.mask) > 0.3 * np.prod(truth[2:] - truth[:2])

"""What the SAM families share: our path answers as transformers' own does, whatever the picture's size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from autolabel.core.detections import Mask
from autolabel.core.geometry import mask_to_window
from autolabel.errors import PermanentModelError
from autolabel.models import Placement, load_segmenter
from autolabel.protocols import RGB, BoxSegmenter
from pictures import BLUE_XYXY_NORM, RED_XYXY_NORM, two_swabs
from tiny_sams import TINY, save_tiny

Pair = tuple[BoxSegmenter, BoxSegmenter]


@pytest.fixture(scope="module", params=[*TINY, "bundled"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Ours and the reference."""
    if request.param == "bundled":
        family, weights = "sam", "bundled:segmenter"
    else:
        family, weights = request.param, str(save_tiny(request.param, tmp_path_factory.mktemp(request.param)))
    ours, reference = (load_segmenter(family, weights, Placement("cpu", is_reference=i)) for i in (False, True))
    return ours, reference


def boxes_on(size_px: tuple[int, int]) -> NDArray[np.float32]:
    norm = np.array([RED_XYXY_NORM, BLUE_XYXY_NORM, (0, 0, 1, 1), (0.4, 0.4, 0.41, 0.45)], np.float32)
    return norm * np.array(size_px * 2, np.float32)


def iou(mask: Mask, other: Mask) -> float:
    assert mask.window_xyxy_px == other.window_xyxy_px
    a, b = mask_to_window(mask), mask_to_window(other)
    return float((a & b).sum() / max((a | b).sum(), 1)) if (a | b).any() else 1.0


def test_a_picture_is_answered_as_by_the_reference(pair: Pair) -> None:
    masks = compare(pair, two_swabs(128, 128))

    assert any(0.1 < mask_to_window(mask).mean() < 0.9 for mask in masks)


@pytest.mark.parametrize("size_px", [(320, 224), (97, 211), (641, 359), (40, 30)])
def test_every_size_of_picture_is_answered_as_by_the_reference(pair: Pair, size_px: tuple[int, int]) -> None:
    """Of two colours: where a resized grey level rounds another way, random weights would make much of it."""
    image = np.full((size_px[1], size_px[0], 3), (250, 20, 30), np.uint8)
    image[: size_px[1] // 2] = (10, 160, 240)
    compare(pair, image)


def compare(pair: Pair, image: RGB) -> list[Mask]:
    boxes = boxes_on((image.shape[1], image.shape[0]))
    (ours,), (reference,) = (segmenter.segment([image], [boxes]) for segmenter in pair)

    assert min(map(iou, ours, reference)) >= 0.999
    assert [mask.score for mask in ours] == pytest.approx([mask.score for mask in reference], abs=1e-5)
    return ours


def test_sam_2_is_read_from_the_video_models_it_is_published_as(tmp_path: Path) -> None:
    folder = save_tiny("sam2", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "sam2_video"}))

    (masks,) = load_segmenter("sam2", str(folder), Placement("cpu")).segment([two_swabs()], [boxes_on((320, 224))])

    assert len(masks) == 4


@pytest.mark.parametrize("family", TINY)
def test_another_familys_weights_are_refused(family: str, tmp_path: Path) -> None:
    other = next(name for name in TINY if name != family)

    with pytest.raises(PermanentModelError, match=f"they are of type '{other}', '{family}' is needed"):
        load_segmenter(family, str(save_tiny(other, tmp_path)), Placement("cpu"))

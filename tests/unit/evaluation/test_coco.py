"""Average precision is what COCOeval says of the same scene as plain COCO files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from autolabel.core.detections import Detection
from autolabel.core.geometry import mask_to_frame
from autolabel.evaluation.coco import average_precision
from autolabel.evaluation.values import JudgedFrame, Precision
from benching.judging import SHAPES, any_frames
from judged import SIZE_PX, boxed, filled, frame, masked

MOST = 100
"""COCO's own cap."""

UPRIGHT = {cls: shape for cls, shape in SHAPES.items() if cls != "rod"}
CUP = boxed("cup", 10, 10, 40, 40)


def as_coco(item: Detection, place: int, one: JudgedFrame, number: int) -> dict[str, Any]:
    """An annotation as COCO's files have it: the mask of the whole frame."""
    assert item.mask is not None
    whole = mask_to_frame(item.mask, one.width_px, one.height_px)
    rle = coco_mask.encode(np.asfortranarray(whole, np.uint8))
    x0, y0, x1, y1 = item.box_xyxy_px
    return {
        "id": number,
        "image_id": 100 + place,
        "category_id": list(SHAPES).index(item.feature_hash) + 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
        "area": int(coco_mask.area(rle)),
        "iscrowd": 0,
    }


def by_coco(frames: Sequence[JudgedFrame], folder: Path, kind: str) -> dict[str, tuple[float, float]]:
    """COCOeval as its demo runs it, on files: class -> (AP, AP50)."""
    truth = [as_coco(item, place, one, 0) for place, one in enumerate(frames) for item in one.truth]
    found = [
        as_coco(item, place, one, 0) | {"score": item.score} for place, one in enumerate(frames) for item in one.found
    ]
    images = [{"id": 100 + place, "width": one.width_px, "height": one.height_px} for place, one in enumerate(frames)]
    categories = [{"id": number, "name": cls} for number, cls in enumerate(SHAPES, start=1)]
    numbered = [one | {"id": number} for number, one in enumerate(truth, start=1)]
    (folder / "truth.json").write_text(
        json.dumps({"images": images, "categories": categories, "annotations": numbered})
    )
    results = [{k: v for k, v in one.items() if k not in ("id", "area", "iscrowd")} for one in found]
    (folder / "found.json").write_text(json.dumps(results))
    drawn = COCO(str(folder / "truth.json"))
    judge = COCOeval(drawn, drawn.loadRes(str(folder / "found.json")), kind)
    judge.evaluate()
    judge.accumulate()
    precision = judge.eval["precision"][:, :, :, 0, -1]
    return {
        cls: (float(of_class.mean()), float(of_class[0].mean()))
        for cls, of_class in zip(SHAPES, np.moveaxis(precision, 2, 0), strict=True)
        if (of_class > -1).any()
    }


@pytest.mark.parametrize("seed", range(8))
def test_it_agrees_with_cocoeval_run_on_plain_files(seed: int, tmp_path: Path) -> None:
    frames = any_frames(seed, 12, 10, SIZE_PX, list(UPRIGHT))

    told = average_precision(frames, SHAPES, MOST)

    boxes, masks = by_coco(frames, tmp_path, "bbox"), by_coco(frames, tmp_path, "segm")
    assert set(told) == set(UPRIGHT)
    for cls, precision in told.items():
        assert (precision.box_ap, precision.box_ap50) == pytest.approx(boxes[cls], abs=1e-6)
        if cls != "cup":
            assert (precision.mask_ap, precision.mask_ap50) == pytest.approx(masks[cls], abs=1e-6)


def test_what_is_found_exactly_has_an_ap_of_one_and_a_box_class_none_of_masks() -> None:
    both = [CUP, filled("dog", 100, 10, 40, 40)]

    told = average_precision([frame(both, both)], SHAPES, MOST)

    assert {cls: [round(ap, 6) for ap in vars(of).values() if ap is not None] for cls, of in told.items()} == {
        "cup": [1, 1],
        "dog": [1, 1, 1, 1],
    }


def test_a_shift_that_leaves_three_fifths_in_common_counts_at_three_of_the_ten_ious() -> None:
    told = average_precision([frame([boxed("cup", 20, 10, 40, 40, 0.9)], [CUP])], SHAPES, MOST)

    assert told["cup"] == Precision(pytest.approx(0.3), pytest.approx(1))


@pytest.mark.parametrize(("cls", "mask_ap50"), [("dog", 0), ("rod", 1)])
def test_a_rotated_box_counts_as_it_would_be_written_and_a_mask_as_it_is(cls: str, mask_ap50: float) -> None:
    lattice = np.zeros((40, 41), np.bool_)
    lattice[:, ::4] = True

    told = average_precision([frame([masked(cls, lattice, 10, 10)], [filled(cls, 10, 10, 41, 40)])], SHAPES, MOST)

    assert told[cls].box_ap == pytest.approx(1)
    assert told[cls].mask_ap50 == pytest.approx(mask_ap50)


def test_a_class_that_nobody_drew_has_no_ap_and_one_that_was_never_found_one_of_nought() -> None:
    told = average_precision([frame([filled("dog", 0, 0, 9, 9)], [CUP])], SHAPES, MOST)

    assert told == {"cup": Precision(0, 0)}
    assert average_precision([frame([CUP], [])], SHAPES, MOST) == {}


def test_beyond_the_cap_the_worst_do_not_count() -> None:
    found = [boxed("cup", 200, 10, 40, 40, 0.9), boxed("cup", 10, 10, 40, 40, 0.8)]

    assert average_precision([frame(found, [CUP])], SHAPES, 2)["cup"].box_ap50 == pytest.approx(0.5)
    assert average_precision([frame(found, [CUP])], SHAPES, 1)["cup"].box_ap50 == 0


def test_it_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    average_precision([frame([CUP], [CUP])], SHAPES, MOST)

    assert capsys.readouterr().out == ""

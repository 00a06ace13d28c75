"""What a push of the whole demo leaves on the platform, read back through the SDK and held against truth.json."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from encord.objects.bitmask import BitmaskCoordinates
from encord.objects.coordinates import BoundingBoxCoordinates, PolygonCoordinates, RotatableBoundingBoxCoordinates
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from autolabel.sandbox import running
from identities import judge
from sandbox.commands import Command
from sandbox.conftest import RunningSandbox

LEAST_IOU = 0.5


@dataclass(frozen=True)
class Found:
    """One of our objects on one frame, as COCO has it; a box has no `segmentation`."""

    data_hash: str
    object_hash: str
    frame: int
    coco: dict[str, Any]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    folder = tmp_path_factory.mktemp("whole")
    with running(folder / "sandbox", scenario="demo") as info:
        sandbox = RunningSandbox(dir=folder / "sandbox", **info)
        Command(sandbox, folder / "home").push()
        yield sandbox


@pytest.fixture(scope="module")
def truth(pushed: RunningSandbox) -> COCO:
    return COCO(str(pushed.dir / "truth.json"))


@pytest.fixture(scope="module")
def found(pushed: RunningSandbox, truth: COCO) -> list[Found]:
    return list(_ours(pushed, truth))


def _ours(sandbox: RunningSandbox, truth: COCO) -> Iterator[Found]:
    images = {image["file_name"]: image["id"] for image in truth.dataset["images"]}
    classes = {category["name"]: category["id"] for category in truth.dataset["categories"]}
    left = _people(sandbox)
    for row in sandbox.project().list_label_rows_v2():
        if row.label_hash is None or row.data_hash in left:
            continue
        row.initialise_labels()
        for item in row.get_object_instances():
            for place in item.get_annotations():
                view = row.get_frame_view(place.frame)
                mask = _mask(place.coordinates, view.width, view.height)
                coco = {
                    "image_id": images[f"{row.data_hash}/{place.frame}"],
                    "category_id": classes[item.object_name],
                    "score": place.confidence,
                    "bbox": coco_mask.toBbox(mask).tolist(),
                }
                if not isinstance(place.coordinates, BoundingBoxCoordinates | RotatableBoundingBoxCoordinates):
                    coco["segmentation"] = mask
                yield Found(row.data_hash, item.object_hash, place.frame, coco)


def _people(sandbox: RunningSandbox) -> set[str]:
    """Data hashes that a person had a hand in: those the push leaves alone."""
    return {entry["data_hash"] for entry in sandbox.log() if entry["kind"] == "human"}


def _mask(where: Any, width: int, height: int) -> Any:
    """What an object covers, as COCO's compressed RLE."""
    if isinstance(where, BitmaskCoordinates):
        return coco_mask.encode(np.asfortranarray(where.to_numpy_array(), np.uint8))
    if isinstance(where, PolygonCoordinates):
        rings = [ring for part in where.to_dict("multiple_polygons") for ring in part]
    else:
        left, top = where.top_left_x, where.top_left_y
        right, bottom = left + where.width, top + where.height
        rings = [[left, top, right, top, right, bottom, left, bottom]]
    if isinstance(where, RotatableBoundingBoxCoordinates):
        rings = [_turned(rings[0], where.theta, width, height)]
    in_px = [(np.reshape(ring, (-1, 2)) * (width, height)).ravel().tolist() for ring in rings]
    drawn = coco_mask.decode(coco_mask.frPyObjects(in_px, height, width))
    return coco_mask.encode(np.asfortranarray(drawn.sum(2) % 2, np.uint8))  # a ring within a ring is a hole


def _turned(corners_norm: list[float], theta_deg: float, width: int, height: int) -> list[float]:
    """Clockwise about their middle, in pixels."""
    corners = np.reshape(corners_norm, (-1, 2)) * (width, height)
    cos, sin = np.cos(np.radians(theta_deg)), np.sin(np.radians(theta_deg))
    around = corners - corners.mean(0)
    turned = corners.mean(0) + around @ np.array([[cos, sin], [-sin, cos]])
    return list((turned / (width, height)).ravel())


def test_boxes_and_masks_of_every_type_of_row_are_right(
    pushed: RunningSandbox, truth: COCO, found: list[Found]
) -> None:
    """The models are small, so the bar is low, and the figure printed."""
    left = _people(pushed)
    image_ids = [image["id"] for image in truth.dataset["images"] if image["file_name"].split("/")[0] not in left]
    for kind in ("bbox", "segm"):
        some = [dict(item.coco) for item in found if kind == "bbox" or "segmentation" in item.coco]
        evaluation = COCOeval(truth, truth.loadRes(some), kind)
        evaluation.params.imgIds = image_ids
        evaluation.params.catIds = sorted({item["category_id"] for item in some})
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        print(f"AP50 {kind}, {len(image_ids)} frames, {len(some)} found: {evaluation.stats[1]:.3f}")
        assert evaluation.stats[1] > 0.45


def test_masks_cover_what_was_drawn(truth: COCO, found: list[Found]) -> None:
    overlaps = []
    for item in found:
        notes = truth.loadAnns(truth.getAnnIds([item.coco["image_id"]], [item.coco["category_id"]]))
        if "segmentation" in item.coco and notes:
            drawn = [truth.annToRLE(note) for note in notes]
            overlaps.append(coco_mask.iou([item.coco["segmentation"]], drawn, [0] * len(drawn)).max())
    met = [overlap for overlap in overlaps if overlap >= LEAST_IOU]
    print(f"mask IoU of the {len(met)} of {len(overlaps)} objects that meet a true one: {np.mean(met):.3f}")
    assert np.mean(met) > 0.7
    assert len(met) > 0.7 * len(overlaps)


def test_tracks_of_the_videos_follow_what_moves(truth: COCO, found: list[Found]) -> None:
    for video in truth.dataset["videos"]:
        ids, tracks, overlaps = [], [], []
        for frame in video["frames"]:
            notes = truth.loadAnns(truth.getAnnIds([frame["image_id"]]))
            here = [one for one in found if (one.data_hash, one.frame) == (video["file_name"], frame["frame"])]
            overlap = coco_mask.iou(
                np.array([note["bbox"] for note in notes], np.float64).reshape(-1, 4),
                np.array([one.coco["bbox"] for one in here], np.float64).reshape(-1, 4),
                [0] * len(here),
            )
            same = [[note["category_id"] == one.coco["category_id"] for one in here] for note in notes]
            ids.append([note["track_id"] for note in notes])
            tracks.append([one.object_hash for one in here])
            overlaps.append(np.reshape(overlap, (len(notes), len(here))) * np.reshape(same, (len(notes), len(here))))
        figures = judge(ids, tracks, overlaps)
        print(
            f"video of {len(video['frames'])} frames, {len({i for some in ids for i in some})} objects: "
            f"HOTA {figures.hota:.3f}, IDF1 {figures.idf1:.3f}, {figures.switches:.0f} switches"
        )
        assert figures.switches <= 1

"""Real photos and a real video through the whole conversion and back; truth boxes stand in for a detector's.

The bundled segmenter has seen drawn tools only: its IoU is printed, what is held is where its masks lie.

    pytest tests/figures/test_real_photos.py -rP
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from encord.objects.bitmask import BitmaskCoordinates
from encord.objects.coordinates import PolygonCoordinates
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from autolabel.core.assemble import Instance, Placement
from autolabel.core.detections import Detection, Mask
from autolabel.core.geometry import BoolArray, mask_from_window, mask_to_frame
from autolabel.core.outlines import MIN_IOU
from autolabel.core.prompts import Shape
from autolabel.models import Placement as Place
from autolabel.models import load_segmenter
from autolabel.protocols import RGB, BoxSegmenter, Clip
from autolabel.remote.frames import MediaReader
from autolabel.remote.shapes import Bitmask, BoxNorm, Geometry, PolygonNorm, to_platform
from benching.agreement import mask_iou
from benching.footage import as_film

DATA = Path(__file__).parents[3] / "shared" / "data"
PHOTOS = DATA / "coco128_free"
VIDEO = DATA / "davis_car-shadow"
MARGIN = 0.1
Box = tuple[float, float, float, float]

needs_photos = pytest.mark.skipif(not PHOTOS.is_dir(), reason="coco128_free is not beside this checkout")
needs_video = pytest.mark.skipif(not VIDEO.is_dir(), reason="davis_car-shadow is not beside this checkout")


@pytest.fixture(scope="module")
def segmenter() -> BoxSegmenter:
    return load_segmenter("sam", "bundled:segmenter", Place("cpu"))


@pytest.fixture(scope="module")
def truth() -> COCO:
    return COCO(str(PHOTOS / "instances.json"))


def sent(shape: Shape, size_px: tuple[int, int], box_xyxy_px: Box, mask: Mask | None) -> Geometry | None:
    place = Placement(0, *size_px, Detection("class", "prompt", 0.5, box_xyxy_px, mask))
    (placed,) = to_platform([Instance("hash0001", "class", shape, 0, (place,))]).placed
    return placed.geometry


def bitmask_served(mask: Mask, size_px: tuple[int, int]) -> BoolArray:
    """The pixels of what the SDK would write and read again; its text is COCO's of the turned frame."""
    geometry = sent("bitmask", size_px, (0.0, 0.0, 1.0, 1.0), mask)
    assert isinstance(geometry, Bitmask)
    width_px, height_px = size_px
    written = BitmaskCoordinates.EncodedBitmask(
        top=0, left=0, height=height_px, width=width_px, rle_string=geometry.rle
    )
    wire = json.dumps(BitmaskCoordinates(written).to_dict())
    text = BitmaskCoordinates.from_dict(json.loads(wire)).to_dict()["rleString"]
    served: BoolArray = coco_mask.decode({"size": [width_px, height_px], "counts": text.encode()}).T.view(np.bool_)
    return served


def polygon_served(mask: Mask, size_px: tuple[int, int]) -> BoolArray:
    """Drawn by pycocotools on the whole frame: parts joined, holes cut out."""
    geometry = sent("polygon", size_px, (0.0, 0.0, 1.0, 1.0), mask)
    assert isinstance(geometry, PolygonNorm)
    written = PolygonCoordinates.from_polygons_list([[list(ring) for ring in part] for part in geometry.parts])
    wire = json.dumps({"polygons": written.to_dict("multiple_polygons")})
    served = PolygonCoordinates.from_dict(json.loads(wire)).to_dict("multiple_polygons")
    frame = np.zeros(size_px[::-1], np.bool_)
    for outer, *holes in served:
        frame |= filled(outer, size_px) & ~np.any([filled(hole, size_px) for hole in holes], axis=0)
    return frame


def filled(ring_norm: list[float], size_px: tuple[int, int]) -> BoolArray:
    ring = (np.reshape(ring_norm, (-1, 2)) * size_px).ravel().tolist()
    drawn: BoolArray = coco_mask.decode(coco_mask.frPyObjects([ring], *size_px[::-1])[0]) > 0
    return drawn


def photos(truth: COCO) -> Iterator[tuple[RGB, list[Box], list[BoolArray]]]:
    """Each photo with its objects' boxes and masks; crowds are no objects."""
    for image in truth.loadImgs(truth.getImgIds()):
        notes = [note for note in truth.imgToAnns[image["id"]] if not note["iscrowd"]]
        with Image.open(PHOTOS / "images" / image["file_name"]) as photo:
            rgb = np.array(photo.convert("RGB"))
        boxes = [(x, y, x + w, y + h) for x, y, w, h in (note["bbox"] for note in notes)]
        yield rgb, boxes, [truth.annToMask(note).view(np.bool_) for note in notes]


def size_of(rgb: RGB) -> tuple[int, int]:
    return rgb.shape[1], rgb.shape[0]


@needs_photos
def test_true_masks_come_back_from_the_platforms_shapes(truth: COCO) -> None:
    masks = [mask for _, _, masks in photos(truth) for mask in masks]
    polygons = []
    for pixels in masks:
        mask, size_px = in_window(pixels), (pixels.shape[1], pixels.shape[0])
        assert (bitmask_served(mask, size_px) == pixels).all()
        polygons.append(mask_iou(polygon_served(mask, size_px), pixels))
    print(
        f"{len(masks)} masks: bitmasks exact; polygons IoU median {median(polygons):.4f}, worst {min(polygons):.4f}"
    )
    assert min(polygons) >= MIN_IOU


def in_window(pixels: BoolArray) -> Mask:
    """As a segmenter answers: only what is around the object."""
    left, top, right, bottom = box_around(pixels).astype(int).tolist()
    return mask_from_window(pixels[top:bottom, left:right], left, top, 0.9)


@needs_photos
def test_true_boxes_come_back_and_masks_asked_for_with_them_lie_where_they_belong(
    truth: COCO, segmenter: BoxSegmenter
) -> None:
    likeness = []
    for rgb, boxes, true_masks in photos(truth):
        (masks,) = segmenter.segment([rgb], [np.array(boxes, np.float32).reshape(-1, 4)])
        for box, mask, pixels in zip(boxes, masks, true_masks, strict=True):
            assert box_served(box, size_of(rgb)) == pytest.approx(box, abs=1e-3)
            served = bitmask_served(mask, size_of(rgb))
            assert (served == mask_to_frame(mask, *size_of(rgb))).all()
            assert not outside(served, box).any()
            likeness.append(mask_iou(served, pixels))
    print(f"{len(likeness)} boxes: all masks in place; IoU with the truth median {median(likeness):.2f}")


def box_served(box_xyxy_px: Box, size_px: tuple[int, int]) -> list[float]:
    geometry = sent("bounding_box", size_px, clipped(box_xyxy_px, size_px), None)
    assert isinstance(geometry, BoxNorm)
    x, y, w, h = geometry
    return (np.array([x, y, x + w, y + h]) * (size_px * 2)).tolist()


def clipped(box_xyxy_px: Box, size_px: tuple[int, int]) -> Box:
    """COCO's boxes reach past the frame by what rounding leaves."""
    x0, y0, x1, y1 = box_xyxy_px
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(size_px[0])), min(y1, float(size_px[1]))


def outside(frame: BoolArray, box_xyxy_px: Box) -> BoolArray:
    """The pixels of a frame beyond a box and its margin."""
    x0, y0, x1, y1 = box_xyxy_px
    dx, dy = MARGIN * (x1 - x0) + 1, MARGIN * (y1 - y0) + 1
    rest = frame.copy()
    rest[max(0, int(y0 - dy)) : int(y1 + dy) + 1, max(0, int(x0 - dx)) : int(x1 + dx) + 1] = False
    return rest


@needs_video
def test_a_video_of_real_frames_is_read_in_order_each_frame_once(tmp_path: Path, segmenter: BoxSegmenter) -> None:
    originals = [np.array(Image.open(path)) for path in sorted((VIDEO / "frames").glob("*.jpg"))]
    truths = [np.array(Image.open(path)) > 0 for path in sorted((VIDEO / "masks").glob("*.png"))]
    count, (width_px, height_px) = len(originals), size_of(originals[0])
    film = as_film(originals, tmp_path / "film.mp4")
    clip = Clip("film", film, range(count), width_px, height_px, video_frames=count)
    order, nearest, likeness = [], [], []

    for index, rgb in MediaReader(max_pixels=1_000_000).read(clip):
        order.append(index)
        nearest.append(int(np.argmin([np.abs(thumbnail(rgb) - thumbnail(other)).mean() for other in originals])))
        box = box_around(truths[index])
        ((mask,),) = segmenter.segment([rgb], [box[None]])
        served = bitmask_served(mask, (width_px, height_px))
        assert (served == mask_to_frame(mask, width_px, height_px)).all()
        likeness.append(mask_iou(served, truths[index]))

    assert order == nearest == list(range(count))
    print(f"{count} frames of {width_px}x{height_px}, in order; IoU with the truth median {median(likeness):.2f}")


def thumbnail(rgb: RGB) -> NDArray[np.float32]:
    return rgb[::4, ::4].astype(np.float32)


def box_around(pixels: BoolArray) -> NDArray[np.float32]:
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)

"""Shapes through the SDK: pushed by the command and compared with what was drawn; and what they come to in bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from encord.objects import LabelRowV2, OntologyStructure, Shape
from encord.objects.coordinates import PolygonCoordinates, RotatableBoundingBoxCoordinates
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from autolabel.core.assemble import Instance, Placement
from autolabel.core.detections import Detection
from autolabel.core.geometry import mask_from_window
from autolabel.remote.shapes import ContentTooLargeError, fill, to_platform
from autolabel.sandbox.scenes import draw
from sandbox.commands import Command
from sandbox.conftest import Start
from sandbox.own_project import clip, make_project

BoolArray = NDArray[np.bool_]
SIZE_XY_PX = np.array([640, 480])
SCENE = draw(220, 640, 480, ["gold needle holder", "red scalpel"])
RING = np.hypot(*(np.mgrid[:60, :70] - 30)) // 9 == 2
TRUE = {seen.name: seen.mask for seen in SCENE.objects}


def pushed(start: Start, folder: Path) -> LabelRowV2:
    """A picture of a needle holder and a scalpel, labelled on a project that asks for these shapes."""
    push = Command(start("empty"), folder / "home")
    structure = OntologyStructure()
    structure.add_object("gold needle holder", Shape.POLYGON)
    structure.add_object("red scalpel", Shape.ROTATABLE_BOUNDING_BOX)
    Image.fromarray(SCENE.rgb).save(folder / "scene.png")
    project = make_project(push.sandbox, structure, [folder / "scene.png"])
    done = push("push", "--yes", "--project", project.project_hash)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = project.list_label_rows_v2()
    row.initialise_labels()
    return row


def filled(ring_xy_norm: Any) -> BoolArray:
    ring = (np.reshape(ring_xy_norm, (-1, 2)) * SIZE_XY_PX).ravel().tolist()
    drawn: BoolArray = coco_mask.decode(coco_mask.frPyObjects([ring], 480, 640)[0]) > 0
    return drawn


def closest_box(mask: BoolArray) -> BoolArray:
    """The smallest rectangle around a mask, turned as it may be."""
    points = np.argwhere(mask)[:, ::-1].astype(np.float32)
    return filled(cv2.boxPoints(cv2.minAreaRect(points)) / SIZE_XY_PX)


def turned(box: RotatableBoundingBoxCoordinates) -> NDArray[np.float64]:
    """(4, 2) corners in fractions: turned clockwise about its centre, in pixels."""
    half = np.array([box.width, box.height]) * SIZE_XY_PX / 2
    centre = np.array([box.top_left_x, box.top_left_y]) * SIZE_XY_PX + half
    cos, sin = np.cos(np.radians(box.theta)), np.sin(np.radians(box.theta))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    return (centre + corners @ np.array([[cos, sin], [-sin, cos]])) / SIZE_XY_PX


def iou(a: BoolArray, b: BoolArray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_needle_holder_keeps_the_holes_of_its_rings_and_a_scalpel_its_turn(start: Start, tmp_path: Path) -> None:
    row = pushed(start, tmp_path)

    where = {item.object_name: item.get_annotations()[0].coordinates for item in row.get_object_instances()}
    holder, scalpel = where["gold needle holder"], where["red scalpel"]

    assert isinstance(holder, PolygonCoordinates)
    outer, *holes = max(holder.to_dict("multiple_polygons"), key=len)
    drawn = filled(outer) & ~np.any([filled(hole) for hole in holes], axis=0)
    assert len(holes) >= 2
    assert iou(drawn, TRUE["gold needle holder"]) > 0.6
    assert isinstance(scalpel, RotatableBoundingBoxCoordinates)
    assert iou(filled(turned(scalpel)), closest_box(TRUE["red scalpel"])) > 0.6
    print(f"needle holder: {len(outer) // 2} points and {len(holes)} holes; scalpel: {scalpel}")


@pytest.mark.parametrize("shape", [Shape.BOUNDING_BOX, Shape.ROTATABLE_BOUNDING_BOX, Shape.POLYGON, Shape.BITMASK])
def test_a_rows_bytes_are_counted_as_the_sdk_sends_them(start: Start, tmp_path: Path, shape: Shape) -> None:
    kind = (structure := OntologyStructure()).add_object("needle holder", shape)
    film = clip(tmp_path / "film.mp4", np.arange(20) / 25, (640, 480))
    (row,) = make_project(start("empty"), structure, [film]).list_label_rows_v2()
    row.initialise_labels()
    name = kind.feature_node_hash
    found = Detection(name, "", 0.8765, (20.3, 30.7, 90.1, 90.9), mask_from_window(RING, 20, 30, 0.9))
    places = tuple(Placement(index, 640, 480, found) for index in range(20))
    wanted = [Instance(f"hash000{k}", name, shape.value, k, places) for k in range(3)]  # type: ignore[arg-type]

    before = len(json.dumps(row.to_encord_dict()))
    fill(row, to_platform(wanted), structure)
    with pytest.raises(ContentTooLargeError) as caught:
        to_platform(wanted, max_bytes=1)
    assert caught.value.size_bytes == pytest.approx(len(json.dumps(row.to_encord_dict())) - before, rel=0.05)

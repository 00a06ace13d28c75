"""Polygons and rotated boxes: pushed by the command, read back through the SDK, compared with what was drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from encord.objects import LabelRowV2, OntologyStructure, Shape
from encord.objects.coordinates import PolygonCoordinates, RotatableBoundingBoxCoordinates
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from sandbox.commands import Command
from sandbox.conftest import Start
from sandbox.own_project import make_project

BoolArray = NDArray[np.bool_]
SIZE_XY_PX = np.array([400, 240])
XS, YS = np.mgrid[:240, :400][::-1] + 0.5
RING = (np.hypot(XS - 100, YS - 120) < 60) & (np.hypot(XS - 100, YS - 120) > 33)
TILT = np.radians(30)
ALONG = (XS - 290) * np.cos(TILT) + (YS - 120) * np.sin(TILT)
ACROSS = (YS - 120) * np.cos(TILT) - (XS - 290) * np.sin(TILT)
SQUARE = (abs(ALONG) < 45) & (abs(ACROSS) < 45)


def pushed(start: Start, folder: Path) -> LabelRowV2:
    """A picture of the ring and the turned square, labelled on a project that asks for these shapes."""
    push = Command(start("empty"), folder / "home")
    structure = OntologyStructure()
    structure.add_object("orange ring", Shape.POLYGON)
    structure.add_object("blue square", Shape.ROTATABLE_BOUNDING_BOX)
    project = make_project(push.sandbox, structure, [scene(folder / "scene.png")])
    done = push("push", "--yes", "--project", project.project_hash)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = project.list_label_rows_v2()
    row.initialise_labels()
    return row


def scene(path: Path) -> Path:
    pixels = np.full((240, 400, 3), 128, np.uint8)
    pixels[RING] = (245, 140, 30)
    pixels[SQUARE] = (45, 80, 220)
    Image.fromarray(pixels).save(path)
    return path


def filled(ring_xy_norm: Any) -> BoolArray:
    ring = (np.reshape(ring_xy_norm, (-1, 2)) * SIZE_XY_PX).ravel().tolist()
    drawn: BoolArray = coco_mask.decode(coco_mask.frPyObjects([ring], 240, 400)[0]) > 0
    return drawn


def turned(box: RotatableBoundingBoxCoordinates) -> NDArray[np.float64]:
    """(4, 2) corners in fractions: turned clockwise about its centre, in pixels."""
    half = np.array([box.width, box.height]) * SIZE_XY_PX / 2
    centre = np.array([box.top_left_x, box.top_left_y]) * SIZE_XY_PX + half
    cos, sin = np.cos(np.radians(box.theta)), np.sin(np.radians(box.theta))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    return (centre + corners @ np.array([[cos, sin], [-sin, cos]])) / SIZE_XY_PX


def iou(a: BoolArray, b: BoolArray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_ring_keeps_its_hole_and_a_turned_square_its_turn(start: Start, tmp_path: Path) -> None:
    row = pushed(start, tmp_path)

    where = {item.object_name: item.get_annotations()[0].coordinates for item in row.get_object_instances()}
    ring, square = where["orange ring"], where["blue square"]

    assert isinstance(ring, PolygonCoordinates)
    ((outer, hole),) = ring.to_dict("multiple_polygons")
    assert iou(filled(outer) & ~filled(hole), RING) > 0.8
    assert isinstance(square, RotatableBoundingBoxCoordinates)
    assert iou(filled(turned(square)), SQUARE) > 0.8
    print(f"ring: {len(outer) // 2} + {len(hole) // 2} points; square: {square}")

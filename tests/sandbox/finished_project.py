"""Photos with their truth as a project that people have finished, made with the SDK alone, as a team would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from encord import Project
from encord.objects import LabelRowV2, Object, OntologyStructure, Shape
from encord.objects.coordinates import BoundingBoxCoordinates, Coordinates, PolygonCoordinates
from encord.workflow import AnnotationStage, ReviewStage
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from autolabel.core.detections import Detection
from autolabel.core.geometry import mask_to_frame
from sandbox.conftest import RunningSandbox
from sandbox.own_project import make_project

Json = Mapping[str, Any]


def make_finished_project(sandbox: RunningSandbox, truth: COCO, images: Path) -> Project:
    """A row an image of `truth`, labelled by hand, submitted and approved.

    Of the classes in it every second asks for polygons, the others for boxes; crowds are no objects.
    """
    structure = OntologyStructure()
    for i, category in enumerate(truth.loadCats(labelled_categories(truth))):
        structure.add_object(category["name"], (Shape.BOUNDING_BOX, Shape.POLYGON)[i % 2])
    photos = {photo["file_name"]: photo for photo in truth.dataset["images"]}
    project = make_project(sandbox, structure, [images / name for name in photos])
    rows = project.list_label_rows_v2()
    with project.create_bundle() as bundle:
        for row in rows:
            row.initialise_labels(bundle=bundle)
    with project.create_bundle() as bundle:
        for row in rows:
            _label(row, photos[row.data_title], truth)
            row.save(bundle=bundle)
    _finish(project)
    return project


def labelled_categories(truth: COCO) -> list[int]:
    return sorted({note["category_id"] for note in truth.dataset["annotations"] if not note["iscrowd"]})


def _label(row: LabelRowV2, photo: Json, truth: COCO) -> None:
    size_px = (photo["width"], photo["height"])
    for note in truth.imgToAnns[photo["id"]]:
        if not note["iscrowd"]:
            name = truth.cats[note["category_id"]]["name"]
            kind = row.ontology_structure.get_child_by_title(name, type_=Object)
            drawn = kind.create_instance()
            drawn.set_for_frames(_coordinates(note, kind.shape, size_px), manual_annotation=True)
            row.add_object_instance(drawn)


def _coordinates(note: Json, shape: Shape, size_px: tuple[int, int]) -> Coordinates:
    if shape == Shape.POLYGON:
        rings = [np.reshape(ring, (-1, 2)) / size_px for ring in note["segmentation"]]
        return PolygonCoordinates.from_polygons_list([[ring.clip(0, 1).ravel().tolist()] for ring in rings])
    x, y, w, h = (np.reshape(note["bbox"], (2, 2)) / size_px).ravel().tolist()
    return BoundingBoxCoordinates(top_left_x=x, top_left_y=y, width=w, height=h)


def _finish(project: Project) -> None:
    """Every task submitted and approved."""
    for stage in project.workflow.stages:
        with project.create_bundle() as bundle:
            if isinstance(stage, AnnotationStage):
                for task in stage.get_tasks():
                    task.submit(bundle=bundle)
            elif isinstance(stage, ReviewStage):
                for review in stage.get_tasks():
                    review.approve(bundle=bundle)


def best_iou(found: Detection, notes: Sequence[Json], truth: COCO) -> float:
    """Of a box with the boxes, of a mask with the masks, of what is truly there."""
    if found.mask is None:
        x0, y0, x1, y1 = found.box_xyxy_px
        boxes = np.array([note["bbox"] for note in notes], np.float64)
        return float(coco_mask.iou(np.array([[x0, y0, x1 - x0, y1 - y0]]), boxes, [0] * len(notes)).max())
    photo = truth.imgs[notes[0]["image_id"]]
    pixels = np.asfortranarray(mask_to_frame(found.mask, photo["width"], photo["height"]), np.uint8)
    masks = [truth.annToRLE(note) for note in notes]
    return float(coco_mask.iou([coco_mask.encode(pixels)], masks, [0] * len(masks)).max())

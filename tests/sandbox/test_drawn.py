"""What the source tells, in pixels, of rows that people have labelled: held against what they drew and the truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from encord import Project
from encord.objects import LabelRowV2, Object, OntologyStructure, Shape
from encord.objects.coordinates import (
    BoundingBoxCoordinates,
    Coordinates,
    PointCoordinate,
    PolygonCoordinates,
    PolylineCoordinates,
)
from pycocotools.coco import COCO

from autolabel.protocols import Drawn
from autolabel.remote.client import Connection
from autolabel.remote.source import EncordSource
from autolabel.sandbox import running
from sandbox.conftest import RunningSandbox, Start
from sandbox.finished_project import best_iou
from sandbox.own_project import clip, make_project, picture

pytestmark = pytest.mark.sdk
LEAST_IOU = {"bounding_box": 0.85, "rotatable_bounding_box": 0.35, "polygon": 0.97, "bitmask": 1.0}
CORNERS = [PointCoordinate(x, y) for x, y in ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))]
BOX = BoundingBoxCoordinates(height=0.5, width=0.25, top_left_x=0.5, top_left_y=0.25)
LINE = PolylineCoordinates(values=CORNERS)


def source_of(sandbox: RunningSandbox, project: Project) -> EncordSource:
    return EncordSource(Connection(sandbox.client(), project, project, is_local=True), max_media_bytes=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    folder = tmp_path_factory.mktemp("finished")
    with running(folder, scenario="demo-finished", frames=20) as info:
        yield RunningSandbox(dir=folder, **info)


def test_what_people_finished_is_what_is_truly_there(finished: RunningSandbox) -> None:
    source = source_of(finished, finished.project())
    truth, classes = COCO(str(finished.dir / "truth.json")), {c.feature_hash: c for c in source.project().classes}
    names = {category["name"]: category["id"] for category in truth.dataset["categories"]}
    begun = {stage.uuid for stage in source.project().workflow.human_stages}
    rows = [row for row in source.rows() if row.stage_uuid not in begun]
    drawn = source.drawn(rows)
    assert len(drawn) == len(rows) == 18
    for image in truth.dataset["images"]:
        data_hash = image["file_name"].split("/")[0]
        if data_hash in drawn:
            (frame,) = drawn[data_hash].frames
            notes = truth.imgToAnns[image["id"]]
            assert len(frame.detections) == len(notes)
            for found in frame.detections:
                kind = classes[found.feature_hash]
                same = [note for note in notes if note["category_id"] == names[kind.name]]
                assert best_iou(found, same, truth) >= LEAST_IOU[kind.shape], kind.name


def test_finished_rows_are_at_the_end_some_empty_and_a_few_on_the_way(finished: RunningSandbox) -> None:
    source = source_of(finished, finished.project())
    rows, titles = source.rows(), {stage.uuid: stage.title for stage in source.project().workflow.stages}
    drawn = source.drawn(rows)
    assert [titles[row.stage_uuid] for row in rows].count("Complete") == 16
    assert {titles[row.stage_uuid] for row in rows} == {"Annotate", "Review", "Complete"}
    assert 1 <= [len(one.frames[0].detections) for one in drawn.values()].count(0) <= 5
    assert all(one.ours_like == one.other_objects == 0 for one in drawn.values())
    assert {kind.name for kind in source.project().classes} >= {"Kocher", "Metzenbaum", "white gauze"}


def own_rows(start: Start, folder: Path) -> tuple[RunningSandbox, Project, list[LabelRowV2]]:
    """A picture, an untouched one, a group of two sizes and a video, with a class of each of three shapes."""
    sandbox, structure = start("empty"), OntologyStructure()
    for name, shape in (("box", Shape.BOUNDING_BOX), ("area", Shape.POLYGON), ("line", Shape.POLYLINE)):
        structure.add_object(name, shape)
    group = [picture(folder / "small.png", 80, 60), picture(folder / "wide one.png", 200, 40)]
    files = [picture(folder / "a.png"), picture(folder / "ab.png"), group, clip(folder / "v.mp4", np.arange(9) / 10)]
    project = make_project(sandbox, structure, files)
    return sandbox, project, project.list_label_rows_v2()


def draw(row: LabelRowV2, name: str, where: Coordinates, frame: int = 0, *, by_hand: bool = True) -> None:
    kind = row.ontology_structure.get_child_by_title(name, type_=Object)
    drawn = kind.create_instance()
    drawn.set_for_frames(where, frames=frame, manual_annotation=by_hand)
    row.add_object_instance(drawn)


def test_frames_shapes_and_authors_are_told_for_every_type_of_row(start: Start, tmp_path: Path) -> None:
    sandbox, project, (still, untouched, group, video) = own_rows(start, tmp_path)
    for row in (still, group, video):
        row.initialise_labels()
    draw(still, "area", PolygonCoordinates(values=CORNERS))
    draw(still, "line", LINE)
    draw(group, "box", BOX, frame=1, by_hand=False)
    draw(video, "box", BOX, frame=7)
    draw(video, "line", LINE, frame=3)
    for row in (still, group, video):
        row.save()
    drawn = source_of(sandbox, project).drawn(source_of(sandbox, project).rows())
    assert untouched.data_hash not in drawn
    assert frames(drawn[still.data_hash]) == [(0, 200, 120, [(50.0, 30.0, 150.0, 90.0)])]
    assert frames(drawn[group.data_hash]) == [(0, 80, 60, []), (1, 200, 40, [(100.0, 10.0, 150.0, 30.0)])]
    assert frames(drawn[video.data_hash]) == [(3, 160, 96, []), (7, 160, 96, [(80.0, 24.0, 120.0, 72.0)])]
    assert [drawn[row.data_hash].other_objects for row in (still, group, video)] == [1, 0, 1]
    assert [drawn[row.data_hash].ours_like for row in (still, group, video)] == [0, 1, 0]


def frames(drawn: Drawn) -> list[tuple[object, ...]]:
    return [
        (frame.frame_index, frame.width_px, frame.height_px, [one.box_xyxy_px for one in frame.detections])
        for frame in drawn.frames
    ]


def test_reading_creates_nothing(finished: RunningSandbox) -> None:
    before = finished.rows()
    source = source_of(finished, finished.project())
    source.drawn(source.rows())
    assert finished.rows() == before
    assert not finished.writes()

"""What the SDK saves is what it reads again: every shape, attribute and classification, on every type of row."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encord.objects import (
    ChecklistAttribute,
    Object,
    ObjectInstance,
    OntologyStructure,
    RadioAttribute,
    Shape,
    TextAttribute,
)
from encord.objects.attributes import NumericAttribute
from encord.objects.coordinates import (
    BitmaskCoordinates,
    BoundingBoxCoordinates,
    CircleCoordinates,
    Cuboid2DIsometricCoordinates,
    EllipseCoordinates,
    GeometricCoordinates,
    PointCoordinate,
    PolygonCoordinates,
    PolylineCoordinates,
    RotatableBoundingBoxCoordinates,
    SkeletonCoordinate,
    SkeletonCoordinates,
)
from encord.objects.frames import Range
from encord.objects.ontology_labels_impl import LabelRowV2
from encord.objects.skeleton_template import SkeletonTemplate, SkeletonTemplateCoordinate

from sandbox.conftest import Start
from sandbox.own_project import clip, make_project, picture

BOT, PERSON = "prelabel-service@example.com", "annotator@example.com"
ANSWERS = ("object_answers", "object_actions", "classification_answers")
SHAPES = (
    *(Shape.BOUNDING_BOX, Shape.ROTATABLE_BOUNDING_BOX, Shape.POLYGON, Shape.BITMASK, Shape.POLYLINE, Shape.POINT),
    *(Shape.CIRCLE, Shape.ELLIPSE, Shape.CUBOID_2D),
)


def structure() -> OntologyStructure:
    made = OntologyStructure()
    for shape in SHAPES:
        add_attributes(made.add_object(shape.value, shape))
    joints = {str(i): SkeletonTemplateCoordinate(x=0.1, y=0.1 * i, name=f"joint {i}") for i in range(2)}
    template = SkeletonTemplate(name="arm", width=1, height=1, skeleton=joints, skeleton_edges={})
    made.add_skeleton_object("arm", template)
    for kind in (RadioAttribute, ChecklistAttribute, TextAttribute):
        question = made.add_classification().add_attribute(kind, f"{kind.__name__} of the frame")
        if isinstance(question, RadioAttribute):
            question.add_option("Poor").add_nested_attribute(TextAttribute, "Why")
        elif isinstance(question, ChecklistAttribute):
            for option in ("Blur", "Glare", "Smoke"):
                question.add_option(option)
    return made


def add_attributes(item: Object) -> None:
    edge = item.add_attribute(RadioAttribute, "Edge")
    edge.add_option("Torn").add_nested_attribute(TextAttribute, "Where")
    parts = item.add_attribute(ChecklistAttribute, "Parts")
    for option in ("Left", "Right", "Tip"):
        parts.add_option(option)
    item.add_attribute(NumericAttribute, "Score")
    moving = item.add_attribute(RadioAttribute, "Moving", dynamic=True)
    moving.add_option("Slow")
    moving.add_option("Fast")
    item.add_attribute(TextAttribute, "Seen", dynamic=True)


@pytest.fixture(params=["image", "group", "sequence", "video"])
def row(request: pytest.FixtureRequest, start: Start, tmp_path: Path) -> LabelRowV2:
    """An initialised row of each type, of a project with an object of every shape."""
    frames = [picture(tmp_path / f"{i}.png", 160 + 40 * i * (request.param == "group"), 96) for i in range(3)]
    video = clip(tmp_path / "v.mp4", [i / 10 for i in range(30)])
    files = {"image": frames[0], "video": video}.get(request.param, frames)
    project = make_project(start("empty"), structure(), [files], as_sequences=request.param == "sequence")
    return opened(project.list_label_rows_v2()[0])


def opened(row: LabelRowV2) -> LabelRowV2:
    row.initialise_labels(overwrite=True)
    return row


def reread(row: LabelRowV2) -> dict[str, Any]:
    """The row as the SDK writes it, less what its reading loses: the order of answers, who gave those of objects."""
    written = row.to_encord_dict()
    del written["last_edited_at"]
    for part in ANSWERS:
        written[part] = without_order(written[part], part != "classification_answers")
    return written


def without_order(value: Any, without_giver: bool) -> Any:
    if isinstance(value, list):
        return sorted((without_order(part, without_giver) for part in value), key=repr)
    if isinstance(value, dict):
        kept = sorted(key for key in value if not (without_giver and key == "manualAnnotation"))
        return {key: without_order(value[key], without_giver) for key in kept}
    return value


def assert_survives(row: LabelRowV2) -> None:
    """What is served is what was sent, and the SDK makes the same of it."""
    sent, meant = row.to_encord_dict(), reread(row)
    assert sent["object_answers"] or sent["classification_answers"]
    row.save()
    (served,) = row._project_client.get_label_rows([str(row.label_hash)], get_signed_url=False)
    for part in ("data_units", *ANSWERS):
        assert served[part] == sent[part]
    assert reread(opened(row)) == meant


def coordinates(shape: Shape, view: LabelRowV2.FrameView) -> GeometricCoordinates:
    """Something of this shape, a little further on in every frame; in numbers that survive rounding."""
    at = (1 + view.frame % 32) / 64
    corners = [PointCoordinate(at + x, at + y) for x, y in ((0.0, 0.0), (0.25, 0.0), (0.25, 0.25), (0.0, 0.25))]
    hole = [PointCoordinate(at + x, at + y) for x, y in ((0.0625, 0.0625), (0.125, 0.0625), (0.125, 0.125))]
    part = [PointCoordinate(at + x, at + y) for x, y in ((0.375, 0.0), (0.4375, 0.0), (0.4375, 0.0625))]
    mask = np.random.default_rng(view.frame).random((view.height, view.width)) < 0.3
    joints = [SkeletonCoordinate(x=at, y=at + 0.25 * i, name=f"joint {i}") for i in range(2)]
    made: dict[Shape, GeometricCoordinates] = {
        Shape.BOUNDING_BOX: BoundingBoxCoordinates(0.25, 0.125, at, at),
        Shape.ROTATABLE_BOUNDING_BOX: RotatableBoundingBoxCoordinates(0.25, 0.125, at, at, theta=30.5),
        Shape.POLYGON: PolygonCoordinates(polygons=[[corners, hole], [part]]),
        Shape.BITMASK: BitmaskCoordinates(mask),
        Shape.POLYLINE: PolylineCoordinates(corners),
        Shape.POINT: corners[0],
        Shape.CIRCLE: CircleCoordinates(0.5, 0.5, at),
        Shape.ELLIPSE: EllipseCoordinates(0.5, 0.5, at, 0.125, theta=12.25),
        Shape.CUBOID_2D: Cuboid2DIsometricCoordinates(corners, PointCoordinate(0.125, 0.125)),
        Shape.SKELETON: SkeletonCoordinates(values=joints, name="arm"),
    }
    return made[shape]


def drawn(row: LabelRowV2, item: Object) -> ObjectInstance:
    """An object on every third frame, made by the machine on one and corrected by a person on the next."""
    instance = ObjectInstance(item)
    for i, frame in enumerate(range(0, row.number_of_frames, 3 if row.number_of_frames > 3 else 1)):
        instance.set_for_frames(
            coordinates(item.shape, row.get_frame_view(frame)),
            frame,
            confidence=1 / (i + 1),
            manual_annotation=bool(i % 2),
            created_by=BOT,
            last_edited_by=(BOT, PERSON)[i % 2],
        )
    return instance


def test_every_shape_survives(row: LabelRowV2) -> None:
    for item in row.ontology_structure.objects:
        row.add_object_instance(drawn(row, item))
    assert {o.ontology_item.shape for o in row.get_object_instances()} == {*SHAPES, Shape.SKELETON}
    assert_survives(row)


def test_nested_and_dynamic_attributes_survive(row: LabelRowV2) -> None:
    for shape in SHAPES:
        item = row.ontology_structure.get_child_by_title(shape.value, type_=Object)
        instance = drawn(row, item)
        edge, parts, score, moving, seen = item.attributes
        torn = edge.options[0]
        instance.set_answer(torn, edge, manual_annotation=False)
        instance.set_answer("at the hinge", torn.nested_options[0])
        instance.set_answer(parts.options[:2], parts)
        instance.set_answer(0.123456789, score, manual_annotation=False)
        frames = [annotation.frame for annotation in instance.get_annotations()]
        for i, frame in enumerate(frames):
            instance.set_answer(moving.options[i % 2], moving, frames=frame)
        instance.set_answer("in half", seen, frames=frames[: len(frames) // 2 + 1])
        row.add_object_instance(instance)
    assert_survives(row)


def test_classifications_survive_on_their_ranges(row: LabelRowV2) -> None:
    last = row.number_of_frames - 1
    for classification in row.ontology_structure.classifications:
        instance = classification.create_instance()
        (question,) = classification.attributes
        ranges = [Range(0, last // 4), Range(last - last // 4, last)] if last else 0
        instance.set_for_frames(
            ranges, confidence=0.5, manual_annotation=False, created_by=BOT, last_edited_by=PERSON
        )
        if isinstance(question, RadioAttribute):
            instance.set_answer(question.options[0])
            instance.set_answer("dust", question.options[0].nested_options[0])
        elif isinstance(question, ChecklistAttribute):
            instance.set_answer(question.options[1:])
        else:
            instance.set_answer("näve £ 図")
        row.add_classification_instance(instance)
    assert_survives(row)


def test_another_save_changes_nothing_in_what_is_stored(row: LabelRowV2) -> None:
    row.add_object_instance(drawn(row, row.ontology_structure.objects[0]))
    assert_survives(row)
    assert_survives(row)

"""What the stand-in keeps of labels of every shape, and what it refuses to save."""

import pytest
from encord import Project
from encord.exceptions import AnswerDictionaryError, FeatureDoesNotExistError
from encord.objects import (
    ChecklistAttribute,
    Object,
    ObjectInstance,
    OntologyStructure,
    RadioAttribute,
    Shape,
    TextAttribute,
)
from encord.objects.coordinates import (
    PointCoordinate,
    PolygonCoordinates,
    PolylineCoordinates,
    RotatableBoundingBoxCoordinates,
)
from encord.objects.ontology_labels_impl import LabelRowV2
from encord.orm.dataset import StorageLocation
from encord.orm.label_row import LabelRow
from PIL import Image

from sandbox.conftest import RunningSandbox, Start

OUTER = [PointCoordinate(x, y) for x, y in ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))]
HOLE = [PointCoordinate(x, y) for x, y in ((0.25, 0.25), (0.5, 0.25), (0.5, 0.5))]
PART = [PointCoordinate(x, y) for x, y in ((0.75, 0.75), (0.875, 0.75), (0.875, 0.875))]


def structure_of_every_shape() -> OntologyStructure:
    structure = OntologyStructure()
    for shape in (Shape.POLYGON, Shape.ROTATABLE_BOUNDING_BOX, Shape.POLYLINE, Shape.POINT):
        structure.add_object(shape.value, shape)
    turned = structure.get_child_by_title("rotatable_bounding_box", type_=Object)
    occluded = turned.add_attribute(RadioAttribute, "Occluded")
    occluded.add_option("Yes")
    moving = turned.add_attribute(RadioAttribute, "Moving", dynamic=True)
    moving.add_option("Fast")
    turned.add_attribute(TextAttribute, "Prompt")
    parts = turned.add_attribute(ChecklistAttribute, "Parts")
    for option in ("Left", "Right"):
        parts.add_option(option)
    return structure


@pytest.fixture
def row(start: Start, tmp_path_factory: pytest.TempPathFactory) -> LabelRowV2:
    """A row, initialised on main, of a project made through the SDK alone."""
    sandbox = start("empty")
    client = sandbox.client()
    picture = tmp_path_factory.mktemp("pictures") / "a.png"
    Image.new("RGB", (64, 48)).save(picture)
    dataset_hash = client.create_dataset("Data", StorageLocation.CORD_STORAGE).dataset_hash
    client.get_dataset(dataset_hash).upload_image(picture)
    ontology = client.create_ontology("Shapes", structure=structure_of_every_shape())
    project_hash = client.create_project("Shapes", [dataset_hash], ontology_hash=ontology.ontology_hash)
    (row,) = client.get_project(project_hash).list_label_rows_v2()
    row.initialise_labels()
    return row


def instance_of(row: LabelRowV2, name: str) -> ObjectInstance:
    return ObjectInstance(row.ontology_structure.get_child_by_title(name, type_=Object))


def read_again(row: LabelRowV2, instance: ObjectInstance) -> ObjectInstance:
    row.add_object_instance(instance)
    row.save()
    row.initialise_labels(overwrite=True)
    (read,) = row.get_object_instances()
    assert read.object_hash == instance.object_hash
    return read


def test_a_polygon_keeps_its_hole_and_its_second_part(row: LabelRowV2) -> None:
    instance = instance_of(row, "polygon")
    parts = PolygonCoordinates(polygons=[[OUTER, HOLE], [PART]])
    instance.set_for_frames(parts, confidence=0.5, manual_annotation=False)
    read = read_again(row, instance).get_annotation(0)
    assert isinstance(read.coordinates, PolygonCoordinates)
    assert read.coordinates.polygons == [[OUTER, HOLE], [PART]]
    assert (read.confidence, read.manual_annotation) == (0.5, False)


def test_a_polyline_keeps_its_points(row: LabelRowV2) -> None:
    instance = instance_of(row, "polyline")
    instance.set_for_frames(PolylineCoordinates(HOLE))
    assert read_again(row, instance).get_annotation(0).coordinates == PolylineCoordinates(HOLE)


def test_a_rotatable_box_keeps_its_angle_and_its_answers(row: LabelRowV2) -> None:
    instance = instance_of(row, "rotatable_bounding_box")
    box = RotatableBoundingBoxCoordinates(0.25, 0.5, 0.125, 0.25, theta=30.5)
    instance.set_for_frames(box, confidence=0.75, manual_annotation=False)
    occluded, moving, prompt, parts = instance.ontology_item.attributes
    instance.set_answer(occluded.options[0], occluded, manual_annotation=False)
    instance.set_answer(moving.options[0], moving, frames=0, manual_annotation=False)
    instance.set_answer("red thing", prompt, manual_annotation=False)
    instance.set_answer(list(parts.options), parts, manual_annotation=False)
    read = read_again(row, instance)
    assert read.get_annotation(0).coordinates == box
    assert read.get_answer(occluded).title == "Yes"
    assert [answer.answer.title for answer in read.get_answer(moving)] == ["Fast"]
    assert read.get_answer(prompt) == "red thing"
    assert {option.title for option in read.get_answer(parts)} == {"Left", "Right"}


def test_a_feature_that_is_not_in_the_ontology_is_refused(row: LabelRowV2) -> None:
    stranger = OntologyStructure().add_object("Stranger", Shape.POLYLINE)
    instance = ObjectInstance(stranger)
    instance.set_for_frames(PolylineCoordinates(HOLE))
    row.ontology_structure.objects.append(stranger)
    row.add_object_instance(instance)
    with pytest.raises(FeatureDoesNotExistError):
        row.save()


def test_an_object_without_an_answer_entry_is_refused(project: Project) -> None:
    row = project.list_label_rows_v2()[1]
    row.initialise_labels()
    label = row.to_encord_dict()
    label["object_answers"] = {}
    with pytest.raises(AnswerDictionaryError):
        project._client.save_label_rows([str(row.label_hash)], [LabelRow(label)])


def test_saving_what_was_read_changes_nothing_but_the_time(demo_sandbox: RunningSandbox, project: Project) -> None:
    row = project.list_label_rows_v2()[1]
    before = demo_sandbox.rows()["main"][row.data_hash]
    row.initialise_labels()
    row.save()
    after = demo_sandbox.rows()["main"][row.data_hash]
    assert after["last_edited_at"] > before["last_edited_at"]
    assert after["object_answers"] == before["object_answers"]
    (drawn,), (kept,) = (r["labels"][row.data_hash]["objects"] for r in (before, after))
    assert {key: kept[key] for key in drawn if not key.endswith("At")} == {
        key: drawn[key] for key in drawn if not key.endswith("At")
    }


def test_a_row_that_was_saved_is_valid(project: Project) -> None:
    row = project.list_label_rows_v2()[1]
    assert project._client.get_label_validation_errors(str(row.label_hash)) == []

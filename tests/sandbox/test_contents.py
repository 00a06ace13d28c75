"""What the source tells of rows that somebody opened."""

from __future__ import annotations

from encord import Project
from encord.objects import LabelRowV2, Object
from encord.objects.coordinates import BoundingBoxCoordinates

from autolabel.remote.client import Connection
from autolabel.remote.source import EncordSource
from sandbox.conftest import RunningSandbox

BOX = BoundingBoxCoordinates(height=0.1, width=0.2, top_left_x=0.3, top_left_y=0.4)


def draw(row: LabelRowV2, *, by_hand: bool) -> Object:
    row.initialise_labels()
    kind = row.ontology_structure.get_child_by_title("blue syringe", type_=Object)
    drawn = kind.create_instance()
    drawn.set_for_frames(BOX, manual_annotation=by_hand)
    row.add_object_instance(drawn)
    row.save()
    return kind


def test_work_by_hand_is_told_from_a_machines_and_every_object_comes_with_its_class(
    demo_sandbox: RunningSandbox, project: Project
) -> None:
    free = [row for row in project.list_label_rows_v2() if row.label_hash is None][:2]
    kinds = [draw(row, by_hand=by_hand).feature_node_hash for row, by_hand in zip(free, (True, False), strict=True)]
    source = EncordSource(Connection(demo_sandbox.client(), project, project, is_local=True), max_media_bytes=1)
    contents = source.contents([row for row in source.rows() if row.data_hash in {item.data_hash for item in free}])
    found = [contents[row.data_hash] for row in free]
    assert [item.has_human_work for item in found] == [True, False]
    assert [list(item.objects.values()) for item in found] == [[kind] for kind in kinds]

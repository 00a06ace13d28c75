"""The stand-in, as the real SDK sees it: projects, labels, branches, the workflow."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from encord import EncordUserClient, Project
from encord.exceptions import (
    AuthenticationError,
    EncordException,
    InvalidArgumentsError,
    ResourceNotFoundError,
    SshKeyNotFound,
)
from encord.objects import Classification, Object, ObjectInstance
from encord.objects.coordinates import BitmaskCoordinates, BoundingBoxCoordinates
from encord.objects.ontology_labels_impl import LabelRowV2

from sandbox.conftest import RunningSandbox, Start

BOX = BoundingBoxCoordinates(height=0.25, width=0.5, top_left_x=0.1, top_left_y=0.2)
UNTOUCHED = 2
HUMAN = 1


def named(project: Project, name: str) -> Object:
    return project.ontology_structure.get_child_by_title(name, type_=Object)


def box_on(row: LabelRowV2, project: Project, object_hash: str = "AUTO0001") -> ObjectInstance:
    instance = ObjectInstance(named(project, "blue syringe"), object_hash=object_hash)
    instance.set_for_frames(BOX, confidence=0.25, manual_annotation=False)
    row.add_object_instance(instance)
    return instance


def row_on(project: Project, branch: str, number: int = UNTOUCHED) -> LabelRowV2:
    return project.list_label_rows_v2(branch_name=branch)[number]


def saved_box(project: Project, branch: str, number: int = UNTOUCHED) -> LabelRowV2:
    row = row_on(project, branch, number)
    row.initialise_labels()
    box_on(row, project)
    row.save()
    return row


def fresh_key() -> str:
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        .decode()
    )


# ------------------------------------------------------------------------- projects and access


def test_the_sdk_reads_a_project_its_ontology_workflow_and_datasets(project: Project) -> None:
    assert project.title == "Demo: surgical tools"
    assert [stage.title for stage in project.workflow.stages] == ["Annotate", "Review", "Complete"]
    assert len(project.ontology_structure.objects) == 7
    assert [dataset.title for dataset in project.list_datasets()] == ["Surgical tools"]


def test_projects_are_listed_by_title(demo_sandbox: RunningSandbox) -> None:
    client = demo_sandbox.client()
    assert [p.title for p in client.list_projects(title_eq="Demo: surgical tools")]
    assert not list(client.list_projects(title_eq="another"))


def test_an_unknown_project_is_not_found(demo_sandbox: RunningSandbox) -> None:
    with pytest.raises(ResourceNotFoundError):
        demo_sandbox.client().get_project("00000000-0000-4000-8000-000000000000")


def test_a_foreign_key_is_refused_in_both_dialects(demo_sandbox: RunningSandbox) -> None:
    stranger = EncordUserClient.create_with_ssh_private_key(fresh_key(), domain=demo_sandbox.domain)
    with pytest.raises(AuthenticationError):
        stranger.get_project(demo_sandbox.projects["Demo: surgical tools"])
    with pytest.raises(SshKeyNotFound):
        stranger.get_dataset("00000000-0000-4000-8000-000000000000")


@pytest.mark.parametrize("path", ["/public", "/v2/public/projects"])
def test_a_body_other_than_the_signed_one_is_refused(demo_sandbox: RunningSandbox, path: str) -> None:
    public_key = demo_sandbox.log()[0]["put"][0][1]["public_key"]
    covered = '("@method" "@request-target" "content-digest")'
    headers = {
        "Authorization": f"{public_key}:{'00' * 64}" if path == "/public" else "",
        "Signature-Input": f'encord-sig={covered};created=1;keyid="{public_key}";alg="ed25519"',
        "Signature": "encord-sig=:AAAA:",
    }
    envelope = {"query_type": "labelrow", "query_method": "GET", "values": {}}
    answer = requests.post(demo_sandbox.domain + path, headers=headers, json=envelope, timeout=60)
    assert answer.json().get("response", answer.json()) in (
        ["AUTHENTICATION_ERROR"],
        {"message": "the signature does not fit the request"},
    )


def test_a_bearer_token_is_as_good_as_a_key(demo_sandbox: RunningSandbox) -> None:
    token = demo_sandbox.client().get_bearer_token()
    bearer = EncordUserClient.create_with_bearer_token(token, domain=demo_sandbox.domain)
    project = bearer.get_project(demo_sandbox.projects["Demo: surgical tools"])
    assert len(project.list_label_rows_v2()) == 12


def test_unknown_routes_are_refused_and_logged_loudly(demo_sandbox: RunningSandbox) -> None:
    client = demo_sandbox.client()
    with pytest.raises(ResourceNotFoundError):
        list(client.get_collection("00000000-0000-4000-8000-000000000000").list_items())
    with pytest.raises(EncordException):
        demo_sandbox.project().list_label_rows_v2()[HUMAN].workflow_complete()
    kinds = [entry["kind"] for entry in demo_sandbox.log()]
    assert kinds.count("unknown_route") == 2
    assert "does not know this request" in (demo_sandbox.dir / "output.txt").read_text()


# ------------------------------------------------------------------------------ listing rows


def test_listing_creates_nothing(demo_sandbox: RunningSandbox, project: Project) -> None:
    rows = project.list_label_rows_v2()
    assert [row.label_hash is not None for row in rows[:5]] == [False, True, False, True, True]
    assert (rows[0].width, rows[0].height, rows[0].data_title) == (640, 480, "tray-0000.png")
    assert demo_sandbox.writes() == []


def test_listing_filters_as_asked(project: Project) -> None:
    rows = project.list_label_rows_v2()

    def count(**wanted: object) -> int:
        return len(project.list_label_rows_v2(**wanted))  # type: ignore[arg-type]

    assert count(data_hashes=[rows[0].data_hash, rows[5].data_hash]) == 2
    assert count(label_hashes=[str(rows[HUMAN].label_hash)]) == 1
    assert count(data_title_eq="tray-0003.jpg") == 1
    assert count(data_title_like="%.jpg") == 3
    assert count(workflow_graph_node_title_eq="Review") == 1
    assert count(workflow_graph_node_title_like="Anno%") == 11
    assert count(edited_after="2020-01-01") == 4
    assert count(edited_before="2020-01-01") == 0


def test_all_branches_are_listed_when_asked_for(project: Project) -> None:
    saved_box(project, "auto")
    listed = project.list_label_rows_v2(include_all_label_branches=True)
    assert [row.branch_name for row in listed].count("auto") == 1
    assert len(listed) == 13
    assert list(project.list_branches()) == ["main", "auto"]


# ------------------------------------------------------------------------------- label rows


def test_initialising_on_a_branch_leaves_main_untouched(demo_sandbox: RunningSandbox, project: Project) -> None:
    row = row_on(project, "auto")
    row.initialise_labels()
    assert row.label_hash is not None
    assert row_on(project, "main").label_hash is None
    assert demo_sandbox.writes() == ["label_row_created"]


def test_initialising_is_a_write_once(demo_sandbox: RunningSandbox, project: Project) -> None:
    first, second = row_on(project, "main"), row_on(project, "main")
    first.initialise_labels()
    second.initialise_labels()
    assert first.label_hash == second.label_hash
    assert demo_sandbox.writes() == ["label_row_created"]


def test_boxes_masks_and_classifications_survive_a_round_trip(project: Project) -> None:
    row = row_on(project, "main")
    row.initialise_labels()
    box_on(row, project)
    mask = np.zeros((row.height, row.width), dtype=bool)
    mask[10:50, 20:90] = True
    forceps = ObjectInstance(named(project, "black forceps"), object_hash="a+/b1234")
    forceps.set_for_frames(BitmaskCoordinates(mask), confidence=0.0, manual_annotation=False)
    row.add_object_instance(forceps)
    question = project.ontology_structure.classifications[0]
    assert isinstance(question, Classification)
    answer = question.create_instance()
    answer.set_for_frames(0, confidence=0.42, manual_annotation=False)
    answer.set_answer(question.attributes[0].options[0])
    row.add_classification_instance(answer)
    row.save()

    again = row_on(project, "main")
    again.initialise_labels()
    by_hash = {instance.object_hash: instance for instance in again.get_object_instances()}
    box = by_hash["AUTO0001"].get_annotation(0)
    assert (box.coordinates, box.confidence, box.manual_annotation) == (BOX, 0.25, False)
    kept = by_hash["a+/b1234"].get_annotation(0)
    assert (kept.coordinates.to_numpy_array() == mask).all()
    assert (kept.confidence, kept.manual_annotation) == (0.0, False)
    (classified,) = again.get_classification_instances()
    assert classified.get_annotation(0).confidence == 0.42
    assert not classified.get_annotation(0).manual_annotation


def test_the_author_of_a_label_is_who_signed_the_request(project: Project) -> None:
    saved_box(project, "main")
    row = row_on(project, "main")
    row.initialise_labels()
    (instance,) = row.get_object_instances()
    assert instance.get_annotation(0).created_by == "prelabel-service@example.com"


def test_the_last_writer_wins_the_whole_row(project: Project) -> None:
    mine, theirs = row_on(project, "main", HUMAN), row_on(project, "main", HUMAN)
    mine.initialise_labels()
    theirs.initialise_labels()
    box_on(theirs, project, "THEIRS01")
    theirs.save()
    box_on(mine, project, "MINE0001")
    mine.save()
    after = row_on(project, "main", HUMAN)
    after.initialise_labels()
    hashes = {instance.object_hash for instance in after.get_object_instances()}
    assert "MINE0001" in hashes
    assert "THEIRS01" not in hashes


def test_features_can_be_filtered_when_reading(project: Project) -> None:
    saved_box(project, "main")
    row = row_on(project, "main")
    row.initialise_labels(include_object_feature_hashes={"nothing"})
    assert row.get_object_instances() == []


def test_coordinates_are_rounded_as_the_switch_says(demo_sandbox: RunningSandbox, project: Project) -> None:
    demo_sandbox.admin("POST", "settings", {"coordinate_decimals": 2})
    row = row_on(project, "main")
    row.initialise_labels()
    instance = ObjectInstance(named(project, "blue syringe"))
    instance.set_for_frames(BoundingBoxCoordinates(1 / 3, 1 / 3, 1 / 3, 1 / 3))
    row.add_object_instance(instance)
    row.save()
    row.initialise_labels(overwrite=True)
    read = row.get_object_instances()[0].get_annotation(0).coordinates
    assert isinstance(read, BoundingBoxCoordinates)
    assert read.height == 0.33


def test_saving_nan_is_refused(demo_sandbox: RunningSandbox, project: Project) -> None:
    row = row_on(project, "main")
    row.initialise_labels()
    instance = ObjectInstance(named(project, "blue syringe"))
    instance.set_for_frames(BoundingBoxCoordinates(float("nan"), 0.1, 0.1, 0.1))
    row.add_object_instance(instance)
    with pytest.raises(InvalidArgumentsError):
        row.save()
    assert demo_sandbox.writes() == ["label_row_created"]


# --------------------------------------------------------------------------------- branches


def test_copying_without_overwrite_skips_rows_that_are_there(demo_sandbox: RunningSandbox, project: Project) -> None:
    before = demo_sandbox.rows()["main"]
    saved_box(project, "auto", HUMAN)
    saved_box(project, "auto", UNTOUCHED)
    assert project.copy_labels_to_branch("main", "auto", overwrite=False) == 1
    after = demo_sandbox.rows()["main"]
    assert {key: after[key] for key in before} == before
    row = row_on(project, "main", UNTOUCHED)
    row.initialise_labels()
    assert [instance.object_hash for instance in row.get_object_instances()] == ["AUTO0001"]


def test_copying_with_overwrite_replaces_rows_that_are_there(project: Project) -> None:
    saved_box(project, "auto", HUMAN)
    kept = row_on(project, "main", HUMAN).label_hash
    assert project.copy_labels_to_branch("main", "auto", overwrite=True) == 1
    row = row_on(project, "main", HUMAN)
    row.initialise_labels()
    assert row.label_hash == kept
    assert [instance.object_hash for instance in row.get_object_instances()] == ["AUTO0001"]


def test_classifications_are_read_in_bulk(project: Project) -> None:
    row = project.list_label_rows_v2()[3]
    (entry,) = project.get_label_classifications([str(row.label_hash)])
    assert str(entry.data_uuid) == row.data_hash
    assert len(entry.classification_answers) == 1


# --------------------------------------------------------------------------------- workflow


def test_tasks_come_by_priority(project: Project) -> None:
    titles = [task.data_title for task in project.workflow.stages[0].get_tasks()]
    assert titles[:3] == ["tray-0010.png", "tray-0007.jpg", "tray-0002.png"]


def test_tasks_page_without_gaps_while_they_move_on(start: Start) -> None:
    project = start("demo-agent", frames=120).project()
    (stage, annotate, *_) = project.workflow.stages
    for task in stage.get_tasks():
        task.proceed(pathway_name="annotate")
    assert len(list(annotate.get_tasks())) == 120
    assert list(stage.get_tasks()) == []


def test_tasks_are_found_by_data_title_status_and_assignee(project: Project) -> None:
    stage = project.workflow.stages[0]
    row = project.list_label_rows_v2()[0]
    assert [t.data_title for t in stage.get_tasks(data_hash=row.data_hash)] == [row.data_title]
    assert len(list(stage.get_tasks(data_title="0003"))) == 1
    assert len(list(stage.get_tasks(assignee="annotator@example.com"))) == 2


def test_one_stale_task_refuses_the_whole_array(start: Start) -> None:
    sandbox = start("demo-agent", frames=3)
    project = sandbox.project()
    stage = project.workflow.stages[0]
    stale, *fresh = list(stage.get_tasks())
    stale.proceed(pathway_name="annotate")
    bundle = project.create_bundle()
    for task in [*fresh, stale]:
        task.proceed(pathway_name="annotate", bundle=bundle)
    with pytest.raises(InvalidArgumentsError):
        bundle.execute()
    assert len(list(stage.get_tasks())) == 2
    assert sandbox.writes() == ["task_moved"]


def test_a_task_goes_through_review_and_back(project: Project) -> None:
    annotate, review, complete = project.workflow.stages
    task = next(iter(annotate.get_tasks(data_title="0000")))
    task.assign("annotator@example.com")
    task.submit()
    next(iter(review.get_tasks(data_title="0000"))).reject()
    returned = next(iter(annotate.get_tasks(data_title="0000")))
    assert returned.status == "REOPENED"
    returned.submit()
    next(iter(review.get_tasks(data_title="0000"))).approve()
    done = next(iter(complete.get_tasks(data_title="0000")))
    done.move(destination_stage_uuid=annotate.uuid)
    assert len(list(annotate.get_tasks(data_title="0000"))) == 1


def test_priorities_are_set_and_listed(project: Project) -> None:
    row = project.list_label_rows_v2()[0]
    row.set_priority(0.95)
    assert project.list_label_rows_v2()[0].priority == 0.95
    with pytest.raises(InvalidArgumentsError):
        row.set_priority(7.0)


# ------------------------------------------------------------------------------ persistence


def test_state_survives_kill_9_and_a_torn_last_line(start: Start, sandbox_dir: Path) -> None:
    before = start("demo", frames=12)
    saved_box(before.project(), "auto")
    rows = before.rows()
    os.kill(before.pid, signal.SIGKILL)
    with (sandbox_dir / "log.jsonl").open("a") as log:
        log.write('{"kind":"event","put":[["LabelRow",{"label_')
    after = start("demo", frames=12)
    assert after.rows() == rows
    assert after.projects == before.projects
    saved_box(after.project(), "auto", 0)
    assert [entry["n"] for entry in after.log()] == list(range(len(after.log())))


def test_the_truth_matches_what_is_drawn(start: Start, sandbox_dir: Path) -> None:
    from pycocotools.coco import COCO

    project = start("demo", frames=12).project()
    truth = COCO(sandbox_dir / "truth.json")
    names = {f"{row.data_hash}/0" for row in project.list_label_rows_v2()}
    assert {image["file_name"] for image in truth.imgs.values()} == names
    for annotation in truth.anns.values():
        mask = truth.annToMask(annotation)
        assert mask.sum() == annotation["area"]
        x, y, w, h = annotation["bbox"]
        assert mask[y : y + h, x : x + w].sum() == annotation["area"]


def test_a_second_scenario_run_changes_nothing(start: Start, sandbox_dir: Path) -> None:
    os.kill(start("demo", frames=3).pid, signal.SIGTERM)
    truth = (sandbox_dir / "truth.json").read_bytes()
    again = start("demo", frames=5)
    assert len(again.project().list_label_rows_v2()) == 3
    assert (sandbox_dir / "truth.json").read_bytes() == truth
    assert json.loads((sandbox_dir / "sandbox.json").read_text())["domain"] == again.domain

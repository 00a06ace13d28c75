"""The stand-in's trouble: planned faults, simulated people, own uploads, signed URLs."""

import time
from pathlib import Path

import pytest
import requests
from encord import Dataset, Project
from encord.exceptions import (
    AuthenticationError,
    AuthorisationError,
    EncordException,
    InvalidArgumentsError,
    RateLimitExceededError,
    RequestException,
    ResourceNotFoundError,
)
from encord.objects import Object, OntologyStructure, Shape
from encord.objects.ontology_labels_impl import LabelRowV2
from encord.orm.dataset import StorageLocation
from PIL import Image

from sandbox.conftest import RunningSandbox, Start

SAVE = {"query_type": "labelrow", "query_method": "POST"}
CREATE = {"query_type": "labelrow", "query_method": "PUT"}
READ = {"query_type": "labelrow", "query_method": "GET"}
LISTING = {"query_type": "labelrowmetadata"}


def initialised(project: Project, *numbers: int) -> list[LabelRowV2]:
    listed = project.list_label_rows_v2(branch_name="auto")
    rows = [listed[number] for number in numbers]
    with project.create_bundle() as bundle:
        for row in rows:
            row.initialise_labels(bundle=bundle)
    return rows


def image_url(project: Project) -> str:
    row = project.list_label_rows_v2(branch_name="auto")[0]
    row.initialise_labels(include_signed_url=True)
    assert row.data_link is not None
    return row.data_link


# ------------------------------------------------------------------------------------ faults


def test_a_429_carries_its_retry_after(demo_sandbox: RunningSandbox) -> None:
    demo_sandbox.fault("status", status=429, retry_after_s=7, match={"path_contains": "/projects/"})
    with pytest.raises(RateLimitExceededError) as caught:
        demo_sandbox.project()
    assert caught.value.retry_after == 7
    assert demo_sandbox.faults_met() == [1]


def test_a_fault_lets_pass_what_it_is_told_to(demo_sandbox: RunningSandbox, project: Project) -> None:
    demo_sandbox.fault("status", times=2, after=1, match=LISTING)
    project.list_label_rows_v2()
    for _ in range(2):
        with pytest.raises(EncordException):
            project.list_label_rows_v2()
    assert len(project.list_label_rows_v2()) == 12
    assert demo_sandbox.faults_met() == [2]
    demo_sandbox.admin("DELETE", "faults")
    assert demo_sandbox.faults_met() == []


def test_a_reset_before_applies_nothing(demo_sandbox: RunningSandbox, project: Project) -> None:
    demo_sandbox.fault("reset_before", match=CREATE)
    with pytest.raises(RequestException):
        initialised(project, 0)
    assert demo_sandbox.writes() == []
    assert demo_sandbox.faults_met() == [1]


def test_a_reset_after_applies_all_and_the_sdk_sends_again(demo_sandbox: RunningSandbox) -> None:
    (row,) = initialised(demo_sandbox.project(max_retries=1), 0)
    demo_sandbox.fault("reset_after", match=SAVE)
    row.save()
    assert demo_sandbox.writes() == ["label_row_created", "label_row_saved", "label_row_saved"]


def test_a_truncated_answer_is_an_error_to_the_client(demo_sandbox: RunningSandbox, project: Project) -> None:
    demo_sandbox.fault("truncate", match=LISTING)
    with pytest.raises(RequestException):
        project.list_label_rows_v2()


def test_a_truncated_download_is_noticed(demo_sandbox: RunningSandbox, project: Project) -> None:
    url = image_url(project)
    demo_sandbox.fault("truncate", match={"path_contains": "/blobs/"})
    with pytest.raises(requests.RequestException):
        requests.get(url, timeout=60)


def test_a_slow_answer_takes_its_time(demo_sandbox: RunningSandbox, project: Project) -> None:
    demo_sandbox.fault("slow", delay_s=0.3, match=LISTING)
    began = time.monotonic()
    project.list_label_rows_v2()
    assert time.monotonic() - began >= 0.3


def test_an_answer_can_drip(demo_sandbox: RunningSandbox) -> None:
    demo_sandbox.fault("drip", delay_s=0.002, match={"path_contains": "/v2/"})
    began = time.monotonic()
    answer = requests.get(f"{demo_sandbox.domain}/v2/nothing", timeout=60)
    assert "message" in answer.json()
    assert time.monotonic() - began >= 0.002 * len(answer.content)


def test_an_answer_can_be_a_page_for_people(demo_sandbox: RunningSandbox, project: Project) -> None:
    demo_sandbox.fault("not_json", match=CREATE)
    with pytest.raises(RequestException, match="JSON"):
        initialised(project, 0)
    assert demo_sandbox.writes() == ["label_row_created"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidArgumentsError),
        (401, AuthenticationError),
        (403, AuthorisationError),
        (404, ResourceNotFoundError),
    ],
)
def test_the_legacy_dialect_refuses_within_its_envelope(
    demo_sandbox: RunningSandbox, project: Project, status: int, error: type[EncordException]
) -> None:
    demo_sandbox.fault("status", status=status, match=CREATE)
    with pytest.raises(error):
        initialised(project, 0)


def test_dropped_items_are_neither_answered_nor_created(demo_sandbox: RunningSandbox, project: Project) -> None:
    demo_sandbox.fault("drop_items", items=[1], match=CREATE)
    rows = initialised(project, 0, 2, 5)
    assert [row.is_labelling_initialised for row in rows] == [True, False, True]
    assert len(demo_sandbox.rows()["auto"]) == 2


def test_failed_items_leave_the_others_saved(demo_sandbox: RunningSandbox, project: Project) -> None:
    rows = initialised(project, 0, 2)
    demo_sandbox.fault("fail_items", items=[1], match=SAVE)
    bundle = project.create_bundle()
    for row in rows:
        row.save(bundle=bundle)
    with pytest.raises(EncordException):
        bundle.execute()
    stored = demo_sandbox.rows()["auto"]
    assert [stored[row.data_hash]["revision"] for row in rows] == [1, 0]


def test_rows_can_be_missing_from_a_listing(demo_sandbox: RunningSandbox, project: Project) -> None:
    demo_sandbox.fault("drop_items", items=[0, 1], match=LISTING)
    assert len(project.list_label_rows_v2()) == 10


def test_a_fault_of_no_known_kind_is_refused(demo_sandbox: RunningSandbox) -> None:
    with pytest.raises(requests.HTTPError):
        demo_sandbox.fault("earthquake")


# -------------------------------------------------------------------------------- signed URLs


def test_a_signed_url_serves_the_file_and_ranges_of_it(project: Project) -> None:
    url = image_url(project)
    whole = requests.get(url, timeout=60)
    assert whole.headers["Content-Type"] == "image/png"
    assert int(whole.headers["Content-Length"]) == len(whole.content)
    part = requests.get(url, headers={"Range": "bytes=10-19"}, timeout=60)
    assert (part.status_code, part.content) == (206, whole.content[10:20])


def test_a_signed_url_expires(demo_sandbox: RunningSandbox, project: Project) -> None:
    demo_sandbox.admin("POST", "settings", {"url_lifetime_s": 1.0})
    url = image_url(project)
    answers = [requests.get(url, timeout=60)]
    while answers[-1].status_code == 200:
        time.sleep(0.1)
        answers.append(requests.get(url, timeout=60))
    assert answers[0].status_code == 200
    assert (answers[-1].status_code, "Expired" in answers[-1].text) == (403, True)


def test_a_tampered_url_is_refused_and_no_token_is_logged(demo_sandbox: RunningSandbox, project: Project) -> None:
    url = image_url(project)
    assert requests.get(url[:-4] + "0000", timeout=60).status_code == 403
    assert "token=" not in (demo_sandbox.dir / "log.jsonl").read_text()


def test_a_planned_expiry_is_met_once(demo_sandbox: RunningSandbox, project: Project) -> None:
    url = image_url(project)
    demo_sandbox.fault("expire_url", match={"path_contains": "/blobs/"})
    assert [requests.get(url, timeout=60).status_code for _ in range(2)] == [403, 200]


def test_storage_items_are_signed_in_bulk(demo_sandbox: RunningSandbox, project: Project) -> None:
    rows = project.list_label_rows_v2()[:2]
    items = [row.backing_item_uuid for row in rows if row.backing_item_uuid]
    for item in demo_sandbox.client().get_storage_items(items, sign_url=True):
        assert requests.get(str(item.get_signed_url()), timeout=60).status_code == 200


# ------------------------------------------------------------------------------------- people


def test_a_person_draws_edits_and_deletes(demo_sandbox: RunningSandbox, project: Project) -> None:
    row = project.list_label_rows_v2()[0]
    demo_sandbox.human("draw", row, **{"class": "white gauze", "box_norm": [0.1, 0.1, 0.2, 0.2]})
    row = project.list_label_rows_v2()[0]
    row.initialise_labels()
    (drawn,) = row.get_object_instances()
    assert drawn.get_annotation(0).created_by == "annotator@example.com"
    assert drawn.get_annotation(0).manual_annotation
    where = {"object_hash": drawn.object_hash, "box_norm": [0.5, 0.5, 0.2, 0.2]}
    demo_sandbox.human("edit", row, email="second@example.com", **where)
    row.initialise_labels(overwrite=True)
    assert row.get_object_instances()[0].get_annotation(0).last_edited_by == "second@example.com"
    demo_sandbox.human("delete", row, object_hash=drawn.object_hash)
    row.initialise_labels(overwrite=True)
    assert row.get_object_instances() == []


def test_a_person_opens_a_row_and_it_exists(demo_sandbox: RunningSandbox, project: Project) -> None:
    demo_sandbox.human("open", project.list_label_rows_v2()[0])
    row = project.list_label_rows_v2()[0]
    assert row.label_hash is not None
    assert row.assigned_user_email == "annotator@example.com"
    assert demo_sandbox.writes() == []


def test_a_person_takes_a_row_through_the_workflow(demo_sandbox: RunningSandbox, project: Project) -> None:
    row = project.list_label_rows_v2()[0]
    stages = []
    for action in ("assign", "submit", "reject", "submit", "approve"):
        demo_sandbox.human(action, row)
        node = project.list_label_rows_v2()[0].workflow_graph_node
        assert node is not None
        stages.append(node.title)
    assert stages == ["Annotate", "Review", "Annotate", "Review", "Complete"]


def test_a_person_cannot_do_the_impossible(demo_sandbox: RunningSandbox, project: Project) -> None:
    with pytest.raises(requests.HTTPError):
        demo_sandbox.human("approve", project.list_label_rows_v2()[0])


# ------------------------------------------------------------------------------------ uploads


def own_project(sandbox: RunningSandbox, *pictures: Path) -> Project:
    client = sandbox.client()
    structure = OntologyStructure()
    structure.add_object("Car", Shape.BOUNDING_BOX)
    ontology = client.create_ontology("Own ontology", structure=structure)
    created = client.create_dataset("Own data", StorageLocation.CORD_STORAGE)
    dataset = client.get_dataset(created.dataset_hash)
    for picture in pictures:
        dataset.upload_image(picture)
    project_hash = client.create_project("Own project", [created.dataset_hash], ontology_hash=ontology.ontology_hash)
    return client.get_project(project_hash)


def picture(folder: Path, name: str, orientation: int | None = None) -> Path:
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", (64, 48), "red").save(folder / name, exif=exif)
    return folder / name


def test_own_images_become_a_project(start: Start, tmp_path: Path) -> None:
    sandbox = start("empty")
    upright, sideways = picture(tmp_path, "a.png"), picture(tmp_path, "b.jpg", orientation=6)
    project = own_project(sandbox, upright, sideways)
    rows = project.list_label_rows_v2()
    assert [(row.data_title, row.width, row.height) for row in rows] == [("a.png", 64, 48), ("b.jpg", 48, 64)]
    assert [stage.title for stage in project.workflow.stages] == ["Annotate", "Review", "Complete"]
    assert project.ontology_structure.get_child_by_title("Car", type_=Object)
    rows[0].initialise_labels(include_signed_url=True)
    assert requests.get(str(rows[0].data_link), timeout=60).content == upright.read_bytes()


def test_data_added_later_becomes_a_task(start: Start, tmp_path: Path) -> None:
    sandbox = start("empty")
    project = own_project(sandbox, picture(tmp_path, "a.png"))
    (described,) = project.list_datasets()
    dataset: Dataset = sandbox.client().get_dataset(described.dataset_hash)
    dataset.upload_image(picture(tmp_path, "b.png"))
    assert len(project.list_label_rows_v2()) == 2
    assert len(list(project.workflow.stages[0].get_tasks())) == 2
    assert [row.title for row in sandbox.client().get_dataset(described.dataset_hash).data_rows] == ["a.png", "b.png"]


def test_a_file_that_is_no_image_fails_its_upload(start: Start, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    with pytest.raises(EncordException, match="cannot identify image file"):
        own_project(start("empty"), broken)


def test_an_ontology_is_saved(start: Start) -> None:
    client = start("empty").client()
    ontology = client.create_ontology("First")
    ontology.structure.add_object("Car", Shape.BITMASK)
    ontology.save()
    again = client.get_ontology(ontology.ontology_hash)
    assert [o.name for o in again.structure.objects] == ["Car"]

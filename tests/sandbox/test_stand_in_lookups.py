"""Where data lies and who gets it: from a dataset or a folder to the projects that hold it, through the real SDK."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from encord import EncordUserClient, Project
from encord.exceptions import EncordException

from sandbox.conftest import RunningSandbox, Start
from sandbox.own_project import picture

pytestmark = pytest.mark.sdk
NOWHERE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def sandbox(start: Start) -> RunningSandbox:
    return start("demo-agent", 2)


def dataset_of(project: Project) -> str:
    (dataset,) = project.list_datasets()
    return str(dataset.dataset_hash)


def at_first_stage(project: Project) -> list[str]:
    return [task.data_title for task in project.workflow.stages[0].get_tasks()]


def test_a_folder_leads_to_its_dataset_and_the_dataset_to_the_projects_that_hold_it(sandbox: RunningSandbox) -> None:
    client, project = sandbox.client(), sandbox.project()
    folder = client.get_dataset(dataset_of(project)).backing_folder_uuid
    assert client.get_storage_folder(folder).uuid == folder
    listed = [item["dataset"] for item in client.get_datasets()]
    assert [(d.dataset_hash, d.backing_folder_uuid) for d in listed] == [(dataset_of(project), folder)]


def test_an_unknown_dataset_or_folder_is_an_error_of_the_sdk(sandbox: RunningSandbox) -> None:
    client = sandbox.client()
    for ask in (client.get_dataset, client.get_storage_folder):
        with pytest.raises(EncordException):
            ask(NOWHERE)


@pytest.mark.parametrize("into", ["dataset", "folder"])
def test_a_picture_that_is_uploaded_waits_at_the_first_stage_of_each_project_that_has_the_dataset(
    sandbox: RunningSandbox, tmp_path: Path, into: str
) -> None:
    client, first = sandbox.client(), sandbox.project()
    second = other_project(client, dataset_of(first))
    before = [at_first_stage(project) for project in (first, second)]
    dataset = client.get_dataset(dataset_of(first))
    folder: UUID | None = dataset.backing_folder_uuid
    assert folder
    place = dataset if into == "dataset" else client.get_storage_folder(folder)
    place.upload_image(picture(tmp_path / "fresh.png"), title="fresh")
    assert [at_first_stage(project) for project in (first, second)] == [[*titles, "fresh"] for titles in before]


def other_project(client: EncordUserClient, dataset_hash: str) -> Project:
    ontology = next(iter(client.list_projects())).ontology_hash
    return client.get_project(client.create_project("second", [dataset_hash], ontology_hash=ontology))

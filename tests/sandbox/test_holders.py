"""Which projects hold a dataset or the dataset of a folder, asked of the platform as the product asks."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from encord import EncordUserClient
from encord.objects import OntologyStructure
from encord.orm.dataset import StorageLocation

from autolabel.errors import PermanentNotFoundError
from autolabel.remote.holders import find_holders
from sandbox.conftest import RunningSandbox, Start


class Library:
    """Two projects: the first holds both datasets, the second only one."""

    def __init__(self, sandbox: RunningSandbox) -> None:
        self.sandbox = sandbox
        client: EncordUserClient = sandbox.client()
        self.datasets = [client.create_dataset(title, StorageLocation.CORD_STORAGE) for title in ("one", "two")]
        hashes = [dataset.dataset_hash for dataset in self.datasets]
        ontology = client.create_ontology("classes", structure=OntologyStructure()).ontology_hash
        self.first = client.create_project("first", hashes, ontology_hash=ontology)
        self.second = client.create_project("second", hashes[1:], ontology_hash=ontology)

    def holders(self, place: str, *others: str) -> tuple[str, ...]:
        key = Path(self.sandbox.ssh_key_file).read_text()
        return find_holders(self.sandbox.domain, key, [*others, self.first, self.second], place)


@pytest.fixture
def library(start: Start) -> Library:
    return Library(start("empty"))


@pytest.mark.sdk
def test_a_dataset_or_its_folder_names_the_projects_that_hold_it(library: Library) -> None:
    one, two = library.datasets
    assert library.holders(f"dataset/{one.dataset_hash}") == (library.first,)
    assert library.holders(f"dataset/{two.dataset_hash}") == (library.first, library.second)
    assert library.holders(f"folder/{one.backing_folder_uuid}") == (library.first,)
    assert library.holders(f"folder/{two.backing_folder_uuid}") == (library.first, library.second)


def test_nobody_holds_what_the_platform_does_not_know(library: Library) -> None:
    assert library.holders(f"dataset/{uuid4()}") == ()
    assert library.holders(f"folder/{uuid4()}") == ()


def test_a_project_that_is_gone_hides_no_other(library: Library) -> None:
    assert library.holders(f"dataset/{library.datasets[0].dataset_hash}", str(uuid4())) == (library.first,)


def test_that_no_project_can_be_looked_at_is_an_error_and_not_that_nobody_holds_the_place(library: Library) -> None:
    key, place = Path(library.sandbox.ssh_key_file).read_text(), f"dataset/{library.datasets[0].dataset_hash}"
    with pytest.raises(PermanentNotFoundError):
        find_holders(library.sandbox.domain, key, [str(uuid4()), str(uuid4())], place)

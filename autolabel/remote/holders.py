"""Which projects hold a dataset, or the dataset that a folder fills. Creates and changes nothing on the platform."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from encord.user_client import EncordUserClient

from autolabel.errors import PermanentAccessError, PermanentNotFoundError
from autolabel.remote import wire
from autolabel.remote.client import make_client, remote_call, retrying

logger = logging.getLogger(__name__)


def find_holders(domain: str, ssh_key: str, projects: Sequence[str], place: str) -> tuple[str, ...]:
    """Those of `projects` that hold a place: `dataset/HASH`, or `folder/UUID` for the dataset behind which it stands.

    A project that this key may not see is passed over. Raises PermanentAccessError or PermanentNotFoundError where it
    may see none of them, TransientError where the platform is out of reach.
    """
    wire.install(wire.Line())
    client = make_client(domain, ssh_key)
    kind, _, name = place.partition("/")
    wanted = {name} if kind == "dataset" else _filled_by(client, name)
    return tuple(project for project, held in _datasets(client, projects if wanted else ()) if wanted & held)


@retrying
def _filled_by(client: EncordUserClient, folder_uuid: str) -> frozenset[str]:
    """In one request, since each dataset that is opened comes with all its rows."""
    with remote_call("listing datasets"):
        listed = [entry["dataset"] for entry in client.get_datasets()]
    return frozenset(one.dataset_hash for one in listed if str(one.backing_folder_uuid) == folder_uuid)


def _datasets(client: EncordUserClient, projects: Sequence[str]) -> list[tuple[str, frozenset[str]]]:
    """Of each project that can be looked at."""
    found, refused = [], None
    for project_hash in projects:
        try:
            found.append((project_hash, _listed(client, project_hash)))
        except (PermanentAccessError, PermanentNotFoundError) as error:
            logger.warning("project %s is passed over: %s", project_hash, error)
            refused = error
    if refused is not None and not found:
        raise refused
    return found


@retrying
def _listed(client: EncordUserClient, project_hash: str) -> frozenset[str]:
    with remote_call(f"listing the datasets of project {project_hash}"):
        return frozenset(str(one.dataset_hash) for one in client.get_project(project_hash).list_datasets())

"""A project of one's own on the sandbox, made with the SDK alone, as a user would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from encord import Project
from encord.objects import OntologyStructure
from encord.orm.dataset import StorageLocation
from PIL import Image

from sandbox.conftest import RunningSandbox


def make_project(sandbox: RunningSandbox, structure: OntologyStructure, files: Sequence[Path]) -> Project:
    client = sandbox.client()
    ontology = client.create_ontology("own classes", structure=structure)
    dataset = client.get_dataset(client.create_dataset("own pictures", StorageLocation.CORD_STORAGE).dataset_hash)
    for path in files:
        dataset.upload_image(path, title=path.name)
    project_hash = client.create_project("own", [dataset.dataset_hash], ontology_hash=ontology.ontology_hash)
    return client.get_project(project_hash)


def picture(path: Path, width: int = 200, height: int = 120) -> Path:
    """Noise, so that no two are alike."""
    noise = np.random.default_rng(len(path.name)).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path

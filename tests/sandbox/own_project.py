"""A project of one's own on the sandbox, made with the SDK alone, as a user would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from encord import Project
from encord.objects import OntologyStructure
from encord.orm.dataset import StorageLocation
from PIL import Image

from autolabel.sandbox.media import encode_video
from sandbox.conftest import RunningSandbox


def make_project(
    sandbox: RunningSandbox,
    structure: OntologyStructure,
    files: Sequence[Path | Sequence[Path]],
    *,
    as_sequences: bool = False,
) -> Project:
    """A row a file, in this order: an MP4 is a video, another file an image, several files an image group
    (or, as sequences, an image sequence)."""
    client = sandbox.client()
    ontology = client.create_ontology("own classes", structure=structure)
    dataset = client.get_dataset(client.create_dataset("own pictures", StorageLocation.CORD_STORAGE).dataset_hash)
    for path in files:
        if not isinstance(path, Path):
            dataset.create_image_group(path, title=f"group of {path[0].name}", create_video=as_sequences)
        elif path.suffix == ".mp4":
            dataset.upload_video(path, title=path.name)
        else:
            dataset.upload_image(path, title=path.name)
    project_hash = client.create_project("own", [dataset.dataset_hash], ontology_hash=ontology.ontology_hash)
    return client.get_project(project_hash)


def clip(path: Path, times_s: Sequence[float], size_px: tuple[int, int] = (160, 96)) -> Path:
    """An MP4 with B-frames; frame i is grey of brightness 40 + (8 i mod 200): neighbours can be told apart."""
    width, height = size_px
    frames = (np.full((height, width, 3), 40 + (8 * i) % 200, np.uint8) for i in range(len(times_s)))
    encode_video(path, size_px, zip(times_s, frames, strict=True))
    return path


def picture(path: Path, width: int = 200, height: int = 120) -> Path:
    """Noise, so that no two are alike."""
    noise = np.random.default_rng(len(path.name)).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path

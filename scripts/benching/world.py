"""A project on the sandbox: pictures of noise, one class, an Agent stage before the annotators."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import requests
from encord.objects import OntologyStructure, Shape
from PIL import Image

from autolabel.sandbox import running
from autolabel.sandbox.store import Dataset, DataUnit, Folder, Item, Log, Ontology, Project, Store, derived_uuid
from autolabel.sandbox.workflow import new_stages, new_tasks

STAGE = "Pre-label"
PATHWAY = "annotate"
CLASS = "thing"
SIZE_PX = (640, 480)
OWNER = "bench@example.com"


@dataclass(frozen=True)
class World:
    """A running sandbox with one project. `keys`: data hash -> what the fake model answers to."""

    domain: str
    ssh_key_file: str
    project: str
    keys: dict[str, bytes]

    def environment(self) -> dict[str, str]:
        return {"ENCORD_DOMAIN": self.domain, "ENCORD_SSH_KEY_FILE": self.ssh_key_file}

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(method, f"{self.domain}/admin/{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def main(self) -> dict[str, dict[str, Any]]:
        """What is stored on main, by data hash."""
        stored: dict[str, dict[str, Any]] = self.admin("GET", f"rows?project={self.project}").get("main", {})
        return stored

    def waiting(self) -> set[str]:
        """Data hashes of tasks that are still at the Agent stage; read from the log, so that no fault is met."""
        stages: dict[str, str] = {}
        for entry in self.admin("GET", "log"):
            put = entry["put"] if entry["kind"] == "event" else []
            stages |= {task["data_hash"]: task["stage_uuid"] for name, task in put if name == "Task"}
        return {data_hash for data_hash, stage in stages.items() if stage == derived_uuid(self.project, STAGE)}


def objects_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """What stands in a stored row of one picture."""
    (labels,) = row["labels"].values()
    objects: list[dict[str, Any]] = labels["objects"]
    return objects


@contextmanager
def open_world(
    directory: Path, rows: int, shape: Shape, *, pictures: bool, size_px: tuple[int, int] = SIZE_PX
) -> Iterator[World]:
    """A fresh project of so many rows, served as long as the block runs; without `pictures` it has no files."""
    (directory / "blobs").mkdir(parents=True)
    project, keys = _lay_out(directory, rows, shape, size_px if pictures else None)
    with running(directory) as served:
        yield World(served["domain"], served["ssh_key_file"], project, keys)


def _lay_out(
    directory: Path, rows: int, shape: Shape, size_px: tuple[int, int] | None
) -> tuple[str, dict[str, bytes]]:
    """Written to the sandbox's log before it starts: thousands of uploads would only take time."""
    store = Store(Log(directory / "log.jsonl"), now=lambda: datetime.now(UTC))
    now, scope = store.now(), f"bench {shape}"
    structure = OntologyStructure()
    structure.add_object(CLASS, shape)
    ontology = Ontology(derived_uuid(scope, "ontology"), scope, "", structure.to_dict(), now, now)
    dataset = Dataset(derived_uuid(scope, "dataset"), scope, "", derived_uuid(scope, "folder"), now)
    folder = Folder(dataset.folder_uuid, scope, OWNER, now, dataset.key)
    items, units, keys = [], [], {}
    for number in range(rows):
        name = f"{number:05}.png"
        item = Item(derived_uuid(scope, name), folder.key, name, "image/png", *(size_px or SIZE_PX), OWNER, now)
        unit = DataUnit(derived_uuid(scope, "unit", name), dataset.key, item.key, name, now)
        keys[unit.key] = _draw(directory / "blobs" / item.key, number, size_px) if size_px else unit.key.encode()
        items.append(item)
        units.append(unit)
    project_hash = derived_uuid(scope, "project")
    project = Project(
        project_hash, scope, "", ontology.key, [dataset.key], new_stages(project_hash, STAGE), OWNER, now
    )
    tasks = new_tasks(store, project, units)
    store.commit("project_laid_out", OWNER, ontology, dataset, folder, *items, *units, project, *tasks)
    return project_hash, keys


def _draw(path: Path, number: int, size_px: tuple[int, int]) -> bytes:
    """A picture like no other; answers its pixels."""
    width, height = size_px
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:8] = np.random.default_rng(number).integers(0, 255, (8, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    path.write_bytes(buffer.getvalue())
    return pixels.tobytes()

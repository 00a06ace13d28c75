"""The demo projects: scenes as their data, what people did there before, and what is truly to be seen.

A scene is drawn from its seed alone, whenever it is needed: nothing is stored but the seed.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from autolabel.sandbox.admin import act_as_person
from autolabel.sandbox.scenes import MATERIALS, Mask, Scene, draw
from autolabel.sandbox.store import (
    Dataset,
    DataUnit,
    Item,
    Json,
    Ontology,
    Project,
    Store,
    derived_uuid,
)
from autolabel.sandbox.tools import TOOLS
from autolabel.sandbox.workflow import new_stages, new_tasks

SIZES = ((640, 480), (640, 360), (480, 480), (360, 640))
TITLES = {
    "demo": "Demo: surgical tools",
    "demo-agent": "Demo: surgical tools, Agent stage first",
}
EDITOR: Json = json.loads(Path(__file__).with_name("demo_ontology.json").read_text())
CLASSES = {o["name"]: o["shape"] for o in EDITOR["objects"] if o["shape"] != "polyline"}
OTHERS = [f"{m} {t}" for m in MATERIALS for t in TOOLS if f"{m} {t}" not in CLASSES]
NAMES = {"mixed": [*CLASSES] * 22 + OTHERS, "others": OTHERS}  # mixed: 7 in 10 are of the ontology
NOTHING_OF_OURS = {5, 11}
PRIORITIES = {2: 0.7, 7: 0.8, 10: 0.9}


def create_scenario(store: Store, directory: Path, scenario: str, frames: int | None, user: str) -> None:
    """Make a demo project, unless DIR has it already, and DIR/truth.json beside it."""
    if scenario == "empty":
        return
    project_hash = derived_uuid(scenario, "project")
    if project_hash in store.table(Project):
        return
    if scenario not in TITLES:
        raise ValueError(f"no scenario {scenario}; there are empty, {', '.join(TITLES)}")
    items = _items(store, scenario, frames or 40, user)
    project, units = _add_project(store, scenario, items, user)
    for i, action in _human_work(scenario):
        if i < len(units):
            where: Json = {"project": project.key, "data_hash": units[i].data_hash}
            drawn = _box_to_draw(_scene(items[i])) if action == "draw" else {}
            act_as_person(store, where | drawn | {"action": action})
    frames_drawn = ((unit.data_hash, _scene(item)) for unit, item in zip(units, items, strict=True))
    (directory / "truth.json").write_text(json.dumps(_coco(frames_drawn)))


def _scene(item: Item) -> Scene:
    scene = item.scene
    assert scene is not None
    return draw(scene["seed"], scene["width_px"], scene["height_px"], NAMES[scene["names"]])


def encoded(item: Item) -> bytes:
    """The file of a scene, as it is downloaded."""
    import cv2

    suffix = ".png" if item.mime_type == "image/png" else ".jpg"
    _, buffer = cv2.imencode(suffix, cv2.cvtColor(_scene(item).rgb, cv2.COLOR_RGB2BGR))
    return buffer.tobytes()


def _items(store: Store, scenario: str, count: int, user: str) -> list[Item]:
    now, folder = store.now(), derived_uuid(scenario, "folder")
    items = []
    for i in range(count):
        width_px, height_px = SIZES[i % len(SIZES)]
        suffix, mime_type = ("jpg", "image/jpeg") if i % 4 == 3 else ("png", "image/png")
        scene = {
            "seed": 7200 + i,
            "width_px": width_px,
            "height_px": height_px,
            "names": "others" if i in NOTHING_OF_OURS else "mixed",
        }
        item_uuid = derived_uuid(scenario, "item", str(i))
        name = f"tray-{i:04}.{suffix}"
        items.append(Item(item_uuid, folder, name, mime_type, width_px, height_px, user, now, scene))
    return items


def _add_project(store: Store, scenario: str, items: list[Item], user: str) -> tuple[Project, list[DataUnit]]:
    now, title = store.now(), TITLES[scenario]
    ontology = Ontology(derived_uuid(scenario, "ontology"), title, "", EDITOR, now, now)
    folder = derived_uuid(scenario, "folder")
    dataset = Dataset(derived_uuid(scenario, "dataset"), "Surgical tools", "", folder, now)
    units = [
        DataUnit(derived_uuid(scenario, "unit", item.uuid), dataset.key, item.uuid, item.name, now) for item in items
    ]
    project_hash = derived_uuid(scenario, "project")
    project = Project(
        project_hash,
        title,
        description="Synthetic frames, made by the stand-in",
        ontology_hash=ontology.key,
        dataset_hashes=[dataset.key],
        stages=new_stages(project_hash, "Pre-label" if scenario == "demo-agent" else None),
        creator=user,
        created_at=now,
    )
    tasks = [
        replace(task, priority=PRIORITIES.get(task.ordinal, task.priority))
        for task in new_tasks(store, project, units)
    ]
    store.commit("scenario_created", user, ontology, dataset, *items, *units, project, *tasks)
    return project, units


def _human_work(scenario: str) -> list[tuple[int, str]]:
    """What people did before the product came. At an Agent stage, only what was imported."""
    imported = [(1, "draw"), (3, "classify")]
    if scenario == "demo-agent":
        return imported
    return [*imported, (4, "open"), (6, "draw"), (6, "submit"), (8, "assign")]


def _box_to_draw(scene: Scene) -> Json:
    """A box around the first thing of a box class that can be seen there."""
    name, mask, _ = next(seen for seen in scene.objects if CLASSES.get(seen.name) == "bounding_box")
    height, width = mask.shape
    x, y, w, h = _box_px(mask)
    return {"class": name, "box_norm": [x / width, y / height, w / width, h / height]}


def _coco(frames: Iterable[tuple[str, Scene]]) -> Json:
    """COCO instances of the ontology's classes; tools of other classes are just scenery."""
    ids = {name: i for i, name in enumerate(CLASSES, 1)}
    images: list[Json] = []
    annotations: list[Json] = []
    for image_id, (data_hash, scene) in enumerate(frames, 1):
        height, width = scene.rgb.shape[:2]
        file_name = f"{data_hash}/0"
        images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        annotations += [
            {
                "image_id": image_id,
                "category_id": ids[name],
                "iscrowd": 0,
                "area": int(mask.sum()),
                "bbox": list(_box_px(mask)),
                "segmentation": {"size": [height, width], "counts": _column_runs(mask)},
            }
            for name, mask, _ in scene.objects
            if name in ids
        ]
    numbered = [{"id": i, **annotation} for i, annotation in enumerate(annotations, 1)]
    categories = [{"id": i, "name": name} for name, i in ids.items()]
    return {"images": images, "annotations": numbered, "categories": categories}


def _box_px(mask: Mask) -> tuple[int, int, int, int]:
    """x, y, width, height of the smallest box around a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def _column_runs(mask: Mask) -> list[int]:
    """COCO's uncompressed RLE: run lengths down the columns, the first one of zeros."""
    flat = np.concatenate(([False], mask.ravel(order="F")))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    runs: list[int] = np.diff(np.concatenate(([0], changes, [mask.size]))).tolist()
    return runs

"""The demo projects: scenes as their data, what people did there before, and what is truly to be seen.

A scene is drawn from its seed alone, whenever it is needed: nothing is stored but the seed. Only videos,
which take seconds to draw, are kept in blobs/ once somebody has asked for them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, cycle, islice
from pathlib import Path
from threading import Lock

from autolabel.sandbox import finished
from autolabel.sandbox.media import VIDEO_TYPE, encode_video, rate_and_duration
from autolabel.sandbox.people import act_as_person
from autolabel.sandbox.scenes import MATERIALS, Scene, draw
from autolabel.sandbox.store import (
    Dataset,
    DataUnit,
    Folder,
    Item,
    Json,
    Ontology,
    Project,
    Store,
    derived_uuid,
)
from autolabel.sandbox.tools import TOOLS
from autolabel.sandbox.truth import box_px, coco, on_show_each_second
from autolabel.sandbox.workflow import new_stages, new_tasks

SIZES = ((640, 480), (640, 360), (480, 480), (360, 640))
FINISHED = "demo-finished"
TITLES = {
    "demo": "Demo: surgical tools",
    "demo-agent": "Demo: surgical tools, Agent stage first",
    FINISHED: "Demo: surgical tools, labelled by people",
}
PICTURES = {"demo": 40, "demo-agent": 40, FINISHED: 120}
FIRST_SEED = {"demo": 7200, "demo-agent": 7200, FINISHED: 9200}
EDITOR: Json = json.loads(Path(__file__).with_name("demo_ontology.json").read_text())
CLASSES = {o["name"]: o["shape"] for o in EDITOR["objects"] if o["shape"] != "polyline"}
OTHERS = [f"{m} {t}" for m in MATERIALS for t in TOOLS if f"{m} {t}" not in CLASSES]
NAMES = {  # mixed and finished: 7 in 10 are of the ontology
    "mixed": [*CLASSES] * 22 + OTHERS,
    "others": OTHERS,
    "finished": [*CLASSES, *finished.JARGON] * 16 + OTHERS,
}
NOTHING_OF_OURS = {5, 11}
GROUPS = (3, 5, 4, 3, 4)  # frames
VIDEOS = {"steady": (9028, (640, 360)), "uneven": (9012, (480, 480))}  # seed, size
UNEVEN_GAPS_MS = (33, 33, 67, 100, 40, 20, 150)
TIMES_S = {
    "steady": [i / 25 for i in range(200)],
    "uneven": [ms / 1000 for ms in accumulate(islice(cycle(UNEVEN_GAPS_MS), 95), initial=0)],
}
PRIORITIES = {2: 0.7, 7: 0.8, 10: 0.9}


def create_scenario(store: Store, directory: Path, scenario: str, frames: int | None, user: str) -> None:
    """Make a demo project, unless DIR has it already, and DIR/truth.json beside it.

    It has 40 pictures, 5 image groups and 2 videos; with `frames`, that many pictures alone. The one that people
    have finished has 120 pictures and nothing else.
    """
    if scenario == "empty":
        return
    project_hash = derived_uuid(scenario, "project")
    if project_hash in store.table(Project):
        return
    if scenario not in TITLES:
        raise ValueError(f"no scenario {scenario}; there are empty, {', '.join(TITLES)}")
    stock = Stock(scenario, user, store.now())
    items, parts = [stock.picture(i) for i in range(frames or PICTURES[scenario])], list[Item]()
    if frames is None and scenario != FINISHED:
        groups = [stock.group(i, count) for i, count in enumerate(GROUPS)]
        items += [group for group, _ in groups] + [stock.video(name) for name in TIMES_S]
        parts = [frame for _, group_frames in groups for frame in group_frames]
    project, units = _add_project(store, stock, items, parts)
    for i, wanted in _human_work(scenario, items):
        act_as_person(store, {"project": project.key, "data_hash": units[i].data_hash} | wanted)
    (directory / "truth.json").write_text(json.dumps(_truth(store, units, _classes(scenario))))


# ---------------------------------------------------------------------------------------- files


def _scene(item: Item) -> Scene:
    assert item.scene is not None
    return frame_of_video(item.scene, 0.0)


def frame_of_video(scene: Json, time_s: float) -> Scene:
    """The scene as it is seen then; at 0 s it is the picture."""
    return draw(scene["seed"], scene["width_px"], scene["height_px"], NAMES[scene["names"]], time_s)


class Files:
    """The bytes of items, as they are downloaded: uploaded, or drawn when they are first asked for."""

    def __init__(self, store: Store, blobs: Path) -> None:
        self._store = store
        self._blobs = blobs
        self._picture = lru_cache(maxsize=16)(self._draw)
        self._filming = Lock()

    def read(self, item: Item) -> bytes:
        """Takes seconds for a video that nobody has asked for yet. Threads may call it side by side."""
        path = self._blobs / item.uuid
        if item.scene is None or path.exists():
            return path.read_bytes()
        if item.item_type == "image":
            return self._picture(item.uuid)
        with self._filming:
            if not path.exists():
                _film(item.scene, path)
        return path.read_bytes()

    def _draw(self, item_uuid: str) -> bytes:
        import cv2

        item = self._store.get(Item, item_uuid)
        suffix = ".png" if item.mime_type == "image/png" else ".jpg"
        _, buffer = cv2.imencode(suffix, cv2.cvtColor(_scene(item).rgb, cv2.COLOR_RGB2BGR))
        return buffer.tobytes()


def _film(scene: Json, path: Path) -> None:
    frames = ((time_s, frame_of_video(scene, time_s).rgb) for time_s in TIMES_S[scene["times"]])
    fresh = path.with_suffix(".new")
    encode_video(fresh, (scene["width_px"], scene["height_px"]), frames)
    fresh.replace(path)


@dataclass(frozen=True)
class Stock:
    """The items of a scenario."""

    scenario: str
    user: str
    now: str

    @property
    def folder_uuid(self) -> str:
        return derived_uuid(self.scenario, "folder")

    def picture(self, i: int) -> Item:
        suffix, mime_type = ("jpg", "image/jpeg") if i % 4 == 3 else ("png", "image/png")
        names = "finished" if self.scenario == FINISHED else "others" if i in NOTHING_OF_OURS else "mixed"
        scene = _spec(FIRST_SEED[self.scenario] + i, SIZES[i % len(SIZES)], names)
        return self._item(str(i), f"tray-{i:04}.{suffix}", mime_type, scene)

    def group(self, i: int, count: int) -> tuple[Item, list[Item]]:
        """An image group and its frames; every other group has frames of several sizes."""
        sizes = [SIZES[(i + frame * (i % 2)) % len(SIZES)] for frame in range(count)]
        frames = [
            self._item(f"group {i} frame {j}", f"view-{j}.png", "image/png", _spec(8000 + 10 * i + j, size, "mixed"))
            for j, size in enumerate(sizes)
        ]
        group = self._item(f"group {i}", f"group-{i:04}", None, None)
        children = [frame.uuid for frame in frames]
        return replace(group, item_type="imageGroup", frame_count=count, children=children), frames

    def video(self, name: str) -> Item:
        seed, size_px = VIDEOS[name]
        fps, duration_s = rate_and_duration(TIMES_S[name])
        item = self._item(name, f"{name}.mp4", VIDEO_TYPE, _spec(seed, size_px, "mixed") | {"times": name})
        count = len(TIMES_S[name])
        return replace(item, item_type="video", frame_count=count, fps=fps, duration_s=duration_s)

    def _item(self, key: str, name: str, mime_type: str | None, scene: Json | None) -> Item:
        item_uuid = derived_uuid(self.scenario, "item", key)
        width, height = (scene["width_px"], scene["height_px"]) if scene else (None, None)
        return Item(item_uuid, self.folder_uuid, name, mime_type, width, height, self.user, self.now, scene)


def _spec(seed: int, size_px: tuple[int, int], names: str) -> Json:
    """What a picture is drawn from."""
    return {"seed": seed, "width_px": size_px[0], "height_px": size_px[1], "names": names}


# -------------------------------------------------------------------------------------- project


def _add_project(store: Store, stock: Stock, items: list[Item], parts: list[Item]) -> tuple[Project, list[DataUnit]]:
    scenario, now, title = stock.scenario, stock.now, TITLES[stock.scenario]
    editor = finished.with_jargon(EDITOR) if scenario == FINISHED else EDITOR
    ontology = Ontology(derived_uuid(scenario, "ontology"), title, "", editor, now, now)
    dataset = Dataset(derived_uuid(scenario, "dataset"), "Surgical tools", "", stock.folder_uuid, now)
    folder = Folder(stock.folder_uuid, dataset.title, stock.user, now, dataset.key)
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
        creator=stock.user,
        created_at=now,
    )
    tasks = [
        replace(task, priority=PRIORITIES.get(task.ordinal, task.priority))
        for task in new_tasks(store, project, units)
    ]
    store.commit("scenario_created", stock.user, ontology, dataset, folder, *parts, *items, *units, project, *tasks)
    return project, units


def _classes(scenario: str) -> dict[str, str]:
    """What is labelled there -> its shape."""
    jargon = {one["name"]: one["shape"] for one in finished.OBJECTS}
    return CLASSES | jargon if scenario == FINISHED else CLASSES


def _human_work(scenario: str, items: list[Item]) -> Iterator[tuple[int, Json]]:
    """What people did before the product came, by row. At an Agent stage, only what was imported."""
    if scenario == FINISHED:
        for i, item in enumerate(items):
            yield from ((i, wanted) for wanted in finished.work(i, _scene(item), _classes(scenario)))
        return
    acts = [(1, "draw"), (3, "classify")]
    if scenario == "demo":
        acts += [(4, "open"), (6, "draw"), (6, "submit"), (8, "assign")]
    for i, action in acts:
        if i < len(items):
            yield i, (_box_to_draw(_scene(items[i])) if action == "draw" else {}) | {"action": action}


def _box_to_draw(scene: Scene) -> Json:
    """A box around the first thing of a box class that can be seen there."""
    name, mask, _ = next(seen for seen in scene.objects if CLASSES.get(seen.name) == "bounding_box")
    height, width = mask.shape
    x, y, w, h = box_px(mask)
    return {"class": name, "box_norm": [x / width, y / height, w / width, h / height]}


def _truth(store: Store, units: list[DataUnit], classes: Mapping[str, str]) -> Json:
    """COCO instances of pictures, frames of groups, and each second of a video; and what frames a video has there."""
    times = {u.data_hash: (store.get(Item, u.item_uuid).scene or {}).get("times") for u in units}
    sampled = {data_hash: on_show_each_second(TIMES_S[name]) for data_hash, name in times.items() if name}

    def frames() -> Iterator[tuple[str, Scene]]:
        for unit in units:
            for i, (_, file) in enumerate(store.frames(unit)):
                for frame, time_s in sampled.get(unit.data_hash, {i: 0.0}).items():
                    assert file.scene is not None
                    yield f"{unit.data_hash}/{frame}", finished.in_jargon(frame_of_video(file.scene, time_s))

    instances = coco(classes, frames())
    image_ids = {image["file_name"]: image["id"] for image in instances["images"]}
    videos = [
        {
            "file_name": data_hash,
            "frames": [
                {"frame": frame, "time_s": time_s, "image_id": image_ids[f"{data_hash}/{frame}"]}
                for frame, time_s in times_s.items()
            ],
        }
        for data_hash, times_s in sampled.items()
    ]
    return instances | {"videos": videos}

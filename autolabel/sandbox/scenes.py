"""Synthetic frames of coloured shapes with exact masks, and the demo projects made of them.

A scene is drawn from its seed alone, whenever it is needed: nothing is stored but the seed.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autolabel.sandbox.admin import act_as_person
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
from autolabel.sandbox.workflow import new_stages, new_tasks

Rgb = NDArray[np.uint8]
Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (45, 80, 220),
    "yellow": (235, 215, 40),
    "orange": (245, 140, 30),
    "purple": (140, 60, 190),
    "cyan": (50, 205, 215),
    "white": (240, 240, 240),
    "black": (20, 20, 20),
    "pink": (245, 130, 180),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "crescent")
SIZES = ((640, 480), (640, 360), (480, 480), (360, 640))
SUBPIXEL_BITS = 4
LEAST_VISIBLE_PX = 20
LEAST_CONTRAST = 38


# --------------------------------------------------------------------------------------- drawing


@dataclass(frozen=True)
class Scene:
    """A frame and what can be seen in it: class name ("red circle") and visible mask, H x W."""

    rgb: Rgb
    objects: list[tuple[str, Mask]]


@dataclass(frozen=True)
class Placed:
    x: float
    y: float
    radius: float


def draw(seed: int, width_px: int, height_px: int, names: Sequence[str]) -> Scene:
    """One to six shapes, each named by a draw from `names`; later ones hide earlier ones."""
    rng = np.random.default_rng(seed)
    canvas = _background(rng, width_px, height_px)
    placed: list[Placed] = []
    objects: list[tuple[str, Mask]] = []
    for _ in range(rng.integers(1, 7)):
        spot = _free_spot(rng, width_px, height_px, placed)
        name = names[int(rng.integers(len(names)))]
        if spot is None or (inside := _paint(rng, canvas, name, spot)) is None:
            continue
        placed.append(spot)
        objects = [(other, mask & ~inside) for other, mask in objects]
        objects.append((name, inside))
    if rng.random() < 0.3:
        canvas = _blurred(canvas)
    visible = [(name, mask) for name, mask in objects if mask.sum() >= LEAST_VISIBLE_PX]
    return Scene(np.clip(canvas, 0, 255).astype(np.uint8), visible)


def _free_spot(rng: np.random.Generator, width_px: int, height_px: int, placed: list[Placed]) -> Placed | None:
    """Somewhere that overlaps what is there at most a little, if a few tries find it."""
    for _ in range(12):
        radius = rng.uniform(0.06, 0.24) * min(width_px, height_px)
        x = rng.uniform(radius * 0.8, width_px - radius * 0.8)
        y = rng.uniform(radius * 0.8, height_px - radius * 0.8)
        apart = (math.hypot(x - p.x, y - p.y) > 0.85 * (radius + p.radius) for p in placed)
        if all(apart):
            return Placed(x, y, radius)
    return None


def _paint(rng: np.random.Generator, canvas: Plane, name: str, spot: Placed) -> Mask | None:
    """Paint a shape; None, and nothing painted, where it would hardly be seen."""
    colour_name, shape = name.split()
    base = np.array(COLOURS[colour_name], np.float32) * rng.uniform(0.82, 1.08)
    colour = np.clip(base + rng.normal(0, 7, 3), 0, 255)
    cover = _coverage(canvas.shape[:2], shape, spot, rng.uniform(0, 360))
    inside = cover > 127
    if inside.sum() < LEAST_VISIBLE_PX:
        return None
    if np.abs(canvas[inside].mean(0) - colour).max() < LEAST_CONTRAST:
        return None
    height = canvas.shape[0]
    shade = 1 + rng.uniform(-0.12, 0.12) * np.linspace(-1, 1, height, dtype=np.float32)
    rows = slice(max(0, int(spot.y - spot.radius) - 2), int(spot.y + spot.radius) + 3)
    columns = slice(max(0, int(spot.x - spot.radius) - 2), int(spot.x + spot.radius) + 3)
    alpha = cover[rows, columns, None].astype(np.float32) / 255
    patch = canvas[rows, columns]
    patch += alpha * (colour * shade[rows, None, None] - patch)
    return inside


def _coverage(size: tuple[int, ...], shape: str, spot: Placed, turn_deg: float) -> Rgb:
    """How much of each pixel the shape covers, 0 to 255."""
    import cv2  # slow to import, and only drawing needs it

    cover = np.zeros(size, np.uint8)
    turn = math.radians(turn_deg)

    def disc(x: float, y: float, radius: float, value: int) -> None:
        centre = (_fixed(x), _fixed(y))
        cv2.circle(cover, centre, _fixed(radius), value, -1, cv2.LINE_AA, SUBPIXEL_BITS)

    if shape in {"circle", "ring", "crescent"}:
        disc(spot.x, spot.y, spot.radius, 255)
        if shape == "ring":
            disc(spot.x, spot.y, spot.radius * 0.55, 0)
        if shape == "crescent":
            x, y = spot.x + 0.5 * spot.radius * math.cos(turn), spot.y + 0.5 * spot.radius * math.sin(turn)
            disc(x, y, spot.radius * 0.8, 0)
        return cover
    corners = _corners(shape, turn) * spot.radius + (spot.x, spot.y)
    points = np.round(corners * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(cover, [points], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return cover


def _fixed(value: float) -> int:
    return int(value * (1 << SUBPIXEL_BITS))


def _corners(shape: str, turn: float) -> NDArray[np.float64]:
    """The corners of a shape of radius 1 about the origin, turned by `turn` radians."""
    if shape == "diamond":
        return _turned([(0, -1), (0.58, 0), (0, 1), (-0.58, 0)], turn * 0.25)
    if shape == "cross":
        k = 0.33
        arm = [(-k, -1.0), (k, -1.0), (k, -k)]
        turns = [_turned(arm, quarter * math.pi / 2) for quarter in range(4)]
        return _turned(np.concatenate(turns), turn)
    points, inner = {"square": (4, 1.0), "triangle": (3, 1.0), "star": (10, 0.42)}[shape]
    angles = turn + np.arange(points) * 2 * math.pi / points
    radii = np.where(np.arange(points) % 2 == 0, 1.0, inner)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)


def _turned(points: Sequence[tuple[float, float]] | NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    cos, sin = math.cos(turn), math.sin(turn)
    turned: NDArray[np.float64] = np.asarray(points) @ np.array([[cos, sin], [-sin, cos]])
    return turned


def _background(rng: np.random.Generator, width_px: int, height_px: int) -> Plane:
    """Flat, a gradient, soft blotches, or grey with lines; and a little noise on each."""
    kinds = (_flat, _gradient, _blotches, _lines)
    plane = kinds[rng.integers(len(kinds))](rng, width_px, height_px)
    noise = rng.normal(0, rng.uniform(0, 8), (height_px, width_px, 1))
    return np.clip(plane + noise, 0, 255).astype(np.float32)


def _flat(rng: np.random.Generator, width_px: int, height_px: int) -> Plane:
    return np.full((height_px, width_px, 3), rng.uniform(40, 215, 3), np.float32)


def _gradient(rng: np.random.Generator, width_px: int, height_px: int) -> Plane:
    start, end = rng.uniform(40, 215, (2, 3))
    across = rng.random() < 0.5
    ramp = np.linspace(0, 1, width_px if across else height_px, dtype=np.float32)
    colours = (start + (end - start) * ramp[:, None]).astype(np.float32)
    return np.broadcast_to(colours[None] if across else colours[:, None], (height_px, width_px, 3)).copy()


def _blotches(rng: np.random.Generator, width_px: int, height_px: int) -> Plane:
    import cv2

    grid = rng.uniform(40, 215, (rng.integers(3, 9), rng.integers(3, 9), 3)).astype(np.float32)
    mean = grid.mean((0, 1))
    soft = (mean + (grid - mean) * rng.uniform(0.2, 0.8)).astype(np.float32)
    return np.asarray(cv2.resize(soft, (width_px, height_px), interpolation=cv2.INTER_CUBIC), np.float32)


def _lines(rng: np.random.Generator, width_px: int, height_px: int) -> Plane:
    import cv2

    plane = np.full((height_px, width_px, 3), rng.uniform(90, 170), np.float32)
    for _ in range(rng.integers(2, 12)):
        ends = rng.integers(0, (width_px, height_px), (2, 2)).tolist()
        colour = rng.uniform(50, 205, 3).tolist()
        cv2.line(plane, ends[0], ends[1], colour, int(rng.integers(1, 5)))
    return plane


def _blurred(canvas: Plane) -> Plane:
    import cv2

    return np.asarray(cv2.GaussianBlur(canvas, (3, 3), 0), np.float32)


# --------------------------------------------------------------------------------- demo projects

TITLES = {
    "demo": "Demo: coloured shapes",
    "demo-agent": "Demo: coloured shapes, Agent stage first",
}
EDITOR: Json = json.loads(Path(__file__).with_name("demo_ontology.json").read_text())
CLASSES = {o["name"]: o["shape"] for o in EDITOR["objects"] if o["shape"] != "polyline"}
OTHERS = [f"{c} {s}" for c in COLOURS for s in SHAPES if f"{c} {s}" not in CLASSES]
NAMES = {"mixed": [*CLASSES] * 30 + OTHERS, "others": OTHERS}  # mixed: 7 in 10 are of the ontology
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
            "seed": 7000 + i,
            "width_px": width_px,
            "height_px": height_px,
            "names": "others" if i in NOTHING_OF_OURS else "mixed",
        }
        item_uuid = derived_uuid(scenario, "item", str(i))
        name = f"shapes-{i:04}.{suffix}"
        items.append(Item(item_uuid, folder, name, mime_type, width_px, height_px, user, now, scene))
    return items


def _add_project(store: Store, scenario: str, items: list[Item], user: str) -> tuple[Project, list[DataUnit]]:
    now, title = store.now(), TITLES[scenario]
    ontology = Ontology(derived_uuid(scenario, "ontology"), title, "", EDITOR, now, now)
    folder = derived_uuid(scenario, "folder")
    dataset = Dataset(derived_uuid(scenario, "dataset"), "Coloured shapes", "", folder, now)
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
    found = [(n, m) for n, m in scene.objects if CLASSES.get(n) == "bounding_box"]
    name, mask = found[0]
    height, width = mask.shape
    x, y, w, h = _box_px(mask)
    return {"class": name, "box_norm": [x / width, y / height, w / width, h / height]}


# --------------------------------------------------------------------------------- ground truth


def _coco(frames: Iterable[tuple[str, Scene]]) -> Json:
    """COCO instances of the ontology's classes; shapes of other classes are just scenery."""
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
            for name, mask in scene.objects
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

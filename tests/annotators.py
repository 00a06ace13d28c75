"""Annotators and reviewers in the sandbox, who work by known rules, against the truth, and take known seconds."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from encord import Project
from encord.objects import LabelRowV2, Object
from encord.objects.coordinates import BoundingBoxCoordinates
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from sandbox.conftest import RunningSandbox

OPEN_S, CHECK_S, DRAW_S, EDIT_S, DELETE_S = 6.0, 1.5, 12.0, 7.0, 2.5
"""What it takes to open and submit a row, to look at a shown object, to draw, adjust, delete one; at pace 1."""
DRAWN = {"bounding_box", "polygon"}
"""Shapes that the sandbox's people can draw: objects of others are left as they are, and none is added."""


class Thing(NamedTuple):
    """An object that is there: its class by name, and its box (left, top, width, height) in parts of the frame."""

    name: str
    box_norm: tuple[float, float, float, float]


@dataclass(frozen=True)
class Annotator:
    """Whose taste is known: a shown box is kept from `enough_iou` on, adjusted from `near_iou` on, else deleted.

    `noise`: the standard deviation of the logarithm of the seconds that a row takes.
    """

    email: str
    pace: float = 1.0
    enough_iou: float = 0.75
    near_iou: float = 0.3
    noise: float = 0.2


@dataclass(frozen=True)
class Work:
    """What somebody did on a row: how often (act, class by name), the acts being kept, edited, deleted, added."""

    acts: Counter[tuple[str, str]]
    seconds: int


def truth_of(sandbox: RunningSandbox) -> dict[str, list[Thing]]:
    """By data hash, what the demo's pictures truly show; of a group or a video, its first frame."""
    truth = json.loads((sandbox.dir / "truth.json").read_text())
    names = {category["id"]: category["name"] for category in truth["categories"]}
    frames = {image["id"]: image for image in truth["images"] if image["file_name"].endswith("/0")}
    things: dict[str, list[Thing]] = defaultdict(list)
    for seen in truth["annotations"]:
        if frame := frames.get(seen["image_id"]):
            size = np.array([frame["width"], frame["height"]] * 2)
            box = tuple((np.array(seen["bbox"]) / size).tolist())
            things[frame["file_name"].partition("/")[0]].append(Thing(names[seen["category_id"]], box))
    return dict(things)


def prelabel(project: Project, rows: Sequence[LabelRowV2], shown: Sequence[Thing]) -> None:
    """Put these boxes on fresh rows, as a machine would."""
    with project.create_bundle() as bundle:
        for row in rows:
            row.initialise_labels(bundle=bundle)
    with project.create_bundle() as bundle:
        for row in rows:
            for name, (x, y, w, h) in shown:
                drawn = row.ontology_structure.get_child_by_title(name, type_=Object).create_instance()
                box = BoundingBoxCoordinates(height=h, width=w, top_left_x=x, top_left_y=y)
                drawn.set_for_frames(box, manual_annotation=False, confidence=0.5)
                row.add_object_instance(drawn)
            row.save(bundle=bundle)


def annotate(
    sandbox: RunningSandbox, by: Annotator, data_hash: str, truth: Sequence[Thing], rng: np.random.Generator
) -> Work:
    """Open a picture's row, make of what it shows what is true, submit it, and have the seconds booked."""
    row, _task = _act(sandbox, by, data_hash, "open")
    (labels,) = row["labels"].values()
    classes = _classes(sandbox)
    shown = [drawn for drawn in labels["objects"] if drawn["shape"] in DRAWN]
    things = [thing for thing in truth if classes[thing.name] in DRAWN]
    ious = _ious(shown, things)
    pairs = {int(i): int(j) for i, j in zip(*linear_sum_assignment(ious, maximize=True), strict=True)}
    acts: Counter[tuple[str, str]] = Counter()
    for i, drawn in enumerate(shown):
        j = pairs.get(i, -1)
        iou = ious[i, j] if j >= 0 else 0.0
        act = "kept" if iou >= by.enough_iou else "edited" if iou >= by.near_iou else "deleted"
        if act == "deleted":
            pairs.pop(i, None)
            _act(sandbox, by, data_hash, "delete", object_hash=drawn["objectHash"])
        elif act == "edited":
            _act(sandbox, by, data_hash, "edit", object_hash=drawn["objectHash"], box_norm=things[j].box_norm)
        acts[act, drawn["name"]] += 1
    for j in sorted(set(range(len(things))) - set(pairs.values())):
        name, box_norm = things[j]
        _act(sandbox, by, data_hash, "draw", box_norm=box_norm, **{"class": name})
        acts["added", name] += 1
    seconds = _seconds(by, acts, rng)
    _act(sandbox, by, data_hash, "submit", seconds=seconds)
    return Work(acts, seconds)


def approve(sandbox: RunningSandbox, email: str, data_hash: str, seconds: int) -> None:
    """Let a submitted row through the review."""
    _act(sandbox, Annotator(email), data_hash, "approve", seconds=seconds)


def mean_seconds(by: Annotator, acts: Counter[tuple[str, str]]) -> float:
    """What these acts on one row take, before noise."""
    cost_s = {"kept": CHECK_S, "edited": CHECK_S + EDIT_S, "deleted": CHECK_S + DELETE_S, "added": DRAW_S}
    return by.pace * (OPEN_S + sum(cost_s[act] * often for (act, _name), often in acts.items()))


def _seconds(by: Annotator, acts: Counter[tuple[str, str]], rng: np.random.Generator) -> int:
    return max(1, round(mean_seconds(by, acts) * rng.lognormal(0, by.noise)))


def _act(sandbox: RunningSandbox, by: Annotator, data_hash: str, action: str, **wanted: Any) -> Any:
    """What changed, as it is then."""
    (project_hash,) = sandbox.projects.values()
    person = {"action": action, "project": project_hash, "data_hash": data_hash, "email": by.email}
    return sandbox.admin("POST", "human", person | wanted)["changed"]


def _classes(sandbox: RunningSandbox) -> dict[str, str]:
    """Class name -> shape."""
    return {item.name: item.shape.value for item in sandbox.project().ontology_structure.objects}


def _ious(shown: Sequence[dict[str, Any]], things: Sequence[Thing]) -> NDArray[np.float64]:
    """(shown, things); -1 between classes, so that nobody pairs them for want of a better one."""
    ious = np.full((len(shown), len(things)), -1.0)
    for i, drawn in enumerate(shown):
        for j, thing in enumerate(things):
            if drawn["name"] == thing.name:
                ious[i, j] = coco_mask.iou(np.array([_box(drawn)]), np.array([thing.box_norm]), [0])[0, 0]
    return ious


def _box(drawn: dict[str, Any]) -> tuple[float, float, float, float]:
    """Around what stands there: left, top, width, height."""
    if box := drawn.get("boundingBox"):
        return box["x"], box["y"], box["w"], box["h"]
    points = np.array([(point["x"], point["y"]) for point in drawn["polygon"].values()])
    left, top = points.min(axis=0)
    width, height = np.ptp(points, axis=0)
    return float(left), float(top), float(width), float(height)

"""A project that people have finished: what they drew on pictures like the demo's, and how far each row has come."""

from collections.abc import Mapping

import numpy as np

from autolabel.sandbox.scenes import Mask, Rng, Scene
from autolabel.sandbox.store import Json
from autolabel.sandbox.truth import box_px

JARGON = {"green clamp": "Kocher", "purple scissors": "Metzenbaum"}
"""What is drawn -> the class that people have it under: words in which no detector finds it."""
OBJECTS: list[Json] = [
    {"id": "8", "name": "Kocher", "color": "#1E9646", "shape": "bounding_box", "featureNodeHash": "5c1f0a9e"},
    {"id": "9", "name": "Metzenbaum", "color": "#883AB4", "shape": "bitmask", "featureNodeHash": "b0d47e36"},
]
PEOPLE = ("ada@example.com", "ben@example.com", "cleo@example.com")
REVIEWER = "reviewer@example.com"
WOBBLE_PX = 1.0
FINE = 4  # contours are followed on a grid so much finer than pixels


def with_jargon(editor: Json) -> Json:
    """The demo's ontology and the classes of the jargon."""
    plain: Json = {"required": False, "archived": False, "attributes": []}
    return editor | {"objects": [*editor["objects"], *(one | plain for one in OBJECTS)]}


def in_jargon(scene: Scene) -> Scene:
    """The same things by the names that people have for them."""
    return Scene(scene.rgb, [seen._replace(name=JARGON.get(seen.name, seen.name)) for seen in scene.objects])


def work(i: int, scene: Scene, shapes: Mapping[str, str]) -> list[Json]:
    """All that people did on row i, in order, as `people.act_as_person` takes it; `shapes` by class name.

    Most rows are approved; of ten, one waits for review and one was only begun.
    """
    rng = np.random.default_rng(i)
    drawn: list[Json] = [
        {
            "action": "draw",
            "class": name,
            "geometry": geometry(shapes[name], mask, rng),
            "object_hash": f"F{i:04}{n:03}",
        }
        for n, (name, mask, _) in enumerate(in_jargon(scene).objects)
        if name in shapes
    ]
    is_begun, is_submitted = i % 10 == 9, i % 10 == 6
    acts: list[Json] = [{"action": "open"}, *(drawn[:1] if is_begun else [*drawn, {"action": "submit"}])]
    by_annotator = [act | {"email": PEOPLE[i % len(PEOPLE)]} for act in acts]
    return by_annotator if is_begun or is_submitted else [*by_annotator, {"action": "approve", "email": REVIEWER}]


def geometry(shape: str, mask: Mask, rng: Rng) -> Json:
    """A mask as people draw it in that shape: boxes by hand, all else along the true pixels."""
    height, width = mask.shape
    match shape:
        case "bounding_box":
            x, y, w, h = box_px(mask)
            edges = np.array([x, y, x + w, y + h]) + rng.normal(0, WOBBLE_PX, 4)
            left, top, right, bottom = (edges / (width, height, width, height)).clip(0, 1).tolist()
            return {"boundingBox": {"x": left, "y": top, "w": right - left, "h": bottom - top}}
        case "rotatable_bounding_box":
            return {"rotatableBoundingBox": _turned_box(mask)}
        case "polygon":
            return _polygons(mask)
        case "bitmask":
            return {"bitmask": {"top": 0, "left": 0, "height": height, "width": width, "rleString": _row_runs(mask)}}
    raise ValueError(f"nobody draws a {shape} here")


def _turned_box(mask: Mask) -> Json:
    """The smallest around a mask: laid down upright about its centre, and the clockwise turn that takes it back."""
    import cv2

    height, width = mask.shape
    centres = np.argwhere(mask)[:, ::-1].astype(np.float32)
    (x, y), (w, h), theta = cv2.minAreaRect(centres)
    w, h = w + 1, h + 1  # from pixel centres to their edges
    left, top = x + 0.5 - w / 2, y + 0.5 - h / 2
    return {"x": left / width, "y": top / height, "w": w / width, "h": h / height, "theta": theta}


def _polygons(mask: Mask) -> Json:
    """Parts, each with its holes, along the edges of pixels to a quarter of one."""
    import cv2

    height, width = mask.shape
    fine = mask.view(np.uint8).repeat(FINE, axis=0).repeat(FINE, axis=1)
    contours, hierarchy = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [cv2.approxPolyDP(contour, FINE / 4, closed=True)[:, 0] for contour in contours]
    flat = [((ring + 0.5) / (FINE * width, FINE * height)).ravel().tolist() for ring in rings]
    parents = hierarchy[0][:, 3].tolist()
    parts = {i: [ring] for i, ring in enumerate(flat) if parents[i] < 0}
    for ring, parent in zip(flat, parents, strict=True):
        if parent >= 0:
            parts[parent].append(ring)
    outer = next(iter(parts.values()))[0]
    points = {str(i): {"x": x, "y": y} for i, (x, y) in enumerate(zip(outer[::2], outer[1::2], strict=True))}
    return {"polygon": points, "polygons": list(parts.values())}


def _row_runs(mask: Mask) -> str:
    """Run lengths along the rows, the first one of what is not set, in COCO's compressed text."""
    from pycocotools import mask as coco_mask

    return str(coco_mask.encode(np.asfortranarray(mask.T.view(np.uint8)))["counts"].decode("ascii"))

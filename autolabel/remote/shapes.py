"""Pure: our instances -> what the platform stores -> the SDK's objects, and back from what it serves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from encord.objects import LabelRowV2, Object, ObjectInstance, OntologyStructure
from encord.objects.bitmask import BitmaskCoordinates
from encord.objects.coordinates import (
    BoundingBoxCoordinates,
    Coordinates,
    PolygonCoordinates,
    PolygonCoordsToDict,
    RotatableBoundingBoxCoordinates,
)

from autolabel.core.assemble import Instance, Placement
from autolabel.core.geometry import mask_to_frame, row_major_rle
from autolabel.core.identity import digest
from autolabel.core.outlines import Polygon, RotatedBox, polygon_from_mask, rotated_box_from_mask
from autolabel.core.prompts import Shape
from autolabel.errors import PermanentInferenceError

TOLERANCE = 1e-5
"""How far a served coordinate or confidence may be from what was sent: the server rounds."""

PLACED_BYTES = 380
"""What the SDK's JSON says of an object on one frame, less its numbers; with a class name of usual length."""
OBJECT_BYTES = 62
"""What it says of an object once, however many frames it is on."""


class ContentTooLargeError(Exception):
    """`size_bytes` is what the whole row would come to, as far as its first part tells."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.size_bytes = size_bytes


class BoxNorm(NamedTuple):
    """A box in fractions of the frame, top left first."""

    x: float
    y: float
    w: float
    h: float


class RotatedBoxNorm(NamedTuple):
    """A box in fractions of the frame before it is turned about its centre, in pixel space: see `RotatedBox`."""

    x: float
    y: float
    w: float
    h: float
    theta_deg: float


class PolygonNorm(NamedTuple):
    """Parts, of each the outer ring and then its holes; a ring is x0, y0, x1, y1 ... in fractions of the frame."""

    parts: tuple[tuple[tuple[float, ...], ...], ...]


class Bitmask(NamedTuple):
    """The row-major RLE of the whole frame."""

    rle: str


Geometry = BoxNorm | RotatedBoxNorm | PolygonNorm | Bitmask


@dataclass(frozen=True)
class Placed:
    """An object on one frame as the platform stores it.

    - `geometry`: None for a shape that we never write.
    - `by_human`: marked as manual, or last edited by somebody who did not create it.
    """

    object_hash: str
    feature_hash: str
    frame: int
    geometry: Geometry | None
    confidence: float
    by_human: bool = False

    @property
    def fields(self) -> tuple[Any, ...]:
        """What `dataclasses.astuple` gives, which would copy every coordinate."""
        return tuple(vars(self).values())


@dataclass(frozen=True)
class Content:
    """All that stands in a row: objects, sorted, and the hashes of answered frame questions (never ours)."""

    placed: tuple[Placed, ...]
    classifications: frozenset[str] = frozenset()

    @property
    def hashes(self) -> frozenset[str]:
        return frozenset(item.object_hash for item in self.placed)

    @property
    def has_human_work(self) -> bool:
        return bool(self.classifications) or any(item.by_human for item in self.placed)

    @property
    def digest(self) -> str:
        """SHA-256 (hex), canonical."""
        return digest([[item.fields for item in self.placed], sorted(self.classifications)])


def to_platform(instances: Sequence[Instance], max_bytes: int | None = None) -> Content:
    """Instances -> what is to stand in the row.

    Raises PermanentInferenceError for values that the SDK would let through: outside the frame, not in [0, 1], NaN.
    Raises ContentTooLargeError, as soon as that is known, where it would come to more than `max_bytes`.
    """
    placed: list[Placed] = []
    size = 0
    for instance in instances:
        size += OBJECT_BYTES
        for place in instance.placements:
            item = _placed(instance.object_hash, instance.feature_hash, instance.shape, place)
            placed.append(item)
            size += PLACED_BYTES + _sent_bytes(item.geometry)
        if max_bytes is not None and size > max_bytes:
            objects = sum(len(instance.placements) for instance in instances)
            raise ContentTooLargeError(size * objects // len(placed))
    return Content(tuple(sorted(placed, key=_key)))


def _sent_bytes(geometry: Geometry | None) -> int:
    """Of the coordinates as the SDK writes them: a polygon's first ring twice, the second time point by point."""
    ring = geometry.parts[0][0] if isinstance(geometry, PolygonNorm) else ()
    points = {place: {"x": x, "y": y} for place, (x, y) in enumerate(zip(ring[::2], ring[1::2], strict=True))}
    return len(json.dumps([geometry, points]))


def _placed(object_hash: str, feature_hash: str, shape: Shape, place: Placement) -> Placed:
    found = place.detection
    if not 0.0 <= found.score <= 1.0:  # also false for NaN, which the SDK sends as a bare literal
        raise PermanentInferenceError(f"object {object_hash} has confidence {found.score}, which is outside [0, 1]")
    try:
        geometry = _geometry(shape, place)
    except ValueError as error:
        raise PermanentInferenceError(f"object {object_hash} has {error}") from error
    return Placed(object_hash, feature_hash, place.frame_index, geometry, float(found.score))


def _geometry(shape: Shape, place: Placement) -> Geometry:
    """Raises ValueError for what does not lie inside the frame."""
    width, height, found = place.width_px, place.height_px, place.detection
    if shape == "bounding_box":
        return _box_norm(found.box_xyxy_px, width, height)
    if found.mask is None:
        raise ValueError(f"no mask to make a {shape} from")
    _check_inside(found.mask.window_xyxy_px, width, height)
    match shape:
        case "bitmask":
            return Bitmask(row_major_rle(mask_to_frame(found.mask, width, height)))
        case "polygon":
            return _polygon_norm(polygon_from_mask(found.mask), width, height)
        case "rotatable_bounding_box":
            return _rotated_box_norm(rotated_box_from_mask(found.mask, width, height), width, height)


def _box_norm(box_xyxy_px: tuple[float, float, float, float], width_px: int, height_px: int) -> BoxNorm:
    _check_inside(box_xyxy_px, width_px, height_px)
    x0, y0, x1, y1 = box_xyxy_px
    x, y = float(x0) / width_px, float(y0) / height_px
    return BoxNorm(x, y, float(x1) / width_px - x, float(y1) / height_px - y)


def _check_inside(xyxy_px: tuple[float, float, float, float], width_px: int, height_px: int) -> None:
    x0, y0, x1, y1 = xyxy_px
    if not (0 <= x0 < x1 <= width_px and 0 <= y0 < y1 <= height_px):
        raise ValueError(f"the box {xyxy_px}, which is not inside {width_px}x{height_px}")


def _polygon_norm(polygon: Polygon, width_px: int, height_px: int) -> PolygonNorm:
    return PolygonNorm(
        tuple(tuple(tuple((ring / (width_px, height_px)).ravel().tolist()) for ring in part) for part in polygon)
    )


def _rotated_box_norm(box: RotatedBox, width_px: int, height_px: int) -> RotatedBoxNorm:
    x, y = box.left_px / width_px, box.top_px / height_px
    return RotatedBoxNorm(x, y, box.width_px / width_px, box.height_px / height_px, box.theta_deg)


def fill(row: LabelRowV2, wanted: Content, ontology: OntologyStructure) -> None:
    """Put the objects of `wanted` into an initialised row that holds none. Not saved yet."""
    objects: dict[str, ObjectInstance] = {}
    for item in wanted.placed:
        if item.object_hash not in objects:
            kind = ontology.get_child_by_hash(item.feature_hash, type_=Object)
            objects[item.object_hash] = ObjectInstance(kind, object_hash=item.object_hash)
        objects[item.object_hash].set_for_frames(
            _coordinates(item.geometry, row.get_frame_view(item.frame)),
            frames=item.frame,
            confidence=item.confidence,
            manual_annotation=False,
        )
    for instance in objects.values():
        row.add_object_instance(instance)


def _coordinates(geometry: Geometry | None, frame: LabelRowV2.FrameView) -> Coordinates:
    match geometry:
        case BoxNorm(x, y, w, h):
            return BoundingBoxCoordinates(height=h, width=w, top_left_x=x, top_left_y=y)
        case RotatedBoxNorm(x, y, w, h, theta):
            return RotatableBoundingBoxCoordinates(height=h, width=w, top_left_x=x, top_left_y=y, theta=theta)
        case PolygonNorm(parts):
            return PolygonCoordinates.from_polygons_list([[list(ring) for ring in part] for part in parts])
        case Bitmask(rle):
            return BitmaskCoordinates(
                BitmaskCoordinates.EncodedBitmask(
                    top=0, left=0, height=frame.height, width=frame.width, rle_string=rle
                )
            )
    raise ValueError("an object without a geometry that we write cannot be put into a row")


def from_platform(row: LabelRowV2) -> Content:
    """What stands in an initialised row. Shapes we never write come without a geometry."""
    placed = [
        _served(instance, annotation)
        for instance in row.get_object_instances()
        for annotation in instance.get_annotations()
    ]
    answers = frozenset(answer.classification_hash for answer in row.get_classification_instances())
    return Content(tuple(sorted(placed, key=_key)), answers)


def _served(instance: ObjectInstance, annotation: ObjectInstance.Annotation) -> Placed:
    edited = annotation.last_edited_by not in (None, annotation.created_by)
    return Placed(
        instance.object_hash,
        instance.feature_hash,
        annotation.frame,
        _served_geometry(annotation.coordinates),
        annotation.confidence,
        annotation.manual_annotation or edited,
    )


def _served_geometry(where: Coordinates) -> Geometry | None:
    match where:
        case BoundingBoxCoordinates():
            return BoxNorm(where.top_left_x, where.top_left_y, where.width, where.height)
        case RotatableBoundingBoxCoordinates():
            return RotatedBoxNorm(where.top_left_x, where.top_left_y, where.width, where.height, where.theta)
        case PolygonCoordinates():
            parts = where.to_dict(PolygonCoordsToDict.multiple_polygons)
            return PolygonNorm(tuple(tuple(tuple(ring) for ring in part) for part in parts))
        case BitmaskCoordinates():
            return Bitmask(str(where.to_dict()["rleString"]))
    return None


def _key(item: Placed) -> tuple[str, int]:
    return item.object_hash, item.frame


def same(wanted: Content, served: Content) -> bool:
    """Same objects on the same frames: numbers within TOLERANCE, all else equal, human touches included."""
    close = _close([item.fields for item in wanted.placed], [item.fields for item in served.placed])
    return close and wanted.classifications == served.classifications


def same_place(wanted: Placed, served: Placed) -> bool:
    """Same class and geometry: numbers within TOLERANCE, whoever touched it."""
    return wanted.feature_hash == served.feature_hash and _close(wanted.geometry, served.geometry)


def _close(a: Any, b: Any) -> bool:
    if a == b:  # as most are, and whole polygons are compared at once
        return True
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(_close, a, b))
    return isinstance(a, float) and isinstance(b, float | int) and abs(a - b) <= TOLERANCE

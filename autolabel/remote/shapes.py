"""Pure: our instances -> what the platform stores -> the SDK's objects, and back from what it serves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass

from encord.objects import LabelRowV2, Object, ObjectInstance, OntologyStructure
from encord.objects.bitmask import BitmaskCoordinates
from encord.objects.coordinates import BoundingBoxCoordinates, Coordinates

from autolabel.core.assemble import Instance, Placement
from autolabel.core.geometry import mask_to_frame, row_major_rle
from autolabel.core.identity import digest
from autolabel.core.prompts import Shape
from autolabel.errors import PermanentInferenceError

TOLERANCE = 1e-5
"""How far a served coordinate or confidence may be from what was sent: the server rounds."""


@dataclass(frozen=True)
class Placed:
    """An object on one frame as the platform stores it.

    - `box_norm`: (x, y, w, h) of the frame, top left first, in [0, 1]; None for a mask or another shape.
    - `rle`: the row-major RLE of a mask; None otherwise.
    - `by_human`: marked as manual, or last edited by somebody who did not create it.
    """

    object_hash: str
    feature_hash: str
    frame: int
    box_norm: tuple[float, float, float, float] | None
    rle: str | None
    confidence: float
    by_human: bool = False


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
        return digest([[astuple(item) for item in self.placed], sorted(self.classifications)])


def to_platform(instances: Iterable[Instance]) -> Content:
    """Instances -> what is to stand in the row.

    Raises PermanentInferenceError for values that the SDK would let through: outside the frame, not in [0, 1], NaN.
    """
    placed = [
        _placed(instance.object_hash, instance.feature_hash, instance.shape, place)
        for instance in instances
        for place in instance.placements
    ]
    return Content(tuple(sorted(placed, key=_key)))


def _placed(object_hash: str, feature_hash: str, shape: Shape, place: Placement) -> Placed:
    found = place.detection
    if not 0.0 <= found.score <= 1.0:  # also false for NaN, which the SDK sends as a bare literal
        raise PermanentInferenceError(f"object {object_hash} has confidence {found.score}, which is outside [0, 1]")
    box, rle = None, None
    if shape == "bitmask" and found.mask is not None:
        rle = row_major_rle(mask_to_frame(found.mask, place.width_px, place.height_px))
    else:
        box = _box_norm(object_hash, found.box_xyxy_px, place)
    return Placed(object_hash, feature_hash, place.frame_index, box, rle, float(found.score))


def _box_norm(
    object_hash: str, box_xyxy_px: tuple[float, float, float, float], place: Placement
) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box_xyxy_px
    if not (0 <= x0 < x1 <= place.width_px and 0 <= y0 < y1 <= place.height_px):
        raise PermanentInferenceError(
            f"object {object_hash} has the box {box_xyxy_px}, which is not inside {place.width_px}x{place.height_px}"
        )
    x, y = float(x0) / place.width_px, float(y0) / place.height_px
    return x, y, float(x1) / place.width_px - x, float(y1) / place.height_px - y


def fill(row: LabelRowV2, wanted: Content, ontology: OntologyStructure) -> None:
    """Put the objects of `wanted` into an initialised row that holds none. Not saved yet."""
    objects: dict[str, ObjectInstance] = {}
    for item in wanted.placed:
        if item.object_hash not in objects:
            kind = ontology.get_child_by_hash(item.feature_hash, type_=Object)
            objects[item.object_hash] = ObjectInstance(kind, object_hash=item.object_hash)
        objects[item.object_hash].set_for_frames(
            _coordinates(item, row.get_frame_view(item.frame)),
            frames=item.frame,
            confidence=item.confidence,
            manual_annotation=False,
        )
    for instance in objects.values():
        row.add_object_instance(instance)


def _coordinates(item: Placed, frame: LabelRowV2.FrameView) -> Coordinates:
    if item.rle is not None:
        encoded = BitmaskCoordinates.EncodedBitmask(
            top=0, left=0, height=frame.height, width=frame.width, rle_string=item.rle
        )
        return BitmaskCoordinates(encoded)
    assert item.box_norm is not None
    x, y, w, h = item.box_norm
    return BoundingBoxCoordinates(height=h, width=w, top_left_x=x, top_left_y=y)


def from_platform(row: LabelRowV2) -> Content:
    """What stands in an initialised row. Shapes we never write come with neither box nor mask."""
    placed = [
        _served(instance, annotation)
        for instance in row.get_object_instances()
        for annotation in instance.get_annotations()
    ]
    answers = frozenset(answer.classification_hash for answer in row.get_classification_instances())
    return Content(tuple(sorted(placed, key=_key)), answers)


def _served(instance: ObjectInstance, annotation: ObjectInstance.Annotation) -> Placed:
    where = annotation.coordinates
    box, rle = None, None
    if isinstance(where, BoundingBoxCoordinates):
        box = (where.top_left_x, where.top_left_y, where.width, where.height)
    elif isinstance(where, BitmaskCoordinates):
        rle = str(where.to_dict()["rleString"])
    edited = annotation.last_edited_by not in (None, annotation.created_by)
    return Placed(
        instance.object_hash,
        instance.feature_hash,
        annotation.frame,
        box,
        rle,
        annotation.confidence,
        annotation.manual_annotation or edited,
    )


def _key(item: Placed) -> tuple[str, int]:
    return item.object_hash, item.frame


def same(wanted: Content, served: Content) -> bool:
    """Same objects on the same frames: class and RLE equal, numbers within TOLERANCE, the same human touches."""
    if wanted.classifications != served.classifications or len(wanted.placed) != len(served.placed):
        return False
    return all(map(_same, wanted.placed, served.placed))


def _same(a: Placed, b: Placed) -> bool:
    if (a.object_hash, a.frame, a.feature_hash, a.rle) != (
        b.object_hash,
        b.frame,
        b.feature_hash,
        b.rle,
    ):
        return False
    numbers_a, numbers_b = (*(a.box_norm or ()), a.confidence), (*(b.box_norm or ()), b.confidence)
    close = len(numbers_a) == len(numbers_b) and all(
        abs(x - y) <= TOLERANCE for x, y in zip(numbers_a, numbers_b, strict=True)
    )
    return close and a.by_human == b.by_human

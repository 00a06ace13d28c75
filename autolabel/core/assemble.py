"""Stored detections of one row, in frame order -> slots -> instances. A fold: same input, same hashes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autolabel.core.detections import Detection, FrameLabels
from autolabel.core.identity import object_hash
from autolabel.core.prompts import Shape, needs_mask


@dataclass(frozen=True)
class Placement:
    """An instance on one frame; the frame's size goes with it, since coordinates are normalised later."""

    frame_index: int
    width_px: int
    height_px: int
    detection: Detection


@dataclass(frozen=True)
class Instance:
    """A labelled object on the platform: one object hash, on one or more frames."""

    object_hash: str
    feature_hash: str
    shape: Shape
    slot: int
    placements: tuple[Placement, ...]


def assemble(
    frames: Iterable[FrameLabels], shapes: Mapping[str, Shape], recipe_id: str, data_hash: str
) -> list[Instance]:
    """Frames of one row -> its instances; on still frames every detection is one of its own.

    `shapes`: class feature hash -> what the ontology asks for. A detection that `lacks_mask` is not labelled: there
    is nothing to show. Slots count per class in frame order, best first within a frame.
    """
    instances: list[Instance] = []
    next_slot: Counter[str] = Counter()
    taken: set[str] = set()
    for frame in sorted(frames, key=lambda item: item.frame_index):
        for found in frame.detections:
            slot = next_slot[found.feature_hash]
            next_slot[found.feature_hash] += 1
            if lacks_mask(found, shapes):
                continue
            name = _free_hash(recipe_id, data_hash, found.feature_hash, slot, taken)
            taken.add(name)
            place = Placement(frame.frame_index, frame.width_px, frame.height_px, found)
            instances.append(Instance(name, found.feature_hash, shapes[found.feature_hash], slot, (place,)))
    return instances


def lacks_mask(found: Detection, shapes: Mapping[str, Shape]) -> bool:
    """Whether the shape of its class is made from a mask, and it has none: it came out empty, or nothing segments."""
    return found.mask is None and needs_mask(shapes[found.feature_hash])


def _free_hash(recipe_id: str, data_hash: str, feature_hash: str, slot: int, taken: set[str]) -> str:
    salt = 0
    while (name := object_hash(recipe_id, data_hash, feature_hash, slot, salt)) in taken:
        salt += 1
    return name

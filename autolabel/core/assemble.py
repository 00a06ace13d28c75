"""Stored detections of one row, in frame order -> tracks -> slots -> instances. A fold: same input, same hashes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from autolabel.core.detections import Detection, FrameLabels
from autolabel.core.identity import object_hash
from autolabel.core.prompts import PromptPlan, Shape, needs_mask


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


@dataclass(frozen=True)
class Assembly:
    """A row's instances and what was left out of them, counted by class feature hash.

    - `dropped_by_cap`, `dropped_without_mask`: detections.
    - `dropped_short_tracks`: objects of a video that were seen on too few frames.
    """

    instances: tuple[Instance, ...]
    dropped_by_cap: Counter[str]
    dropped_without_mask: Counter[str]
    dropped_short_tracks: Counter[str]


Follow = Callable[[FrameLabels], Sequence[int]]
"""A video's next frame -> for each of its detections the track that it belongs to, within its class."""


def assemble(
    frames: Iterable[FrameLabels],
    shapes: Mapping[str, Shape],
    recipe_id: str,
    data_hash: str,
    follow: Follow | None = None,
    min_track: int = 1,
) -> Assembly:
    """Frames of one row, in order -> its instances; without `follow` every detection is one of its own.

    - `shapes`: class feature hash -> what the ontology asks for. A detection that `lacks_mask` is not labelled: there
      is nothing to show.
    - `min_track`: frames on which a track must be labelled; all of them where there are fewer.

    Slots count per class in the order of first appearance, best first within a frame.
    """
    tracks: dict[tuple[str, int], list[Placement]] = {}
    by_cap, without_mask, short = Counter[str](), Counter[str](), Counter[str]()
    seen = 0
    for frame in frames:
        seen += 1
        by_cap.update(frame.dropped_by_cap)
        ids = follow(frame) if follow else range(len(tracks), len(tracks) + len(frame.detections))
        for found, track in zip(frame.detections, ids, strict=True):
            places = tracks.setdefault((found.feature_hash, track), [])
            if lacks_mask(found, shapes):
                without_mask[found.feature_hash] += 1
            else:
                places.append(Placement(frame.frame_index, frame.width_px, frame.height_px, found))
    instances: list[Instance] = []
    next_slot: Counter[str] = Counter()
    taken: set[str] = set()
    for (feature_hash, _), places in tracks.items():
        slot = next_slot[feature_hash]
        next_slot[feature_hash] += 1
        if len(places) >= min(min_track, seen) and places:
            name = _free_hash(partial(object_hash, recipe_id, data_hash, feature_hash, slot), taken)
            instances.append(Instance(name, feature_hash, shapes[feature_hash], slot, tuple(places)))
        elif places:
            short[feature_hash] += 1
    return Assembly(tuple(instances), by_cap, without_mask, short)


def with_confidence(assembly: Assembly, plan: PromptPlan) -> Assembly:
    """The same instances, the score of each detection of a calibrated class replaced by its confidence."""
    classes = {cls.feature_hash: cls for cls in plan.classes}
    if not any(cls.calibration for cls in plan.classes):
        return assembly

    def placed(place: Placement) -> Placement:
        found = place.detection
        return replace(place, detection=replace(found, score=classes[found.feature_hash].confidence(found.score)))

    instances = (replace(item, placements=tuple(map(placed, item.placements))) for item in assembly.instances)
    return replace(assembly, instances=tuple(instances))


def lacks_mask(found: Detection, shapes: Mapping[str, Shape]) -> bool:
    """Whether the shape of its class is made from a mask, and it has none: it came out empty, or nothing segments."""
    return found.mask is None and needs_mask(shapes[found.feature_hash])


def _free_hash(name: Callable[[int], str], taken: set[str]) -> str:
    salt = 0
    while (found := name(salt)) in taken:
        salt += 1
    taken.add(found)
    return found

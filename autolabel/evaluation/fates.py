"""What people made of the objects that a row was given, object by object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from scipy.optimize import linear_sum_assignment

from autolabel.core.detections import Detection, Mask
from autolabel.core.geometry import box_iou
from autolabel.core.merging import pixels_in, region_of
from autolabel.evaluation.values import Decision, Fate, Track

SAME_SPOT_IOU = 0.5
"""From which on an object of another class stands in the place of one that was deleted."""


def decisions(written: Sequence[Track], standing: Sequence[Track], as_written: frozenset[str]) -> list[Decision]:
    """What people made of a row, of which `written` were proposed and `standing` stands there now.

    - `as_written`: hashes of objects that stand as they were on all frames on which they were proposed. Frames that
      people added to an object say nothing of what was proposed.
    - What was deleted pairs one to one with what was added in another class on the same spot: boxes with IoU of at
      least SAME_SPOT_IOU, mean over the frames on which it was proposed.
    """
    now = {track.object_hash: track for track in standing}
    gone = [track for track in written if track.object_hash not in now]
    stays = [track for track in written if track.object_hash in now]
    ours = {track.object_hash for track in written}
    new = [track for track in standing if track.object_hash not in ours]
    replaced = _replaced(gone, new)
    successors = {track.object_hash for track in replaced.values()}
    return [
        *(_of_standing(track, now[track.object_hash], as_written) for track in stays),
        *(_of_gone(track, replaced.get(track.object_hash)) for track in gone),
        *(
            Decision(Fate.ADDED, None, one.feature_hash, one.person)
            for one in new
            if one.object_hash not in successors
        ),
    ]


def _of_standing(written: Track, now: Track, as_written: frozenset[str]) -> Decision:
    classes = written.feature_hash, now.feature_hash
    if written.feature_hash != now.feature_hash:
        return Decision(Fate.OTHER_CLASS, *classes, now.person)
    if written.object_hash in as_written:
        return Decision(Fate.KEPT, *classes)
    is_comparable = not written.places.keys().isdisjoint(now.places)
    iou = _mean_iou(written, now, _iou) if is_comparable else None
    return Decision(Fate.KEPT, *classes) if iou == 1 else Decision(Fate.EDITED, *classes, now.person, iou)


def _of_gone(written: Track, successor: Track | None) -> Decision:
    if successor is None:
        return Decision(Fate.DELETED, written.feature_hash, None)
    return Decision(Fate.OTHER_CLASS, written.feature_hash, successor.feature_hash, successor.person)


def _replaced(gone: Sequence[Track], new: Sequence[Track]) -> dict[str, Track]:
    """Hash of what is gone -> what stands in its place in another class."""
    overlaps = np.zeros((len(gone), len(new)))
    for (i, old), (j, other) in product(enumerate(gone), enumerate(new)):
        if old.feature_hash != other.feature_hash:
            overlaps[i, j] = _mean_iou(old, other, _box_iou)
    overlaps[overlaps < SAME_SPOT_IOU] = 0.0
    pairs = zip(*linear_sum_assignment(overlaps, maximize=True), strict=True)
    return {gone[i].object_hash: new[j] for i, j in pairs if overlaps[i, j]}


def _mean_iou(written: Track, now: Track, iou: Callable[[Detection, Detection], float]) -> float:
    """Over the frames of `written`; 0 on those on which the other is not."""
    met = [iou(place, now.places[frame]) for frame, place in written.places.items() if frame in now.places]
    return sum(met) / max(len(written.places), 1)


def _iou(a: Detection, b: Detection) -> float:
    return _mask_iou(a.mask, b.mask) if a.mask and b.mask else _box_iou(a, b)


def _box_iou(a: Detection, b: Detection) -> float:
    one, other = (np.array([place.box_xyxy_px], np.float32) for place in (a, b))
    return float(box_iou(one, other)[0, 0])


def _mask_iou(a: Mask, b: Mask) -> float:
    region = region_of([a, b])
    one, other = pixels_in(a, region), pixels_in(b, region)
    return float((one & other).sum() / max((one | other).sum(), 1))

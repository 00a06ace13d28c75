"""Detections of a video, frame by frame -> tracks: `protocols.Tracker` over the library `trackers`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from autolabel.core.assemble import Follow
from autolabel.core.detections import FrameLabels
from autolabel.protocols import Tracker

MIN_OVERLAP = 0.1
LOST_S = 1.0
LOST_SAMPLES = 2
"""An object may be missed for so long, whichever is longer, and come back as itself."""


class BoxTracker:
    """ByteTrack's Kalman filter and assignment over boxes widened on each side by a share of their size.

    The share is the time between two samples in seconds, at most 1: how far an object gets from where it is expected
    grows with that time, and at a frame a second few objects still overlap themselves. The confidence plays no part:
    what was too uncertain to be labelled has been dropped by the class's threshold.
    """

    def __init__(self, samples_per_second: float) -> None:
        # The import takes over a second and only videos need it.
        import supervision
        from trackers import BIoU, ByteTrackTracker

        self._detections = supervision.Detections
        self._tracker = ByteTrackTracker(
            lost_track_buffer=max(LOST_SAMPLES, round(LOST_S * samples_per_second)),
            frame_rate=30.0,  # the library's unit for the line above: it then counts samples
            track_activation_threshold=0.0,
            high_conf_det_threshold=0.0,
            minimum_consecutive_frames=1,
            minimum_iou_threshold=MIN_OVERLAP,
            iou=BIoU(buffer_ratio=min(1.0, 1 / samples_per_second)),
        )
        self._next_id = 0

    def step(self, boxes_xyxy_px: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.int32]:
        places = np.arange(len(scores))
        found = self._detections(xyxy=boxes_xyxy_px.astype(np.float64), confidence=scores, data={"place": places})
        answer = self._tracker.update(found)
        ids = np.full(len(scores), -1, np.int32)
        if answer.tracker_id is not None and len(answer):
            ids[answer.data["place"]] = answer.tracker_id
        # The library names a track at its second sight only: name it at the first, where it lists it in this order.
        unnamed = [track for track in self._tracker.tracks if track.tracker_id == -1]
        new = [place for place in answer.data.get("place", ()) if ids[place] == -1]
        for track, place in zip(unnamed, new, strict=True):
            track.tracker_id = ids[place] = self._next_id
            self._next_id += 1
        return ids


def by_class(make_tracker: Callable[[], Tracker]) -> Follow:
    """Follow each class by a tracker of its own, over the frames of one video in order."""
    trackers: dict[str, Tracker] = {}

    def follow(frame: FrameLabels) -> Sequence[int]:
        classes = np.array([found.feature_hash for found in frame.detections], np.str_)
        ids = np.empty(len(classes), np.int32)
        for name in sorted(trackers.keys() | set(classes.tolist())):
            mine = classes == name
            boxes = np.array([found.box_xyxy_px for found in frame.detections], np.float32).reshape(-1, 4)
            scores = np.array([found.score for found in frame.detections], np.float32)
            if name not in trackers:
                trackers[name] = make_tracker()
            ids[mine] = trackers[name].step(boxes[mine], scores[mine])
        return [int(track) for track in ids]

    return follow

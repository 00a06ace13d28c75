"""What a report shows of a run, gathered while rows go by: the pictures worth a look, and every score."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import cv2

from autolabel.core.assemble import Instance, Placement
from autolabel.core.overlay import Mark, caption_font_px, marks, tint
from autolabel.core.picks import Picks, spread
from autolabel.core.rows import LabelRow, OntologyClass
from autolabel.errors import PermanentMediaError, PermanentModelError
from autolabel.protocols import RGB, Clip, FrameReader

PICTURE_SIDE_PX = 720
STRIP_FRAMES = 8
STRIP_SIDE_PX = 360
BINS = 20
JPEG_QUALITY = 80


@dataclass(frozen=True)
class Picture:
    """One frame as it is shown: a JPEG and what lies over it; `time_s` is its place in a video."""

    frame_index: int
    time_s: float | None
    width_px: int
    height_px: int
    jpeg_base64: str
    font_px: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Card:
    """One row as it is shown; `found` is (class, best and lowest score, objects) for each class on it."""

    row: LabelRow
    found: tuple[tuple[OntologyClass, float, float, int], ...]
    pictures: tuple[Picture, ...]


@dataclass
class Histogram:
    """Scores of one class on all frames, in BINS equal parts of [0, 1]."""

    counts: list[int] = field(default_factory=lambda: [0] * BINS)

    def add(self, score: float) -> None:
        self.counts[min(BINS - 1, int(score * BINS))] += 1


class Album:
    """A `Gallery` of bounded size: pictures are shrunk, and only those that may be shown are kept.

    `seed` decides the random sample; without a `reader` no picture is read or kept.
    """

    def __init__(self, classes: Sequence[OntologyClass], seed: str, reader: FrameReader | None) -> None:
        self.rows = 0
        self.scores: dict[str, Histogram] = {}
        self._classes = {item.feature_hash: item for item in classes}
        self._reader = reader
        self._picks = Picks(seed)
        self._cards: dict[str, Card] = {}

    def add(self, row: LabelRow, instances: Sequence[Instance], clips: Sequence[Clip]) -> None:
        self.rows += 1
        for item in instances:
            for place in item.placements:
                self.scores.setdefault(item.feature_hash, Histogram()).add(place.detection.score)
        if not self._picks.offer(row.data_hash, instances):
            return
        self._cards[row.data_hash] = Card(row, self._found(instances), tuple(self._pictures(instances, clips)))
        for gone in self._cards.keys() - self._picks.held:
            del self._cards[gone]

    def shelves(self) -> list[tuple[str, list[Card]]]:
        """(title, cards), the worst first and a random sample last; a row is on one of them only."""
        return [(title, [self._cards[key] for key in keys]) for title, keys in self._picks.chosen()]

    def _found(self, instances: Sequence[Instance]) -> tuple[tuple[OntologyClass, float, float, int], ...]:
        by_class: dict[str, list[Instance]] = {}
        for item in instances:
            by_class.setdefault(item.feature_hash, []).append(item)
        found = []
        for feature_hash, items in by_class.items():
            scores = [place.detection.score for item in items for place in item.placements]
            found.append((self._class(feature_hash), max(scores), min(scores), len(items)))
        return tuple(sorted(found, key=lambda entry: entry[2]))

    def _class(self, feature_hash: str) -> OntologyClass:
        """One that the ontology has lost since, which only a publish can meet, is shown by its hash."""
        return self._classes.get(feature_hash) or OntologyClass(feature_hash, feature_hash, "", "")

    def _pictures(self, instances: Sequence[Instance], clips: Sequence[Clip]) -> Iterator[Picture]:
        """A still picture large; of several frames a strip, evenly spread. What cannot be read is not shown."""
        if self._reader is None:
            return
        looked_at = [index for clip in clips for index in clip.frame_indices]
        wanted = set(spread(looked_at, STRIP_FRAMES))
        side_px = PICTURE_SIDE_PX if len(looked_at) == 1 else STRIP_SIDE_PX
        places: dict[int, list[tuple[OntologyClass, Placement]]] = {}
        for item in instances:
            for place in item.placements:
                places.setdefault(place.frame_index, []).append((self._class(item.feature_hash), place))
        try:
            for clip in clips:
                shown = [index for index in clip.frame_indices if index in wanted]
                for index, picture, time_s in frames(self._reader, replace(clip, frame_indices=shown)):
                    yield frame_picture(index, time_s, picture, places.get(index, []), side_px)
        except (PermanentMediaError, PermanentModelError):  # the second: nothing can be decoded here just now
            return


def frames(reader: FrameReader, clip: Clip) -> Iterator[tuple[int, RGB, float | None]]:
    """(frame index, picture, time in seconds: of a video only)."""
    if clip.frame_indices:
        times_s = None if clip.video_frames is None else reader.frame_times_s(clip)
        for index, picture in reader.read(clip):
            yield index, picture, None if times_s is None else float(times_s[index])


def frame_picture(
    frame_index: int,
    time_s: float | None,
    picture: RGB,
    places: Sequence[tuple[OntologyClass, Placement]],
    side_px: int,
) -> Picture:
    """One frame as it is shown, no side longer than `side_px`, with what lies over it."""
    shown = tint(picture, places, side_px)
    height, width = shown.shape[:2]
    ok, jpeg = cv2.imencode(".jpg", shown[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert ok
    encoded = base64.b64encode(jpeg.tobytes()).decode()
    font_px = caption_font_px(width, height)
    return Picture(frame_index, time_s, width, height, encoded, font_px, tuple(marks(places, width, height, font_px)))

"""What a report shows of a run, gathered while rows go by: the pictures worth a look, and every score."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2

from autolabel.core.assemble import Instance, Placement
from autolabel.core.overlay import Mark, caption_font_px, marks, tint
from autolabel.core.picks import Picks, spread
from autolabel.core.rows import LabelRow, OntologyClass
from autolabel.errors import PermanentMediaError
from autolabel.protocols import RGB, Clip, FrameReader

PICTURE_SIDE_PX = 720
STRIP_FRAMES = 8
STRIP_SIDE_PX = 360
BINS = 20
JPEG_QUALITY = 80


@dataclass(frozen=True)
class Picture:
    """One frame as it is shown: a JPEG and what lies over it."""

    frame_index: int
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

    @property
    def objects(self) -> int:
        return sum(count for *_, count in self.found)


@dataclass
class Histogram:
    """Scores of one class on all frames, in BINS equal parts of [0, 1]."""

    counts: list[int] = field(default_factory=lambda: [0] * BINS)

    def add(self, score: float) -> None:
        self.counts[min(BINS - 1, int(score * BINS))] += 1


class Album:
    """A `Gallery` of bounded size: pictures are shrunk, and only those that may be shown are kept.

    `seed` decides the random sample; without `read_frames` no picture is read or kept.
    """

    def __init__(self, classes: Sequence[OntologyClass], seed: str, read_frames: FrameReader | None) -> None:
        self.rows = 0
        self.scores: dict[str, Histogram] = {}
        self._classes = {item.feature_hash: item for item in classes}
        self._read_frames = read_frames
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
            found.append((self._classes[feature_hash], max(scores), min(scores), len(items)))
        return tuple(sorted(found, key=lambda entry: entry[2]))

    def _pictures(self, instances: Sequence[Instance], clips: Sequence[Clip]) -> Iterator[Picture]:
        """A still picture large; of several frames a strip, evenly spread. What cannot be read is not shown."""
        if self._read_frames is None:
            return
        frames = [index for clip in clips for index in clip.frame_indices]
        wanted = set(spread(frames, STRIP_FRAMES))
        side_px = PICTURE_SIDE_PX if len(frames) == 1 else STRIP_SIDE_PX
        places = _by_frame(instances, self._classes)
        try:
            for clip in clips:
                if wanted.intersection(clip.frame_indices):
                    yield from (
                        _picture(index, picture, places.get(index, []), side_px)
                        for index, picture in self._read_frames(clip)
                        if index in wanted
                    )
        except PermanentMediaError:
            return


def _by_frame(
    instances: Sequence[Instance], classes: Mapping[str, OntologyClass]
) -> dict[int, list[tuple[OntologyClass, Placement]]]:
    places: dict[int, list[tuple[OntologyClass, Placement]]] = {}
    for item in instances:
        for place in item.placements:
            places.setdefault(place.frame_index, []).append((classes[item.feature_hash], place))
    return places


def _picture(
    frame_index: int, picture: RGB, places: Sequence[tuple[OntologyClass, Placement]], side_px: int
) -> Picture:
    shown = tint(picture, places, side_px)
    height, width = shown.shape[:2]
    ok, jpeg = cv2.imencode(".jpg", shown[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert ok
    encoded = base64.b64encode(jpeg.tobytes()).decode()
    font_px = caption_font_px(width, height)
    return Picture(frame_index, width, height, encoded, font_px, tuple(marks(places, width, height, font_px)))

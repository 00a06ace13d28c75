"""Holds what is found on a row beside what people drew there, while rows go by, and keeps pictures of the worst."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from autolabel.album import PICTURE_SIDE_PX, Picture, frame_picture, frames
from autolabel.core.assemble import Instance, Placement
from autolabel.core.detections import Detection
from autolabel.core.rows import LabelRow, OntologyClass
from autolabel.errors import PermanentMediaError, PermanentModelError
from autolabel.evaluation.costs import Costs, edit_seconds
from autolabel.evaluation.matching import explain, outcomes
from autolabel.evaluation.values import JudgedFrame
from autolabel.protocols import Clip, Drawn, FrameReader
from autolabel.recipe import Recipe

WORST = 12
RIGHT, FALSE, MISSED = "#2a9d4b", "#d33115", "#2f6fde"


@dataclass(frozen=True)
class Miss:
    """The worst frame of a row: drawn over it what was found rightly, found falsely, and missed.

    `edit_s`: seconds of work on it at the recipe's thresholds.
    """

    row: LabelRow
    picture: Picture
    text: str
    edit_s: float


class Judging:
    """A `Gallery` that is told of rows as they are inferred; nothing is written.

    - `recipe`: with the thresholds that a push would use; what is found may score less.
    - `drawn`: data hash -> what people drew in the rows that are judged.
    - `rows`: those of which at least one frame was judged.
    - `unlabelled_frames`: frames of videos that were looked at and on which people drew nothing at all: whether they
      looked there is not known, so these are not judged.
    """

    def __init__(
        self, recipe: Recipe, drawn: Mapping[str, Drawn], costs: Costs, reader: FrameReader | None = None
    ) -> None:
        self.rows: list[LabelRow] = []
        self.unlabelled_frames = 0
        self._frames: dict[str, list[JudgedFrame]] = {}
        self.recipe, self.costs = recipe, costs
        self._drawn, self._reader = drawn, reader
        self._thresholds = {cls.feature_hash: cls.threshold for cls in recipe.plan.classes}
        self._worst: list[tuple[float, int, Miss]] = []

    def add(self, row: LabelRow, instances: Sequence[Instance], clips: Sequence[Clip]) -> None:
        judged = list(self._judged(row, instances, clips))
        if not judged:
            return
        self.rows.append(row)
        self._frames[row.data_hash] = [frame for _, frame in judged]
        cost_s, index = max((self._seconds(frame), -index) for index, frame in judged)
        if self._reader is None or cost_s <= 0 or (len(self._worst) == WORST and -cost_s >= self._worst[-1][0]):
            return
        if miss := self._miss(row, clips, -index, dict(judged)[-index], cost_s):
            insort(self._worst, (-cost_s, len(self.rows), miss))
            del self._worst[WORST:]

    def frames(self, rows: Sequence[LabelRow]) -> list[JudgedFrame]:
        """The judged frames of these rows, whose places are the frames' units."""
        return [replace(frame, unit=i) for i, row in enumerate(rows) for frame in self._frames[row.data_hash]]

    def worst(self) -> list[Miss]:
        """The frames on which most would be to do, one a row."""
        return [miss for _, _, miss in self._worst]

    def _judged(
        self, row: LabelRow, instances: Sequence[Instance], clips: Sequence[Clip]
    ) -> Iterator[tuple[int, JudgedFrame]]:
        found: dict[int, list[Detection]] = {}
        for item in instances:
            for place in item.placements:
                found.setdefault(place.frame_index, []).append(place.detection)
        labelled = {frame.frame_index: frame.detections for frame in self._drawn[row.data_hash].frames}
        for clip in clips:
            for index in clip.frame_indices:
                if row.is_video and index not in labelled:
                    self.unlabelled_frames += 1
                    continue
                truth = tuple(it for it in labelled.get(index, ()) if it.feature_hash in self._thresholds)
                seen = tuple(found.get(index, ()))
                yield index, JudgedFrame(0, clip.width_px, clip.height_px, seen, truth)

    def _seconds(self, frame: JudgedFrame) -> float:
        shapes = self.recipe.shapes
        alone = outcomes([frame], shapes, 1)
        return sum(
            float(edit_seconds(alone[key], threshold, shapes[key], self.costs).sum())
            for key, threshold in self._thresholds.items()
        )

    def _miss(
        self, row: LabelRow, clips: Sequence[Clip], index: int, frame: JudgedFrame, cost_s: float
    ) -> Miss | None:
        """None where the picture cannot be read again."""
        assert self._reader is not None
        clip = next(clip for clip in clips if index in clip.frame_indices)
        match = explain(frame, self.recipe.shapes, self._thresholds)
        places = [
            *(self._place("", RIGHT, index, frame, frame.found[i]) for i, _ in match.right),
            *(self._place("false: ", FALSE, index, frame, frame.found[i]) for i in match.false),
            *(self._place("missed: ", MISSED, index, frame, frame.truth[i]) for i in match.missed),
        ]
        text = f"{len(match.right)} right, {len(match.false)} false, {len(match.missed)} missed"
        try:
            ((_, picture, time_s),) = frames(self._reader, replace(clip, frame_indices=[index]))
        except (PermanentMediaError, PermanentModelError):
            return None
        return Miss(row, frame_picture(index, time_s, picture, places, PICTURE_SIDE_PX), text, cost_s)

    def _place(
        self, what: str, color: str, index: int, frame: JudgedFrame, found: Detection
    ) -> tuple[OntologyClass, Placement]:
        cls = next(cls for cls in self.recipe.plan.classes if cls.feature_hash == found.feature_hash)
        shown = OntologyClass(cls.feature_hash, f"{what}{cls.name}", cls.shape, color)
        return shown, Placement(index, frame.width_px, frame.height_px, found)

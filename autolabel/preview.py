"""What a push would find, with nothing written anywhere: on files of this machine, or on a project's rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path

from autolabel.core.assemble import assemble
from autolabel.core.detections import FrameLabels
from autolabel.core.prompts import Shape
from autolabel.core.rows import LabelRow, OntologyClass, Reason
from autolabel.engine import in_batches, infer_isolated, prefetch
from autolabel.errors import PermanentMediaError, TransientError
from autolabel.plan import Options
from autolabel.protocols import Clip, ClipFailure, Gallery, Inference
from autolabel.recipe import Recipe
from autolabel.sync import Tally, joined

Download = Callable[[LabelRow, Path], list[Clip]]

COLORS = (
    "#d33115",
    "#2f6fde",
    "#2a9d4b",
    "#e27300",
    "#8e44ad",
    "#0fa3b1",
    "#d6a400",
    "#c2185b",
    "#5d7a1f",
    "#7a5230",
)


def invent_classes(shapes: Mapping[str, Shape]) -> tuple[OntologyClass, ...]:
    """An ontology of those names and shapes, for files that no platform has one for; a name is its feature hash."""
    return tuple(
        OntologyClass(name, name, shape, color)
        for (name, shape), color in zip(shapes.items(), cycle(COLORS), strict=False)
    )


class Preview:
    """Looks at rows as a run does, up to the point where a run would write.

    `download` spools a row's media as `Source.download` does. `tally.labelled` counts rows on which something is
    found, `tally.objects` what is found.
    """

    def __init__(self, recipe: Recipe, download: Download, inference: Inference, gallery: Gallery) -> None:
        self.tally = Tally()
        self._recipe, self._download, self._inference, self._gallery = recipe, download, inference, gallery

    def execute(
        self, rows: Iterable[LabelRow], spool: Path, options: Options, on_step: Callable[[Tally], None]
    ) -> Tally:
        """`spool` is a folder that the caller empties afterwards; `on_step` is called after each batch."""
        size, threads = options.batch_rows, options.download_threads
        fetched = prefetch(rows, partial(self._fetch, spool), threads, 2 * size + threads)
        for batch in in_batches(fetched, size):
            self._look_at(batch)
            on_step(self.tally)
        return self.tally

    def _fetch(self, spool: Path, row: LabelRow) -> list[Clip] | ClipFailure:
        try:
            return self._download(row, spool)
        except PermanentMediaError as error:
            return ClipFailure(Reason(error.reason), str(error))
        except TransientError as error:
            return ClipFailure(Reason.DOWNLOAD, str(error))

    def _look_at(self, batch: Sequence[tuple[LabelRow, list[Clip] | ClipFailure]]) -> None:
        ready = [(row, clips) for row, clips in batch if isinstance(clips, list)]
        for row, failure in batch:
            if isinstance(failure, ClipFailure):
                self._fail(row, failure)
        every = [clip for _, clips in ready for clip in clips]
        answers = iter(infer_isolated(self._inference, every) if every else ())
        for row, clips in ready:
            self._settle(row, clips, joined([next(answers) for _ in clips]))

    def _settle(self, row: LabelRow, clips: Sequence[Clip], frames: list[FrameLabels] | ClipFailure) -> None:
        if isinstance(frames, ClipFailure):
            self._fail(row, frames)
        else:
            self.tally.count_dropped(frames, self._recipe.shapes)
            instances = assemble(frames, self._recipe.shapes, self._recipe.id, row.data_hash)
            self.tally.labelled += bool(instances)
            self.tally.empty += not instances
            self.tally.objects.update(item.feature_hash for item in instances)
            self._gallery.add(row, instances, clips)
        for clip in clips:
            clip.path.unlink(missing_ok=True)

    def _fail(self, row: LabelRow, failure: ClipFailure) -> None:
        self.tally.set_aside[failure.reason] += 1
        self.tally.messages.append(f"{row.title}: {failure.message}")

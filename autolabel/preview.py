"""What a push would find, with nothing written anywhere: on files of this machine, or on a project's rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from autolabel.core.prompts import Shape
from autolabel.core.rows import Destination, LabelRow, OntologyClass, Reason
from autolabel.errors import PermanentMediaError, TransientError
from autolabel.inferring import Eyes, Inferring
from autolabel.plan import Options
from autolabel.protocols import Clip, Gallery
from autolabel.recipe import Recipe
from autolabel.states import Job
from autolabel.tally import Tally

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


def preview(
    recipe: Recipe,
    eyes: Eyes,
    rows: Sequence[LabelRow],
    gallery: Gallery,
    options: Options,
    on_step: Callable[[Tally], None],
) -> Tally:
    """Look at rows as a run does, up to the point where a run would write.

    The ledger of `eyes` is one for this preview alone. `tally.labelled` counts rows on which something is found,
    `tally.objects` what is found; `on_step` is called after each batch.
    """
    tally = Tally()
    job = Job("", recipe.id, Destination.BRANCH)

    def download(row: LabelRow, folder: Path) -> list[Clip]:
        try:
            return eyes.download(row, folder)
        except TransientError as error:  # there is no next run to wait for
            raise PermanentMediaError(Reason.DOWNLOAD, str(error)) from error

    eyes.meter.start()
    inferring = Inferring(replace(eyes, download=download), job, recipe, "preview", tally)
    with closing(inferring.rows(rows, frozenset(), {}, options, on_step)) as stream:
        for row, failure in stream:
            clips = inferring.clips.pop(row.data_hash, [])
            if failure:
                tally.set_aside[failure.reason] += 1
                tally.messages.append(f"{row.title}: {failure.message}")
            else:
                instances = inferring.assemble(row)
                tally.labelled += bool(instances)
                tally.empty += not instances
                tally.objects.update(item.feature_hash for item in instances)
                gallery.add(row, instances, clips)
            for clip in clips:
                clip.path.unlink(missing_ok=True)
    tally.speed = eyes.meter.speed(tally.inferred_frames)
    return tally

"""Wires what only looks: previews and trials. Nothing is written to any platform."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from autolabel.bootstrap import (
    make_recipe,
    new_album,
    new_id,
    open_inference,
    picture_reader,
    read_prompt_map,
    ssh_key,
)
from autolabel.core.prompts import Shape
from autolabel.core.rows import LABELLED_TYPES, LabelRow, Project, Workflow, in_queue_order
from autolabel.database import Database
from autolabel.errors import PermanentUsageError
from autolabel.home import open_ledger, spooling
from autolabel.inferring import Eyes
from autolabel.ledger import Ledger
from autolabel.plan import Options
from autolabel.preview import invent_classes, preview
from autolabel.protocols import Clip, Gallery, Source
from autolabel.recipe import Recipe, load_config
from autolabel.settings import Settings, project_hash
from autolabel.stages import Meter
from autolabel.tally import Tally

if TYPE_CHECKING:
    from autolabel.album import Album
    from autolabel.report import Page
    from autolabel.trial import Finished, Trial


@dataclass(frozen=True)
class Glance:
    """Rows to preview, what to look for on them, how their media come, and how many other files there were."""

    project: Project
    recipe: Recipe
    rows: Sequence[LabelRow]
    download: Callable[[LabelRow, Path], list[Clip]]
    others: int = 0
    abandon: Callable[[], None] = lambda: None


def glance_at_files(settings: Settings, paths: Sequence[Path], prompts: str | None) -> Glance:
    """Files of this machine, for `prompts` ("a, b") or else the recipe's prompt map. No platform, no key."""
    from autolabel.models import BRINGS_MASKS
    from autolabel.remote.local import link_local, local_rows, readable

    rows, others = local_rows(paths)
    config = load_config(settings.config)
    shape: Shape = "bitmask" if config.segmenter or config.detector.family in BRINGS_MASKS else "bounding_box"
    if prompts is not None:
        config = config.model_copy(update={"prompt_map": None})
        shapes = dict.fromkeys((name.strip() for name in prompts.split(",") if name.strip()), shape)
    else:
        asked = read_prompt_map(config)
        shapes = {name: own.shape or shape for name, own in asked.content.classes.items()} if asked else {}
    if not shapes:
        raise PermanentUsageError('no prompts: give --prompts "a, b", or a recipe with a prompt map (--config)')
    title = readable(paths[0].name or str(paths[0])) + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    project = Project("", title, Workflow(()), invent_classes(shapes))
    recipe, _ = make_recipe(config, project)
    return Glance(project, recipe, rows, partial(link_local, max_pixels=settings.max_image_pixels), others)


def glance_at_project(settings: Settings, project: str) -> Glance:
    """A project's rows in the queue's order, those that nobody opened first; the platform is only read."""
    from autolabel.remote.client import connect
    from autolabel.remote.source import EncordSource

    connection = connect(project_hash(project), settings.domain, ssh_key(settings))
    source = EncordSource(connection, settings.max_media_bytes)
    found = source.project()
    recipe, _ = make_recipe(load_config(settings.config), found)
    rows = [row for row in in_queue_order(source.rows()) if row.data_type in LABELLED_TYPES]
    rows.sort(key=lambda row: row.label_hash is not None)
    return Glance(found, recipe, rows, source.download, abandon=source.abandon)


def run_preview(
    settings: Settings, glance: Glance, limit: int, on_step: Callable[[Tally], None], *, is_reference: bool = False
) -> tuple[Page, Album]:
    """Look at the first `limit` rows; what the report says of them, and shows."""
    from autolabel.report import preview_page

    preview_id = f"preview-{new_id()}"
    shown = replace(glance, rows=glance.rows[:limit])
    with new_album(settings, glance.project.classes, preview_id) as album:
        tally = _look(settings, preview_id, shown, album, on_step, is_reference=is_reference)
    beyond = max(0, len(glance.rows) - limit)
    unseen = {"beyond --limit, not looked at": beyond, "neither pictures nor videos by their names": glance.others}
    page = preview_page(preview_id, glance.project, glance.recipe, tally, settings.domain, unseen)
    return page, album


def open_finished(settings: Settings, project: str, stage: str | None, rows: int) -> tuple[Finished, Source]:
    """Finished rows of a project, chosen for a trial, and what they were read from; the platform is only read."""
    from autolabel.remote.client import connect
    from autolabel.remote.source import EncordSource
    from autolabel.trial import find_finished

    connection = connect(project_hash(project), settings.domain, ssh_key(settings))
    source = EncordSource(connection, settings.max_media_bytes)
    found = source.project()
    with closing(open_ledger(settings)) as ledger:
        ours = ledger.our_hashes(found.project_hash).keys()
    return find_finished(source, found, ours, stage, rows), source


def run_trials(
    settings: Settings,
    finished: Finished,
    source: Source,
    prompt_maps: Sequence[str | None],
    progress: Callable[[int], AbstractContextManager[Callable[[Tally], None]]],
    *,
    is_reference: bool = False,
) -> list[Trial]:
    """A trial with each prompt map (None: the recipe's own) on the same rows; the platform is only read.

    `progress`: how many rows -> told of each step through them, anew for each prompt map.
    """
    from autolabel.judging import Judging
    from autolabel.trial import conclude, probing

    config = load_config(settings.config).model_copy(update={"confidence": "raw"})  # a trial makes what calibrates
    configs = [config.model_copy(update={"prompt_map": name}) if name else config for name in prompt_maps]
    recipes = [make_recipe(each, finished.project)[0] for each in configs]
    looks = []
    for recipe in recipes:
        glance = Glance(finished.project, probing(recipe), finished.rows, source.download, abandon=source.abandon)
        trial_id = f"trial-{new_id()}"
        with picture_reader(settings) as reader, progress(len(finished.rows)) as on_step:
            judging = Judging(recipe, finished.drawn, settings.costs, reader)
            tally = _look(settings, trial_id, glance, judging, on_step, is_reference=is_reference)
        looks.append((trial_id, judging, tally))
    judged = [row for row in finished.rows if all(row in judging.rows for _, judging, _ in looks)]
    return [conclude(trial_id, finished, judging, tally, judged) for trial_id, judging, tally in looks]


def _look(
    settings: Settings,
    look_id: str,
    glance: Glance,
    gallery: Gallery,
    on_step: Callable[[Tally], None],
    *,
    is_reference: bool,
) -> Tally:
    with (
        spooling(settings.home, look_id) as spool,
        closing(Ledger(Database(spool / "ledger.sqlite"), time.time)) as ledger,
        closing(open_inference(settings, glance.recipe, meter := Meter(), is_reference)) as inference,
    ):
        eyes = Eyes(glance.download, inference, ledger, spool, glance.abandon, meter)
        options = Options(batch_frames=settings.batch_frames, download_threads=settings.download_threads)
        return preview(glance.recipe, eyes, glance.rows, gallery, options, on_step)

"""What a video costs from its file to `main`, at the default rate: memory, and bytes of labels.

    pytest tests/sandbox/test_push_size.py -rP

A process of its own for each length plans, decodes, tracks, saves through the SDK and reads back; its objects are
made up (five rings on every frame: two boxes, two polygons, a bitmask), so that what grows is labels only.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from encord.objects import OntologyStructure, Shape

from long_videos import OBJECTS, Finder, draw_minute, peak_rss_mib, repeat
from sandbox.commands import Command
from sandbox.conftest import RunningSandbox, Start
from sandbox.own_project import make_project

SHAPES = (Shape.BOUNDING_BOX, Shape.POLYGON, Shape.BITMASK)


def push_peak_mib(environment: dict[str, str], project_hash: str) -> float:
    """Runs in a process of its own."""
    os.environ.update(environment)
    from autolabel.bootstrap import open_session
    from autolabel.settings import Settings

    with open_session(Settings(), project_hash) as opened:
        finder = Finder([cls.feature_hash for cls in opened.recipe.plan.classes])
        session = replace(opened, ports=replace(opened.ports, inference=finder))
        options = session.options()
        with session.running(session.plan(options)) as (run, _):
            tally = run.execute(options, lambda tally: None)
    assert (tally.labelled, tally.objects.total()) == (1, OBJECTS)
    return peak_rss_mib()


def label_bytes(sandbox: RunningSandbox, project_hash: str) -> int:
    stored = sandbox.admin("GET", f"rows?project={project_hash}")
    (row,) = stored["main"].values()
    return len(json.dumps(row, separators=(",", ":")))


def test_a_push_of_ten_minutes_takes_little_more_memory_than_one_of_one(start: Start, tmp_path: Path) -> None:
    sandbox = start("empty")
    structure = OntologyStructure()
    for shape in SHAPES:
        structure.add_object(str(shape.value), shape)
    draw_minute(tmp_path / "1.mp4")
    repeat(tmp_path / "1.mp4", tmp_path / "10.mp4", 10)
    peaks_mib, bytes_a_frame = {}, {}
    for minutes in (1, 10):
        project = make_project(sandbox, structure, [tmp_path / f"{minutes}.mp4"])
        environment = Command(sandbox, tmp_path / f"home{minutes}").environment()
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks_mib[minutes] = pool.apply(partial(push_peak_mib, environment, project.project_hash))
        size = label_bytes(sandbox, project.project_hash)
        bytes_a_frame[minutes] = size / (60 * minutes)
        print(
            f"{minutes:2} min, {60 * minutes} frames labelled: peak RSS {peaks_mib[minutes]:.0f} MiB, labels "
            f"{size / 1e6:.2f} MB, {bytes_a_frame[minutes]:.0f} bytes a frame of {OBJECTS} objects"
        )
    assert bytes_a_frame[10] <= 1.1 * bytes_a_frame[1]
    assert peaks_mib[10] <= 1.5 * peaks_mib[1]

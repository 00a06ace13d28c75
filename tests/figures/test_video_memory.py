"""Peak memory of a video at native rate, from its file to the ledger: pixels and detections, no labels.

    pytest tests/figures/test_video_memory.py -rP

A process of its own for each length decodes every frame, finds five objects with masks on each, and keeps them.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from functools import partial
from pathlib import Path

from autolabel.core.rows import LabelRow
from autolabel.database import Database
from autolabel.inferring import Eyes, Inferring
from autolabel.ledger import Ledger
from autolabel.plan import Options, make_plan
from autolabel.protocols import Clip
from autolabel.tally import Tally
from long_videos import FPS, HEIGHT_PX, WIDTH_PX, Finder, draw_minute, peak_rss_mib, repeat
from platform_fakes import CAR, RECIPE, FakePlatform, make_row


class VideoPlatform(FakePlatform):
    """One video, whose file lies where it was drawn."""

    def __init__(self, row: LabelRow, path: Path) -> None:
        super().__init__([row])
        self._path = path

    def download(self, row: LabelRow, folder: Path) -> list[Clip]:
        return [Clip(row.data_hash, self._path, range(row.frames), WIDTH_PX, HEIGHT_PX, row.frames)]


def peak_mib(folder: Path, minutes: int) -> float:
    """Runs in a process of its own."""
    row = make_row("film", data_type="video", frames=minutes * 60 * FPS, frames_per_second=float(FPS))
    recipe = replace(RECIPE, config=RECIPE.config.model_copy(update={"video_fps": "native"}))
    platform = VideoPlatform(row, folder / f"{minutes}.mp4")
    ledger = Ledger(Database(folder / f"{minutes}.sqlite"), clock=lambda: 0.0)
    plan = make_plan(platform, ledger, platform.project(), recipe, Options())
    ledger.start_run("run", plan.job, "Film", {})
    tally = Tally()
    eyes = Eyes(platform.download, Finder([CAR.feature_hash]), ledger, folder)
    inferring = Inferring(eyes, plan.job, recipe, "run", tally)
    list(inferring.rows(plan.todo, plan.stored, plan.records, Options(), lambda tally: None))
    assert tally.inferred_frames == row.frames
    ledger.close()
    return peak_rss_mib()


def test_ten_minutes_of_video_take_no_more_memory_than_one(tmp_path: Path) -> None:
    peaks = {}
    draw_minute(tmp_path / "1.mp4")
    repeat(tmp_path / "1.mp4", tmp_path / "10.mp4", 10)
    for minutes in (1, 10):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[minutes] = pool.apply(partial(peak_mib, tmp_path, minutes))
        print(f"{minutes:2} min, {minutes * 60 * FPS} frames: peak RSS {peaks[minutes]:.0f} MiB")
    assert peaks[10] <= 1.1 * peaks[1]

"""Peak memory of a video at native rate, from its file to the ledger: pixels and detections, no labels.

    pytest tests/figures/test_video_memory.py -rP

A process of its own for each length decodes every frame, finds five objects with masks on each, and keeps them.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from autolabel.core.detections import Detection, FrameLabels
from autolabel.core.geometry import mask_from_window
from autolabel.core.rows import LabelRow
from autolabel.inferring import Eyes, Inferring
from autolabel.ledger import Ledger, Move, State
from autolabel.plan import Options, make_plan
from autolabel.protocols import RGB, Clip, ClipFailure
from autolabel.remote.frames import MediaReader
from autolabel.sandbox.media import encode_video
from autolabel.tally import Tally
from autolabel.worker import run_clips
from platform_fakes import CAR, RECIPE, FakePlatform, make_row

WIDTH_PX, HEIGHT_PX, FPS = 320, 180, 25
OBJECTS = 5
MIB = 1024


class VideoPlatform(FakePlatform):
    """One video, whose file lies where it was drawn."""

    def __init__(self, row: LabelRow, path: Path) -> None:
        super().__init__([row])
        self._path = path

    def download(self, row: LabelRow, folder: Path) -> list[Clip]:
        return [Clip(row.data_hash, self._path, range(row.frames), WIDTH_PX, HEIGHT_PX, row.frames)]


class Finder:
    """`Inference` in this process: real decoding, made-up objects."""

    def __init__(self) -> None:
        self._reader = MediaReader(10**7)
        self._mask = mask_from_window(np.random.default_rng(0).random((40, 60)) < 0.5, 10, 10, 0.9)

    def infer(self, clips: Sequence[Clip]) -> list[list[FrameLabels] | ClipFailure]:
        return run_clips(clips, self._reader, self._find, batch_frames=8)

    def _find(self, frames: Sequence[tuple[int, RGB]]) -> list[FrameLabels]:
        found = tuple(
            Detection(CAR.feature_hash, "car", 0.9, (10.0, 10.0, 70.0, 50.0), self._mask) for _ in range(OBJECTS)
        )
        return [FrameLabels(index, WIDTH_PX, HEIGHT_PX, found) for index, _ in frames]

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        return self._reader.frame_times_s(clip)

    def close(self) -> None:
        pass


def draw_minute(path: Path) -> None:
    ramp = np.linspace(0, 255, WIDTH_PX).astype(np.uint8)
    frames = (
        (k / FPS, np.broadcast_to(np.roll(ramp, k)[None, :, None], (HEIGHT_PX, WIDTH_PX, 3)).copy())
        for k in range(60 * FPS)
    )
    encode_video(path, (WIDTH_PX, HEIGHT_PX), frames)


def repeat(minute: Path, path: Path, times: int) -> None:
    """The same minute one time after the other, without encoding it again."""
    with av.open(str(path), "w") as longer:
        stream = None
        for turn in range(times):
            with av.open(str(minute)) as source:
                stream = stream or longer.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.pts is not None and packet.dts is not None and packet.time_base is not None:
                        shift = round(turn * 60 / packet.time_base)
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        longer.mux(packet)


def peak_kib(folder: Path, minutes: int) -> int:
    """Runs in a process of its own."""
    row = make_row("film", data_type="video", frames=minutes * 60 * FPS, frames_per_second=float(FPS))
    recipe = replace(RECIPE, config=RECIPE.config.model_copy(update={"video_fps": "native"}))
    platform = VideoPlatform(row, folder / f"{minutes}.mp4")
    ledger = Ledger(folder / f"{minutes}.sqlite", clock=lambda: 0.0)
    plan = make_plan(platform, ledger, platform.project(), recipe, Options())
    ledger.start_run("run", plan.job, "Film", {})
    ledger.find(plan.job, "run", ["film"])
    ledger.move(plan.job, "run", [Move("film", State.LEASED)])
    tally = Tally()
    eyes = Eyes(platform.download, Finder(), ledger, folder)
    inferring = Inferring(eyes, plan.job, recipe, "run", tally)
    list(inferring.rows(plan.todo, plan.stored, plan.records, Options(), lambda tally: None))
    assert tally.inferred_frames == row.frames
    ledger.close()
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def test_ten_minutes_of_video_take_no_more_memory_than_one(tmp_path: Path) -> None:
    peaks = {}
    draw_minute(tmp_path / "1.mp4")
    repeat(tmp_path / "1.mp4", tmp_path / "10.mp4", 10)
    for minutes in (1, 10):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[minutes] = pool.apply(partial(peak_kib, tmp_path, minutes))
        print(f"{minutes:2} min, {minutes * 60 * FPS} frames: peak RSS {peaks[minutes] / MIB:.0f} MiB")
    assert peaks[10] <= 1.1 * peaks[1]

"""In which order frames are asked for: what it costs to decode them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from autolabel.core.detections import FrameLabels
from autolabel.inferring import Eyes
from autolabel.plan import Options
from autolabel.preview import preview
from autolabel.protocols import RGB, Clip, ClipFailure
from autolabel.worker import run_clips
from ledgers import open_ledger
from platform_fakes import RECIPE, FakeGallery, FakePlatform, make_row


class ForwardReader:
    """A FrameReader of which one file is open and read forwards; `decoded` counts frames, skipped or not."""

    def __init__(self) -> None:
        self.decoded = 0
        self._open = Path()
        self._next = 0

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        self._turn_to(clip, 0)
        return np.arange(clip.video_frames or 0) / 25

    def read(self, clip: Clip) -> Iterator[tuple[int, RGB]]:
        self._turn_to(clip, clip.frame_indices[0])
        for index in clip.frame_indices:
            self.decoded += index + 1 - self._next
            self._next = index + 1
            yield index, np.zeros((clip.height_px, clip.width_px, 3), np.uint8)

    def _turn_to(self, clip: Clip, index: int) -> None:
        if self._open != clip.path or self._next > index:
            self._open, self._next = clip.path, 0


class NearbyInference:
    """An `Inference` in this process that finds nothing."""

    def __init__(self, reader: ForwardReader) -> None:
        self._reader = reader

    def infer(self, clips: Sequence[Clip]) -> list[list[FrameLabels] | ClipFailure]:
        return run_clips(clips, self._reader, self._find, batch_frames=8)

    def _find(self, frames: Sequence[tuple[int, RGB]]) -> list[FrameLabels]:
        return [FrameLabels(index, 100, 50, ()) for index, _ in frames]

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        return self._reader.frame_times_s(clip)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("frames", "batch_frames"), [(36, 8), (36, 64), (5, 8), (96, 8)])
def test_no_frame_of_a_video_is_decoded_twice(tmp_path: Path, frames: int, batch_frames: int) -> None:
    rows = [make_row(f"film-{i}", data_type="video", frames=frames, frames_per_second=25.0) for i in range(5)]
    recipe = replace(RECIPE, config=RECIPE.config.model_copy(update={"video_fps": "native"}))
    platform, reader = FakePlatform([*rows, make_row("still")]), ForwardReader()
    eyes = Eyes(platform.download, NearbyInference(reader), open_ledger(tmp_path), tmp_path)
    options = Options(batch_frames=batch_frames)
    tally = preview(recipe, eyes, platform.rows(), FakeGallery(), options, lambda tally: None)
    assert tally.inferred_frames == reader.decoded == 5 * frames + 1

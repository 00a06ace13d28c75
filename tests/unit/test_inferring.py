"""In which order frames are asked for: what it costs to decode them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from autolabel.batches import run_clips
from autolabel.core.detections import FrameLabels
from autolabel.core.rows import Destination, LabelRow, Reason
from autolabel.errors import Interrupted
from autolabel.inferring import Eyes, Inferring
from autolabel.ledger import Ledger
from autolabel.plan import Options
from autolabel.preview import preview
from autolabel.protocols import RGB, Clip, ClipAnswer, ClipFailure, Pending
from autolabel.states import Job
from autolabel.tally import Tally
from ledgers import open_ledger
from platform_fakes import RECIPE, FakeGallery, FakePlatform, ScriptedInference, make_row

EVERY_FRAME = replace(RECIPE, config=RECIPE.config.model_copy(update={"video_fps": "native"}))


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

    def ask(self, clips: Sequence[Clip]) -> Pending:
        return partial(self._answers, clips)

    def _answers(self, clips: Sequence[Clip]) -> list[ClipAnswer]:
        return run_clips(clips, self._reader, self._find, batch_frames=8)

    def _find(self, frames: Sequence[tuple[int, RGB]]) -> list[FrameLabels]:
        return [FrameLabels(index, 100, 50, ()) for index, _ in frames]

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        return self._reader.frame_times_s(clip)

    def close(self) -> None:
        pass


class WatchedInference(ScriptedInference):
    """Notes how often each row's attempt is counted while a question is answered; a signal comes at `dies_at`."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.attempts: list[dict[str, int]] = []
        self._ledger = ledger

    def ask(self, clips: Sequence[Clip]) -> Pending:
        answers = super().ask(clips)

        def watched() -> list[ClipAnswer]:
            self.attempts.append(self.counted())
            return answers()

        return watched

    def counted(self) -> dict[str, int]:
        found = self._ledger.records(Job("", EVERY_FRAME.id, Destination.BRANCH))
        return {key: record.attempts for key, record in found.items() if record.attempts}


def look(folder: Path, inference: WatchedInference, ledger: Ledger, *rows: LabelRow) -> None:
    eyes = Eyes(FakePlatform(rows).download, inference, ledger, folder)
    preview(EVERY_FRAME, eyes, rows, FakeGallery(), Options(batch_frames=2), lambda tally: None)


def test_an_attempt_is_counted_once_for_every_row_that_is_at_work(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    inference = WatchedInference(ledger)
    look(tmp_path, inference, ledger, *(make_row(name) for name in "abcde"))
    assert inference.attempts == [dict.fromkeys(names, 1) for names in ("abcd", "cde", "e")]
    assert inference.counted() == {}


def test_a_video_of_which_a_question_is_open_stays_counted_when_one_before_it_is_kept(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    inference = WatchedInference(ledger)
    look(tmp_path, inference, ledger, make_row("film", data_type="video", frames=96, frames_per_second=25.0))
    assert inference.attempts == [{"film": 1}] * 3
    assert inference.counted() == {}


def test_a_signal_gives_every_open_attempt_back(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    inference = WatchedInference(ledger)
    inference.dies_at = 40
    with pytest.raises(Interrupted):
        look(tmp_path, inference, ledger, make_row("film", data_type="video", frames=96, frames_per_second=25.0))
    assert inference.counted() == {}


class OneBadFile(WatchedInference):
    """Cannot read the file of row `bad`; a signal comes when row `later` is looked at."""

    def _answers(self, clips: Sequence[Clip]) -> list[ClipAnswer]:
        if any(clip.data_hash == "later" for clip in clips):
            raise Interrupted
        found = super()._answers(clips)
        broken = ClipFailure(Reason.DECODE, "no picture")
        return [broken if clip.data_hash == "bad" else answer for clip, answer in zip(clips, found, strict=True)]


def test_a_signal_while_a_bad_file_waits_for_other_answers_counts_against_no_row(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    inference = OneBadFile(ledger)
    with pytest.raises(Interrupted):
        look(tmp_path, inference, ledger, *(make_row(name) for name in ("good", "bad", "later")))
    assert inference.counted() == {}


@pytest.mark.parametrize(("frames", "batch_frames"), [(36, 8), (36, 64), (5, 8), (96, 8)])
def test_no_frame_of_a_video_is_decoded_twice(tmp_path: Path, frames: int, batch_frames: int) -> None:
    rows = [make_row(f"film-{i}", data_type="video", frames=frames, frames_per_second=25.0) for i in range(5)]
    platform, reader = FakePlatform([*rows, make_row("still")]), ForwardReader()
    eyes = Eyes(platform.download, NearbyInference(reader), open_ledger(tmp_path), tmp_path)
    options = Options(batch_frames=batch_frames)
    tally = preview(EVERY_FRAME, eyes, platform.rows(), FakeGallery(), options, lambda tally: None)
    assert tally.inferred_frames == reader.decoded == 5 * frames + 1


@pytest.mark.parametrize(("kind", "frames", "most"), [("image", 1, 20), ("img_group", 3, 4)])
def test_long_rows_are_downloaded_a_few_at_a_time(tmp_path: Path, kind: str, frames: int, most: int) -> None:
    listed = [make_row(f"row-{i}", data_type=kind, frames=frames) for i in range(40)]
    platform, spooled = FakePlatform(listed), set[str]()

    def download(row: LabelRow, folder: Path) -> list[Clip]:
        spooled.add(row.data_hash)
        return platform.download(row, folder)

    eyes = Eyes(download, ScriptedInference(), open_ledger(tmp_path), tmp_path)
    job = Job("", RECIPE.id, Destination.BRANCH)
    stream = Inferring(eyes, job, RECIPE, "run", Tally()).rows(
        listed, frozenset(), {}, Options(batch_frames=2, download_threads=16), lambda tally: None
    )
    next(stream)
    stream.close()
    assert len(spooled) <= most + 2 * 2

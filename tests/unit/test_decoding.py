"""The process is real here; what it reads with misbehaves by the name of a clip."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from PIL import Image

from autolabel.core.rows import Reason
from autolabel.decoder import SLOTS
from autolabel.decoding import DecodeProcess, Limits
from autolabel.errors import PermanentMediaError, PermanentModelError
from autolabel.protocols import Clip
from autolabel.remote.frames import MediaReader
from poison import LIES, PoisonReader, fail_to_start, told_by
from videos import HEIGHT_PX, WIDTH_PX, film, number_of

MAX_PIXELS = 10_000
IMPATIENT = Limits(grace_s=0.5, frame_s=0.0)


def clip_of(name: str, frames: int = 1, path: Path = Path("nowhere")) -> Clip:
    return Clip(name, path, range(frames), 8, 6, video_frames=frames)


@pytest.fixture(scope="module")
def reader() -> Iterator[DecodeProcess]:
    reader = DecodeProcess(PoisonReader, MAX_PIXELS)
    yield reader
    reader.close()


def pid_of(reader: DecodeProcess) -> int:
    ((_, picture),) = reader.read(clip_of("row"))
    return told_by(picture)[0]


def refused(reader: DecodeProcess, clip: Clip) -> PermanentMediaError:
    with pytest.raises(PermanentMediaError) as caught:
        list(reader.read(clip))
    return caught.value


def test_frames_come_in_order_out_of_one_other_process(reader: DecodeProcess) -> None:
    frames = list(reader.read(clip_of("film", 3 * SLOTS + 1)))
    assert [index for index, _ in frames] == [told_by(picture)[1] for _, picture in frames]
    assert {told_by(picture)[0] for _, picture in frames} == {pid_of(reader)}
    assert pid_of(reader) != os.getpid()


def test_a_long_question_is_asked_in_parts(reader: DecodeProcess) -> None:
    assert [index for index, _ in reader.read(clip_of("film", 600))] == list(range(600))
    assert list(reader.read(replace(clip_of("film", 9), frame_indices=[]))) == []


def test_pictures_and_videos_are_what_they_are_without_the_process(tmp_path: Path) -> None:
    Image.effect_noise((31, 17), 80).convert("RGB").save(tmp_path / "a.png")
    still = Clip("still", tmp_path / "a.png", range(5, 6), 31, 17)
    video = Clip("film", film(tmp_path / "a.mp4"), range(60), WIDTH_PX, HEIGHT_PX, 60)
    near, far = MediaReader(MAX_PIXELS), DecodeProcess(MediaReader, MAX_PIXELS)
    for (index, picture), (same, expected) in zip(far.read(still), near.read(still), strict=True):
        assert index == same == 5
        assert (picture == expected).all()
    parts = (replace(video, frame_indices=range(k, k + 20)) for k in (0, 20, 40))
    assert [number_of(picture) for part in parts for _, picture in far.read(part)] == list(range(60))
    assert (far.frame_times_s(video) == near.frame_times_s(video)).all()
    far.close()


@pytest.mark.parametrize(
    ("name", "reason", "message"),
    [
        ("abort", Reason.CRASH, f"signal {signal.SIGABRT.value}), 2 times"),
        ("segfault-late", Reason.CRASH, f"signal {signal.SIGSEGV.value}), 2 times"),
        ("allocate", Reason.TOO_LARGE, "more memory than a picture of its size needs, 2 times"),
        ("bad-late", Reason.DECODE, "a bad \ufffd[31mfile"),
        ("bug", Reason.DECODE, "its file cannot be decoded: ZeroDivisionError"),
        *((name, Reason.CRASH, "nonsense, 2 times") for name in LIES),
    ],
)
def test_whatever_a_file_does_to_the_process_is_its_own_failure_and_stops_no_other(
    reader: DecodeProcess, name: str, reason: Reason, message: str
) -> None:
    side_px = 10**5 if name == "lie-room" else 8
    error = refused(reader, replace(clip_of(name, 2), width_px=side_px, height_px=side_px))
    assert (error.reason, message in str(error)) == (reason, True), str(error)
    assert pid_of(reader)


@pytest.mark.parametrize("name", ["abort", "bad", "lie-no-json"])
def test_so_it_is_where_only_the_times_of_frames_are_asked_for(reader: DecodeProcess, name: str) -> None:
    with pytest.raises(PermanentMediaError):
        reader.frame_times_s(clip_of(name, 2))
    assert len(reader.frame_times_s(clip_of("film", 2))) == 2


def test_a_file_that_is_refused_costs_no_process(reader: DecodeProcess) -> None:
    before = pid_of(reader)
    refused(reader, clip_of("bad"))
    assert pid_of(reader) == before


def test_a_process_that_loops_is_ended_and_its_file_to_blame() -> None:
    reader = DecodeProcess(PoisonReader, MAX_PIXELS, IMPATIENT)
    before = pid_of(reader)
    assert str(refused(reader, clip_of("loop-late", 2))) == "its file takes too long to decode"
    assert pid_of(reader) != before
    assert not psutil.pid_exists(before)
    reader.close()


def test_a_file_is_not_blamed_for_one_death(reader: DecodeProcess, tmp_path: Path) -> None:
    (tmp_path / "once").touch()
    frames = list(reader.read(clip_of("once-late", 3, tmp_path / "once")))
    assert [index for index, _ in frames] == [0, 1, 2]
    assert not (tmp_path / "once").exists()
    assert told_by(frames[1][1])[0] == told_by(frames[2][1])[0]


def test_a_long_video_is_asked_for_its_times_whole(reader: DecodeProcess) -> None:
    assert len(reader.frame_times_s(clip_of("film", 100_000))) == 100_000


def test_a_process_killed_between_questions_is_replaced(reader: DecodeProcess) -> None:
    before = pid_of(reader)
    os.kill(before, signal.SIGKILL)
    assert pid_of(reader) != before


def test_an_answer_that_nobody_waited_for_does_not_meet_the_next_question(reader: DecodeProcess) -> None:
    next(iter(reader.read(clip_of("film", 100))))
    assert [told_by(picture)[1] for _, picture in reader.read(clip_of("film", 3))] == [0, 1, 2]


def test_the_process_has_no_key_no_other_files_and_may_write_none(
    reader: DecodeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCORD_SSH_KEY", "canary")
    reader.close()
    seen = str(refused(reader, clip_of("look")))
    assert "ENCORD" not in seen
    assert "'HOME'" not in seen
    assert seen.endswith("6 files, [0, 0]")  # three that lead nowhere, the pipe, the pictures, the list of files


def test_no_file_is_blamed_where_the_process_does_not_start() -> None:
    with pytest.raises(PermanentModelError, match=r"does not start: .*exit code 1.*is there memory enough"):
        list(DecodeProcess(fail_to_start, MAX_PIXELS).read(clip_of("row")))


def test_the_process_ends_with_whoever_held_its_reader() -> None:
    reader = DecodeProcess(PoisonReader, MAX_PIXELS)
    pid = pid_of(reader)
    del reader
    assert not psutil.pid_exists(pid)


PARENT = """
from pathlib import Path
from autolabel.decoding import DecodeProcess
from autolabel.protocols import Clip
from poison import PoisonReader, told_by
reader = DecodeProcess(PoisonReader, 10_000)
for _, picture in reader.read(Clip("row", Path(), range(FRAMES), 8, 6, 100)):
    print(told_by(picture)[0], flush=True)
    input()
"""


@pytest.mark.parametrize("frames", [1, 100], ids=["waiting", "at work"])
def test_the_process_ends_when_its_parent_is_killed(frames: int) -> None:
    command = [sys.executable, "-c", PARENT.replace("FRAMES", str(frames))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(timeout=20)


def test_limits_grow_with_the_frames_of_a_video_alone() -> None:
    limits = Limits(grace_s=10, frame_s=2)
    assert limits.question_s(clip_of("film", 5), 5) == 20
    assert limits.question_s(replace(clip_of("still"), video_frames=None), 5) == 10

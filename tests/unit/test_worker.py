"""The process is real here; what it runs is a few lines without torch."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from autolabel.batches import run_clips
from autolabel.core.detections import FrameLabels
from autolabel.core.rows import Reason
from autolabel.errors import (
    AutolabelError,
    PermanentInferenceError,
    PermanentMediaError,
    PermanentModelError,
    PermanentOutOfMemoryError,
    TransientWorkerDiedError,
)
from autolabel.protocols import RGB, Clip, ClipFailure
from autolabel.worker import Answers, InferenceProcess, Patience
from fakes import BlackReader, load_and_die, load_and_hang, load_obedient_inference, load_watchful_inference


def clip_of(name: str, width_px: int = 4, height_px: int = 2) -> Clip:
    return Clip(name, Path(name), range(1), width_px, height_px)


def fail_to_load(error: AutolabelError) -> Answers:
    raise error


def pid_of(process: InferenceProcess) -> int:
    ((frame,),) = process.ask([clip_of("row")])()
    assert isinstance(frame, FrameLabels)
    return frame.frame_index


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.fixture(scope="module")
def process() -> Iterator[InferenceProcess]:
    process = InferenceProcess(load_obedient_inference)
    yield process
    process.close()


def test_clips_are_answered_in_order_by_one_other_process(process: InferenceProcess) -> None:
    answers = process.ask([clip_of("a", 4, 2), clip_of("b", 8, 6)])()

    sizes = [(frame.width_px, frame.height_px) for (frame,) in answers if isinstance(frame, FrameLabels)]
    assert sizes == [(4, 2), (8, 6)]
    assert pid_of(process) == pid_of(process) != os.getpid()


def test_a_videos_frame_times_come_from_the_process_too(process: InferenceProcess) -> None:
    times_s = process.frame_times_s(Clip("film", Path("film"), range(50), 4, 2, video_frames=50))

    assert (len(times_s), times_s[25]) == (50, 1.0)


@pytest.mark.parametrize(("what", "how"), [("exit", "exit code 3"), ("segfault", f"signal {signal.SIGSEGV.value}")])
def test_a_death_is_told_with_its_cause_and_the_next_question_starts_another(
    process: InferenceProcess, what: str, how: str
) -> None:
    before = pid_of(process)

    with pytest.raises(TransientWorkerDiedError, match=how):
        process.ask([clip_of("row"), clip_of(what)])()

    assert pid_of(process) != before


@pytest.mark.parametrize("method", ["infer", "frame_times_s"])
def test_a_process_that_hangs_is_ended_and_told_and_the_next_question_starts_another(method: str) -> None:
    process = InferenceProcess(load_obedient_inference, Patience(grace_s=2.0, frame_s=0))
    stuck = clip_of("hang")
    try:
        before = pid_of(process)
        with pytest.raises(TransientWorkerDiedError, match="gave no answer in 2 s and was ended"):
            process.ask([stuck])() if method == "infer" else process.frame_times_s(stuck)
        assert not is_running(before)
        assert pid_of(process) != before
    finally:
        process.close()


def test_a_process_that_takes_too_much_memory_is_ended_and_told_and_the_next_question_starts_another() -> None:
    process = InferenceProcess(load_obedient_inference, max_bytes=500 << 20)
    try:
        before = pid_of(process)
        with pytest.raises(
            TransientWorkerDiedError, match=r"held \d+ MiB of memory, over .* \(500 MiB\), and was ended"
        ):
            process.ask([clip_of("swell")])()
        assert not is_running(before)
        assert pid_of(process) != before
    finally:
        process.close()


def test_a_process_that_hangs_while_the_models_load_ends_the_run() -> None:
    hanging = InferenceProcess(load_and_hang, Patience(load_s=0.1))

    with pytest.raises(PermanentModelError, match="gave no answer in 0 s and was ended, 3 times while it loaded"):
        hanging.ask([clip_of("row")])()


def test_patience_grows_with_the_frames_to_look_at_and_with_those_to_decode_before_them() -> None:
    patience = Patience(grace_s=100, frame_s=10, decode_s=1)
    film = Clip("film", Path("film"), [500, 525], 4, 2, video_frames=1000)
    assert patience.infer_s([clip_of("a"), clip_of("b")]) == 120
    assert patience.infer_s([film, clip_of("a")]) == 100 + 3 * 10 + 526
    assert patience.frame_times_s(film) == 1100


def test_a_death_while_the_models_load_is_no_clips_fault() -> None:
    dying = InferenceProcess(load_and_die)

    with pytest.raises(PermanentModelError, match=r"exit code 137\), 3 times while it loaded the models"):
        dying.ask([clip_of("row")])()


def test_a_process_killed_between_questions_is_told_and_replaced(process: InferenceProcess) -> None:
    pid = pid_of(process)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))

    with pytest.raises(TransientWorkerDiedError, match="signal 9"):
        process.ask([clip_of("row")])()

    assert pid_of(process) != pid


def test_an_unexpected_error_comes_back_as_one_line_and_the_process_lives_on(process: InferenceProcess) -> None:
    before = pid_of(process)

    with pytest.raises(PermanentInferenceError, match=r"^inference failed: ZeroDivisionError: by nought$"):
        process.ask([clip_of("bug")])()

    assert pid_of(process) == before


def test_two_questions_are_open_at_once_and_answered_each_with_its_own(process: InferenceProcess) -> None:
    first, second = process.ask([clip_of("slow", 4, 2)]), process.ask([clip_of("a", 8, 6), clip_of("b", 5, 5)])

    widths = [[frame.width_px for (frame,) in wait() if isinstance(frame, FrameLabels)] for wait in (first, second)]

    assert widths == [[4], [8, 5]]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in order", "the other way"])
def test_a_death_is_told_to_every_open_question(process: InferenceProcess, order: tuple[int, int]) -> None:
    questions = [process.ask([clip_of("exit")]), process.ask([clip_of("row")])]

    for place in order:
        with pytest.raises(TransientWorkerDiedError, match="exit code 3"):
            questions[place]()

    assert pid_of(process) > 0


def test_a_failure_is_told_to_its_own_question_alone(process: InferenceProcess) -> None:
    failing, sound = process.ask([clip_of("bug")]), process.ask([clip_of("row")])

    with pytest.raises(PermanentInferenceError, match="by nought"):
        failing()

    assert len(sound()) == 1


def test_what_is_open_when_the_process_is_closed_has_died(process: InferenceProcess) -> None:
    waiting = [process.ask([clip_of("hang")]), process.ask([clip_of("row")])]

    process.close()

    for answer in waiting:
        with pytest.raises(TransientWorkerDiedError):
            answer()


def test_one_batch_is_decoded_ahead_of_the_models_and_no_more_into_the_next_question_too(tmp_path: Path) -> None:
    process = InferenceProcess(load_watchful_inference, Patience(grace_s=20.0, frame_s=0))
    try:
        asked = [Clip("film", tmp_path / "film", range(start, start + 3), 4, 5) for start in (0, 3)]
        answers = [process.ask([clip]) for clip in asked]
        seen = [frame.frame_index for wait in answers for (frame,) in wait() if isinstance(frame, FrameLabels)]
    finally:
        process.close()

    assert seen == [2, 2]


def test_ctrl_c_is_the_parents_to_handle(process: InferenceProcess) -> None:
    pid = pid_of(process)

    os.kill(pid, signal.SIGINT)

    assert pid_of(process) == pid


def test_close_ends_the_process_and_the_next_question_starts_another(process: InferenceProcess) -> None:
    pid = pid_of(process)

    process.close()
    process.close()

    assert not is_running(pid)
    assert pid_of(process) != pid


@pytest.mark.parametrize(
    "error",
    [PermanentModelError("no weights at 'x'"), PermanentMediaError("decode", "bad file")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_loading_keeps_its_type_and_message(error: AutolabelError) -> None:
    process = InferenceProcess(partial(fail_to_load, error))
    try:
        with pytest.raises(type(error), match=str(error)):
            process.ask([clip_of("row")])()
    finally:
        process.close()


def test_nothing_is_started_before_the_first_question() -> None:
    InferenceProcess(partial(fail_to_load, PermanentModelError("never loaded"))).close()


def test_an_interrupted_question_leaves_no_answer_behind(process: InferenceProcess) -> None:
    process.ask([clip_of("row")])()  # what is interrupted is a question, not the loading of the models
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            process.ask([clip_of("slow", width_px=99)])()
    finally:
        signal.signal(signal.SIGALRM, previous)

    ((frame,),) = process.ask([clip_of("row", width_px=4)])()
    assert isinstance(frame, FrameLabels)
    assert frame.width_px == 4


PARENT = """
from pathlib import Path
from autolabel.protocols import Clip
from autolabel.worker import InferenceProcess
from fakes import load_and_die, load_obedient_inference
process = InferenceProcess(load_obedient_inference)
for name in ("row", "WHAT"):
    print(process.ask([Clip(name, Path(name), range(1), 4, 2)])()[0][0].frame_index, flush=True)
input()
"""


@pytest.mark.parametrize("what", ["row", "slow"], ids=["waiting", "at work"])
def test_the_process_ends_when_its_parent_is_killed(what: str) -> None:
    command = [sys.executable, "-c", PARENT.replace("WHAT", what)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        parent.kill()

    assert wait_until(lambda: not is_running(child_pid))


class Recorder:
    """What infers, with memory for `room` frames at once, and for none of height `too_high_px` or more."""

    def __init__(self, room: int = 99, too_high_px: int = 99) -> None:
        self.batches: list[list[tuple[int, ...]]] = []
        self._room, self._too_high_px = room, too_high_px

    def __call__(self, frames: Sequence[tuple[int, RGB]]) -> list[FrameLabels]:
        if len(frames) > self._room or any(len(image) >= self._too_high_px for _, image in frames):
            raise PermanentOutOfMemoryError("no room")
        self.batches.append([image.shape[:2] for _, image in frames])
        return [FrameLabels(index, image.shape[1], image.shape[0], ()) for index, image in frames]


def spooled(folder: Path, name: str, size_px: tuple[int, int], frames: int = 2) -> Clip:
    path = folder / name
    path.write_bytes(name.encode())
    return Clip(name, path, range(frames), *size_px)


def test_frames_of_one_size_share_batches_across_clips_and_come_back_in_order(tmp_path: Path) -> None:
    sizes = [(4, 2), (6, 6), (4, 2), (4, 2)]
    clips = [spooled(tmp_path, f"clip{i}", size) for i, size in enumerate(sizes)]
    recorder = Recorder()

    answers = run_clips(clips, BlackReader(), recorder, batch_frames=4)

    assert recorder.batches == [[(2, 4)] * 4, [(2, 4)] * 2, [(6, 6)] * 2]
    assert [[(f.frame_index, f.width_px) for f in answer] for answer in answers if isinstance(answer, list)] == [
        [(0, width), (1, width)] for width, _ in sizes
    ]


def test_every_frame_carries_the_digest_of_its_file(tmp_path: Path) -> None:
    (answer,) = run_clips([spooled(tmp_path, "clip", (4, 2))], BlackReader(), Recorder(), batch_frames=8)

    assert isinstance(answer, list)
    assert {frame.image_digest for frame in answer} == {hashlib.sha256(b"clip").hexdigest()}


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("bad", ClipFailure(Reason.WRONG_SIZE, "4x4, not 5x5")),
        ("half", ClipFailure(Reason.DECODE, "half a file")),
    ],
)
def test_a_clip_that_cannot_be_read_fails_alone(tmp_path: Path, name: str, failure: ClipFailure) -> None:
    clips = [spooled(tmp_path, n, (4, 2)) for n in ("before", name, "after")]

    before, failed, after = run_clips(clips, BlackReader(), Recorder(), batch_frames=3)

    assert failed == failure
    assert isinstance(before, list)
    assert isinstance(after, list)
    assert len(before) == len(after) == 2


@pytest.mark.parametrize("room", range(1, 9))
def test_a_batch_that_does_not_fit_into_memory_is_halved_with_the_same_result(tmp_path: Path, room: int) -> None:
    clips = [spooled(tmp_path, f"clip{i}", (4, 2), frames) for i, frames in enumerate((1, 3, 8, 5))]
    recorder = Recorder(room)

    assert run_clips(clips, BlackReader(), recorder, 8) == run_clips(clips, BlackReader(), Recorder(), 8)
    assert all(room / 2 < len(batch) <= room for batch in recorder.batches if len(batch) > 1)


def test_a_frame_that_does_not_fit_into_memory_alone_is_its_own_clips_failure(tmp_path: Path) -> None:
    clips = [spooled(tmp_path, f"clip{i}", (4, height), 3) for i, height in enumerate((2, 9, 2))]

    before, failed, after = run_clips(clips, BlackReader(), Recorder(too_high_px=9), batch_frames=2)

    assert failed == ClipFailure(Reason.OOM, "no room")
    assert [type(before), type(after)] == [list, list]


def test_no_clips_give_no_answers() -> None:
    assert run_clips([], BlackReader(), Recorder(), batch_frames=4) == []

"""The inference process: spooled files and frame ranges go in, FrameLabels come out, nothing else crosses."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

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
from autolabel.protocols import RGB, Clip, ClipFailure, FrameReader
from autolabel.redaction import install

logger = logging.getLogger(__name__)

Answer = list[FrameLabels] | ClipFailure
InferFrames = Callable[[Sequence[tuple[int, RGB]]], list[FrameLabels]]

TERMINATE_TIMEOUT_S = 2.0
KILL_TIMEOUT_S = 60.0
LOAD_TRIES = 3
WATCH_S = 0.2
LOAD = "load"


@dataclass(frozen=True)
class Patience:
    """How long an answer may take, in seconds: far beyond slow models on a busy CPU, yet not for ever.

    - `load_s`: loading the models, which may download gigabytes first.
    - `grace_s`: any other question, and on top
    - `frame_s`: each frame that the models look at;
    - `decode_s`: each frame of a video that may have to be decoded on the way.
    """

    load_s: float = 3600.0
    grace_s: float = 600.0
    frame_s: float = 120.0
    decode_s: float = 0.5

    def infer_s(self, clips: Sequence[Clip]) -> float:
        asked = sum(len(clip.frame_indices) for clip in clips)
        passed = sum(clip.frame_indices[-1] + 1 for clip in clips if clip.video_frames is not None)
        return self.grace_s + self.frame_s * asked + self.decode_s * passed

    def frame_times_s(self, clip: Clip) -> float:
        return self.grace_s + self.decode_s * (clip.video_frames or 0)


PATIENCE = Patience()


@dataclass(frozen=True)
class Answers:
    """What answers in the inference process: one function a question of `Inference`."""

    infer: Callable[[Sequence[Clip]], list[Answer]]
    frame_times_s: Callable[[Clip], NDArray[np.float64]]


class InferenceProcess:
    """An `Inference` in a spawned process, started at the first question and again after a death.

    `load` runs in the child and gives what answers there; it must be picklable: a module's function or a `partial`
    of one. Where it fails, that question raises its error and the next one tries again. A process that gives no
    answer within `patience`, or that meanwhile holds more than `max_bytes` of memory, is ended, and that counts as
    its death.
    """

    def __init__(
        self, load: Callable[[], Answers], patience: Patience = PATIENCE, max_bytes: int = sys.maxsize
    ) -> None:
        self._load, self._patience, self._max_bytes = load, patience, max_bytes
        self._child: tuple[BaseProcess, Connection] | None = None

    def infer(self, clips: Sequence[Clip]) -> list[Answer]:
        """See `Inference`. Errors that the child raises on purpose come through with their type and message.

        A death while the models load is no clip's fault: it is tried again, and in the end a PermanentModelError.
        """
        answers: list[Answer] = self._ask_loaded("infer", list(clips), self._patience.infer_s(clips))
        return answers

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        times_s: NDArray[np.float64] = self._ask_loaded("frame_times_s", clip, self._patience.frame_times_s(clip))
        return times_s

    def _ask_loaded(self, name: str, argument: Any, limit_s: float) -> Any:
        if self._child is None:
            self._start_loaded()
        return self._ask((name, argument), limit_s)

    def _start_loaded(self) -> None:
        died = None
        for _ in range(LOAD_TRIES):
            self._start()
            try:
                self._ask(LOAD, self._patience.load_s)
            except TransientWorkerDiedError as exc:
                died = exc
            except AutolabelError:
                self.close()  # the next question starts with loading again
                raise
            else:
                return
        raise PermanentModelError(
            f"{died}, {LOAD_TRIES} times while it loaded the models; is there memory enough for them?"
        ) from died

    def _ask(self, question: Any, limit_s: float) -> Any:
        assert self._child is not None
        process, pipe = self._child
        try:
            pipe.send(question)
            excess = self._wait(process, pipe, limit_s)
            reply = pipe.recv() if not excess and pipe.poll() else None
        except (EOFError, OSError):
            excess, reply = "", None
        except BaseException:
            self.close()  # the answer to an interrupted question must not meet the next one
            raise
        if excess:
            self.close()
            raise TransientWorkerDiedError(f"the inference process {excess} and was ended")
        if reply is None:
            raise self._died(process)
        if isinstance(reply, AutolabelError):
            raise reply
        return reply

    def _wait(self, process: BaseProcess, pipe: Connection, limit_s: float) -> str:
        """Until it answers or ends: "". Or what it takes too much of."""
        give_up_s = time.monotonic() + limit_s
        while (left_s := give_up_s - time.monotonic()) > 0:
            if wait([pipe, process.sentinel], min(left_s, WATCH_S)):
                return ""
            held = _resident_bytes(process)
            if held > self._max_bytes:
                return (
                    f"held {held >> 20} MiB of memory, over AUTOLABEL_MAX_WORKER_BYTES ({self._max_bytes >> 20} MiB),"
                )
        return f"gave no answer in {limit_s:.0f} s"

    def close(self) -> None:
        """End the process now, whatever it is doing. May be called again; the next question starts another."""
        if self._child is None:
            return
        process, pipe = self._child
        self._child = None
        pipe.close()
        process.terminate()
        process.join(TERMINATE_TIMEOUT_S)
        if process.is_alive():
            process.kill()
            process.join(KILL_TIMEOUT_S)
        if not process.is_alive():  # a driver that hangs can keep it, and must not keep us
            process.close()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(self._load, theirs), name="inference", daemon=True)
        resource_tracker.ensure_running()  # else the first start does so, which unblocks what is blocked here
        # Ctrl-C reaches every process of the terminal, but what it means is the parent's to say. A blocked signal
        # stays blocked in the child from its first instruction; a handler set there would come too late.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
            theirs.close()
        self._child = process, ours

    def _died(self, process: BaseProcess) -> TransientWorkerDiedError:
        process.join(TERMINATE_TIMEOUT_S)
        code = process.exitcode
        self.close()
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return TransientWorkerDiedError(f"the inference process ended without an answer ({how})")


def _resident_bytes(process: BaseProcess) -> int:
    try:
        return int(psutil.Process(process.pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _serve(load: Callable[[], Answers], pipe: Connection) -> None:
    """The child's life: load when told to, then answer until the parent is gone."""
    install()
    answers: Answers | None = None
    try:
        while True:
            question = pipe.recv()
            try:
                answers = answers or load()
                reply: Any = LOAD if question == LOAD else getattr(answers, question[0])(question[1])
            except AutolabelError as exc:
                reply = exc
            except Exception as exc:  # the one outer handler: models fail in ways of their own
                logger.debug("inference failed", exc_info=True)
                kind = PermanentModelError if question == LOAD else PermanentInferenceError
                reply = kind(f"inference failed: {type(exc).__name__}: {exc}")
            pipe.send(reply)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def run_clips(
    clips: Sequence[Clip], reader: FrameReader, infer_frames: InferFrames, batch_frames: int
) -> list[Answer]:
    """Decode clips, infer in batches of one picture size that may span clips, and put the answers back in order.

    A clip that cannot be read, or for a frame of which the device has too little memory, becomes a ClipFailure and
    touches no other. At most `batch_frames` pictures are in memory at once. Each answer carries the SHA-256 of its
    clip's file.
    """
    labels: list[list[FrameLabels]] = [[] for _ in clips]
    failures: dict[int, ClipFailure] = {}
    for positions in _by_size(clips):
        frames = _decode(clips, positions, reader, failures)
        for position, answer in _infer_batches(frames, batch_frames, infer_frames):
            if isinstance(answer, ClipFailure):
                failures[position] = answer
            else:
                labels[position].append(answer)
    return [failures[i] if i in failures else _with_digest(labels[i], clip.path) for i, clip in enumerate(clips)]


def _infer_batches(
    frames: Iterator[tuple[int, int, RGB]], size: int, infer_frames: InferFrames
) -> Iterator[tuple[int, FrameLabels | ClipFailure]]:
    """(clip position, answer) of frames as `_decode` gives them."""
    while batch := list(islice(frames, size)):
        answers = _infer_in_memory([(index, image) for _, index, image in batch], infer_frames)
        yield from zip([position for position, _, _ in batch], answers, strict=True)


def _infer_in_memory(frames: Sequence[tuple[int, RGB]], infer_frames: InferFrames) -> list[FrameLabels | ClipFailure]:
    """Where the device has too little memory for the batch, its halves; a frame too large alone has no answer."""
    try:
        return list(infer_frames(frames))
    except PermanentOutOfMemoryError as exc:
        if len(frames) == 1:
            return [ClipFailure(Reason.OOM, str(exc))]
    half = len(frames) // 2
    return _infer_in_memory(frames[:half], infer_frames) + _infer_in_memory(frames[half:], infer_frames)


def _decode(
    clips: Sequence[Clip], positions: Iterable[int], reader: FrameReader, failures: dict[int, ClipFailure]
) -> Iterator[tuple[int, int, RGB]]:
    """(clip position, frame index, picture) of clips one after the other; what fails is noted in `failures`."""
    for position in positions:
        try:
            for index, image in reader.read(clips[position]):
                yield position, index, image
        except PermanentMediaError as exc:
            failures[position] = ClipFailure(Reason(exc.reason), str(exc))


def _by_size(clips: Sequence[Clip]) -> list[list[int]]:
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position, clip in enumerate(clips):
        groups[clip.width_px, clip.height_px].append(position)
    return list(groups.values())


def _with_digest(frames: Sequence[FrameLabels], path: Path) -> list[FrameLabels]:
    digest = _digest(path, path.stat().st_mtime_ns)
    return [replace(frame, image_digest=digest) for frame in frames]


@lru_cache(maxsize=1)  # a long video is asked for in many clips
def _digest(path: Path, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

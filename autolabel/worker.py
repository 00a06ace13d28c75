"""The inference process: spooled files and frame ranges go in, FrameLabels come out, nothing else crosses."""

from __future__ import annotations

import logging
import multiprocessing
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from autolabel.batches import Batch
from autolabel.errors import (
    AutolabelError,
    PermanentInferenceError,
    PermanentModelError,
    TransientWorkerDiedError,
)
from autolabel.logs import install
from autolabel.protocols import Clip, ClipAnswer, Pending
from autolabel.stages import Meter, Stage

logger = logging.getLogger(__name__)

TERMINATE_TIMEOUT_S = 2.0
KILL_TIMEOUT_S = 60.0
LOAD_TRIES = 3
WATCH_S = 0.2
LOAD = "load"
END: Any = object()


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
    """What answers in the inference process: `decode` runs ahead of `infer`, on a thread of its own."""

    decode: Callable[[Sequence[Clip]], Iterator[Batch]]
    infer: Callable[[Sequence[Clip], Iterable[Batch]], list[ClipAnswer]]
    frame_times_s: Callable[[Clip], NDArray[np.float64]]


class InferenceProcess:
    """An `Inference` in a spawned process, started at the first question and again after a death.

    `load` runs in the child and gives what answers there; it must be picklable: a module's function or a `partial`
    of one. Where it fails, that question raises its error and the next one tries again. A process that gives no
    answer within `patience`, or that meanwhile holds more than `max_bytes` of memory, is ended, and that counts as
    its death. `meter` is told for how long decoding and the models were busy.
    """

    def __init__(
        self,
        load: Callable[[], Answers],
        patience: Patience = PATIENCE,
        max_bytes: int = sys.maxsize,
        meter: Meter | None = None,
    ) -> None:
        self._load, self._patience, self._max_bytes = load, patience, max_bytes
        self._meter = meter or Meter()
        self._child: _Child | None = None

    def ask(self, clips: Sequence[Clip]) -> Pending:
        """See `Inference`. Errors that the child raises on purpose come through with their type and message.

        A death while the models load is no clip's fault: it is tried again, and in the end a PermanentModelError.
        """
        return self._ask_loaded("infer", list(clips), self._patience.infer_s(clips))

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        times_s: NDArray[np.float64] = self._ask_loaded("frame_times_s", clip, self._patience.frame_times_s(clip))()
        return times_s

    def _ask_loaded(self, name: str, argument: Any, limit_s: float) -> Callable[[], Any]:
        child = self._child or self._loaded()
        future = child.ask((name, argument), limit_s)

        def answer() -> Any:
            try:
                reply = future.result()
            except TransientWorkerDiedError:
                self._forget(child)
                raise
            for stage, seconds in reply.busy_s.items():
                self._meter.add(stage, seconds)
            if isinstance(reply.value, AutolabelError):
                raise reply.value
            return reply.value

        return answer

    def _loaded(self) -> _Child:
        with self._meter.at(Stage.LOAD):
            return self._start_loaded()

    def _start_loaded(self) -> _Child:
        died = None
        for _ in range(LOAD_TRIES):
            child = self._child = _Child(self._load, self._max_bytes)
            try:
                error = child.ask(LOAD, self._patience.load_s).result().value
            except TransientWorkerDiedError as exc:
                died = exc
                self.close()
            except BaseException:
                self.close()
                raise
            else:
                if error is None:
                    return child
                self.close()  # the next question starts with loading again
                raise error
        raise PermanentModelError(
            f"{died}, {LOAD_TRIES} times while it loaded the models; is there memory enough for them?"
        ) from died

    def _forget(self, child: _Child) -> None:
        """Of what dies, all questions raise: only the first of them may be about the present process."""
        if self._child is child:
            self.close()

    def close(self) -> None:
        """End the process now, whatever it is doing. May be called again; the next question starts another."""
        child, self._child = self._child, None
        if child is not None:
            child.close()


@dataclass(frozen=True)
class _Reply:
    """What crosses back: an answer or an error, and for how long each stage was busy with it."""

    value: Any
    busy_s: Mapping[Stage, float] = field(default_factory=dict)


class _Child:
    """One process, and a thread that waits for its replies, which come in the order of the questions.

    The thread watches the process for as long as a question is open, whatever the asker does meanwhile.
    """

    def __init__(self, load: Callable[[], Answers], max_bytes: int) -> None:
        self._max_bytes = max_bytes
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(load, theirs), name="inference", daemon=True)
        resource_tracker.ensure_running()  # else the first start does so, which unblocks what is blocked here
        # Ctrl-C reaches every process of the terminal, but what it means is the parent's to say. A blocked signal
        # stays blocked in the child from its first instruction; a handler set there would come too late.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
            theirs.close()
        self._replies = ThreadPoolExecutor(1, thread_name_prefix="replies")

    def ask(self, question: Any, limit_s: float) -> Future[_Reply]:
        """Its result is there when the child has answered; it raises TransientWorkerDiedError instead."""
        with suppress(OSError):  # it is dead: whoever waits for the reply is told so
            self._pipe.send(question)
        return self._replies.submit(self._reply, limit_s)

    def _reply(self, limit_s: float) -> _Reply:
        try:
            excess = self._wait(limit_s)
            reply: _Reply | None = self._pipe.recv() if not excess and self._pipe.poll() else None
        except (EOFError, OSError):
            excess, reply = "", None
        if excess:
            self._end()
            raise TransientWorkerDiedError(f"the inference process {excess} and was ended")
        if reply is None:
            raise self._died()
        return reply

    def _wait(self, limit_s: float) -> str:
        """Until it answers or ends: "". Or what it takes too much of."""
        give_up_s = time.monotonic() + limit_s
        while (left_s := give_up_s - time.monotonic()) > 0:
            if wait([self._pipe, self._process.sentinel], min(left_s, WATCH_S)):
                return ""
            held = _resident_bytes(self._process)
            if held > self._max_bytes:
                return (
                    f"held {held >> 20} MiB of memory, over AUTOLABEL_MAX_WORKER_BYTES ({self._max_bytes >> 20} MiB),"
                )
        return f"gave no answer in {limit_s:.0f} s"

    def _died(self) -> TransientWorkerDiedError:
        self._process.join(TERMINATE_TIMEOUT_S)
        code = self._process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return TransientWorkerDiedError(f"the inference process ended without an answer ({how})")

    def _end(self) -> None:
        self._process.terminate()
        if not self._has_ended(TERMINATE_TIMEOUT_S):
            self._process.kill()
            self._has_ended(KILL_TIMEOUT_S)

    def _has_ended(self, within_s: float = 0.0) -> bool:
        """By its sentinel: of two threads that wait for its exit code, one would be told that it lives."""
        return bool(wait([self._process.sentinel], within_s))

    def close(self) -> None:
        """End it; questions that are open raise TransientWorkerDiedError."""
        self._end()
        if not self._has_ended():  # a driver that hangs can keep it, and must not keep us
            self._replies.shutdown(wait=False, cancel_futures=True)
            return
        self._replies.shutdown()
        self._pipe.close()
        self._process.join()
        self._process.close()


def _resident_bytes(process: BaseProcess) -> int:
    try:
        return int(psutil.Process(process.pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _serve(load: Callable[[], Answers], pipe: Connection) -> None:
    """The child's life: load the models when told to, then answer until the parent is gone."""
    install()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.recv()
        try:
            answers = load()
        except Exception as exc:  # noqa: BLE001 # the outer handler of loading: models fail in ways of their own
            pipe.send(_Reply(_told(exc, PermanentModelError)))
            return
        pipe.send(_Reply(None))
        ahead = _Ahead(pipe, answers)
        for question in ahead.questions():
            pipe.send(_Reply(_answer(question, ahead.parts(question), answers), question.busy_s))


@dataclass(frozen=True)
class _Question:
    name: str
    argument: Any
    busy_s: dict[Stage, float] = field(default_factory=lambda: {Stage.DECODE: 0.0, Stage.INFER: 0.0})


class _Ahead:
    """Takes questions and decodes for them on a thread, one batch ahead of the models, into the next question too.

    Two batches are in memory at most: the one that the models look at, and the one that is ready or being decoded.
    """

    def __init__(self, pipe: Connection, answers: Answers) -> None:
        self._pipe, self._answers = pipe, answers
        self._made: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._room = threading.Semaphore(1)
        self._has_parts = False
        threading.Thread(target=self._listen, name="decode", daemon=True).start()

    def questions(self) -> Iterator[_Question]:
        """Until the parent is gone."""
        while (question := self._made.get()) is not END:
            self._has_parts = True
            yield question
            while self._has_parts:  # that nobody wanted
                self._take()

    def parts(self, question: _Question) -> Iterator[Any]:
        """The batches of the question that was taken last, or its one answer; raises what was raised over them."""
        while (part := self._take()) is not END:
            if isinstance(part, Exception):
                raise part
            began_s = time.monotonic()
            yield part
            question.busy_s[Stage.INFER] += time.monotonic() - began_s

    def _take(self) -> Any:
        part = self._made.get()
        if part is END:
            self._has_parts = False
        else:
            self._room.release()
        return part

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                question = _Question(*self._pipe.recv())
                self._made.put(question)
                self._make(question)
        self._made.put(END)

    def _make(self, question: _Question) -> None:
        if question.name == "infer":
            parts: Iterator[Any] = self._answers.decode(question.argument)
        else:
            parts = map(self._answers.frame_times_s, [question.argument])
        part = None
        while part is not END and not isinstance(part, Exception):
            self._room.acquire()
            began_s = time.monotonic()
            try:
                part = next(parts, END)
            except Exception as exc:  # noqa: BLE001 # the outer handler of decoding: it is raised where the part is taken
                part = exc
            question.busy_s[Stage.DECODE] += time.monotonic() - began_s
            if part is END:
                self._room.release()
            self._made.put(part)
        if part is not END:
            self._made.put(END)


def _answer(question: _Question, parts: Iterator[Any], answers: Answers) -> Any:
    try:
        if question.name == "infer":
            return answers.infer(question.argument, parts)
        (times_s,) = parts
    except Exception as exc:  # noqa: BLE001 # the outer handler of answering: models fail in ways of their own
        return _told(exc, PermanentInferenceError)
    return times_s


def _told(error: Exception, kind: type[AutolabelError]) -> AutolabelError:
    """An error that can cross to the parent, in one line."""
    if isinstance(error, AutolabelError):
        return error
    logger.debug("inference failed", exc_info=error)
    return kind(f"inference failed: {type(error).__name__}: {error}")

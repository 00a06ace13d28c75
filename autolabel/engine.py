"""Keeps download, inference and delivery busy at once, with bounds; isolates what kills the inference process."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeVar

from autolabel.core.rows import LabelRow, Reason
from autolabel.errors import (
    Interrupted,
    PermanentInferenceError,
    PermanentMediaError,
    TransientWorkerDiedError,
)
from autolabel.protocols import Clip, ClipAnswer, ClipFailure, Inference, Pending

STRIKES = 3
FAILURES = 2
"""So often the models may fail on a clip while it is alone: the last time in a fresh process."""

T = TypeVar("T")
R = TypeVar("R")


def prefetch(
    items: Iterable[T],
    fetch: Callable[[T], R],
    threads: int,
    ahead: int,
    abandon: Callable[[], None] = lambda: None,
) -> Generator[tuple[T, R]]:
    """Fetch items on threads, at most `ahead` at a time, and yield them in order. The first error ends it.

    What is under way is waited for; where it is not wanted any more, `abandon` is called first, to make that short.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="download")
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(fetch, item)))
            if len(waiting) == ahead:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)
    except BaseException:
        abandon()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _first(waiting: deque[tuple[T, Future[R]]]) -> tuple[T, R]:
    item, future = waiting.popleft()
    return item, future.result()


def in_batches(items: Iterable[T], size: int, weigh: Callable[[T], int] = lambda item: 1) -> Iterator[list[T]]:
    """Lists that weigh `size`, or more where the last item of one takes it past; the last list may weigh less."""
    batch: list[T] = []
    weight = 0
    for item in items:
        batch.append(item)
        weight += weigh(item)
        if weight >= size:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


@dataclass(frozen=True)
class Part:
    """Some frames of a row that are asked for together; without a clip there are none: why, or all are kept."""

    row: LabelRow
    clip: Clip | None
    ends_row: bool = True
    failure: ClipFailure | None = None

    @property
    def weight(self) -> int:
        """In frames. The last part of a video fills any batch: to look into the next one would close its file."""
        if self.clip is None:
            return 1
        ends_video = self.ends_row and self.clip.video_frames is not None
        return sys.maxsize if ends_video else len(self.clip.frame_indices)


@dataclass(frozen=True)
class Batch:
    """Parts that are asked for together: those with a clip, and those that only come to their end here."""

    asked: Sequence[tuple[Part, Clip]]
    ended: Sequence[Part]

    @property
    def data_hashes(self) -> list[str]:
        """Of the rows that are asked for, each once."""
        return list(dict.fromkeys(part.row.data_hash for part, _ in self.asked))


class Asking:
    """Questions to an inference process, several on their way, one answer a clip whatever one of them does.

    After a death or a failure each clip of every question that was open runs alone:

    - Only a death while alone is a strike against that clip; the third ends in `ClipFailure(CRASH)`.
    - A clip that the models cannot answer alone, not even in a fresh process, ends in `ClipFailure(INVALID_OUTPUT)`.
    """

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._open: deque[tuple[Sequence[Clip], Pending]] = deque()

    def ask(self, clips: Sequence[Clip]) -> None:
        self._open.append((clips, self._inference.ask(clips)))

    def answer(self) -> list[ClipAnswer]:
        """The answers to the oldest question."""
        clips, pending = self._open.popleft()
        answers = self._outcome(pending)
        if answers is not None:
            return answers
        self.settle()
        return self._alone(clips)

    def settle(self) -> None:
        """Wait for all answers, so that whatever is asked next is alone; `answer` still gives them."""
        outcomes = [(clips, self._outcome(pending)) for clips, pending in self._open]
        self._open.clear()
        for clips, answers in outcomes:
            self._open.append((clips, partial(_given, self._alone(clips) if answers is None else answers)))

    def _outcome(self, pending: Pending) -> list[ClipAnswer] | None:
        """None where each clip is to be asked for alone."""
        try:
            return pending()
        except TransientWorkerDiedError:
            return None
        except PermanentInferenceError:
            self._inference.close()  # see ask_alone
            return None

    def _alone(self, clips: Sequence[Clip]) -> list[ClipAnswer]:
        return [ask_alone(self._inference, partial(_only, self._inference, clip)) for clip in clips]


def _given(answers: list[ClipAnswer]) -> list[ClipAnswer]:
    return answers


def _only(inference: Inference, clip: Clip) -> ClipAnswer:
    return inference.ask([clip])()[0]


def ask_alone(inference: Inference, ask: Callable[[], T]) -> T | ClipFailure:
    """The answer to a question that concerns one clip; see `Asking` for how it may fail.

    The process ends with each failure of the models: where it broke the device, nothing in that process works again.
    """
    deaths = failures = 0
    while True:
        try:
            return ask()
        except TransientWorkerDiedError as error:
            deaths += 1
            if deaths == STRIKES:
                return ClipFailure(Reason.CRASH, f"{error}, {STRIKES} times while it was the only one at work")
        except PermanentInferenceError as error:
            inference.close()
            failures += 1
            if failures == FAILURES:
                return ClipFailure(Reason.INVALID_OUTPUT, str(error))
        except PermanentMediaError as error:
            return ClipFailure(Reason(error.reason), str(error))


class Background(Generic[T]):
    """Runs a function over batches on a thread of its own, in order; `put` blocks while `depth` are waiting.

    An error of the function surfaces at the next `put`, or at the end of the `with` block. What is under way is
    waited for whatever ends the block, a second signal included: nothing may go on once the block is left.
    """

    def __init__(self, work: Callable[[T], None], depth: int) -> None:
        self._work = work
        self._depth = depth
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="deliver")
        self._waiting: deque[Future[None]] = deque()

    def put(self, batch: T) -> None:
        while self._waiting and (len(self._waiting) >= self._depth or self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._work, batch))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = self._shut_down(cancel=kind is not None)
        if stopped is not None:
            raise stopped
        if kind is None:
            for future in self._waiting:
                future.result()

    def _shut_down(self, *, cancel: bool) -> Interrupted | None:
        stopped = None
        while True:
            try:
                self._pool.shutdown(wait=True, cancel_futures=cancel)
            except Interrupted as signal:
                stopped, cancel = signal, True
            else:
                return stopped

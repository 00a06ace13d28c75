"""Decoding in a process of its own that may do little and hold little: files come from anywhere.

Pixels come back through memory that both processes share and that has no name, the rest as small JSON messages:
whatever takes the child over can run nothing where the models or the key are.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from autolabel.core.rows import Reason
from autolabel.decoder import MAX_MESSAGE_BYTES, MAX_TEXT, OUT_OF_MEMORY, slots_of
from autolabel.errors import PermanentMediaError, PermanentModelError
from autolabel.protocols import RGB, Clip, FrameReader

LEAST_SHARED_BYTES = 64 << 20
TRIES = 2
FRAMES_PER_QUESTION = 256
START_LIMIT_S = 300.0
END_TIMEOUT_S = 10.0
INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
"""All that the child sees of our environment, which may hold a key."""
# A picture takes buffers of megabytes, again and again; glibc is to keep them: JPEGs decode three times as quickly.
OWN_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}
FOUND = frozenset({Reason.DECODE, Reason.TOO_LARGE, Reason.WRONG_SIZE, Reason.FRAME_COUNT})
NONSENSE = "the process that decodes its file talked nonsense"
Number = TypeVar("Number", np.uint8, np.float64)
BOOT = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # what Ctrl-C means is the parent's to say
order = json.loads(sys.argv[1])
sys.path[:] = order["path"]
from autolabel.decoder import serve
serve(order)
"""


@dataclass(frozen=True)
class Limits:
    """How long the child may take over one question, in seconds that somebody waits for it.

    Shorter than `worker.Patience`, or the models would be ended for what a file does.

    - `grace_s`: any question, and on top
    - `frame_s`: each frame of a video that may have to be decoded on the way.
    """

    grace_s: float = 180.0
    frame_s: float = 0.5

    def question_s(self, clip: Clip, frames: int) -> float:
        return self.grace_s + self.frame_s * (frames if clip.video_frames is not None else 0)


LIMITS = Limits()


class DecodeProcess:
    """A `protocols.FrameReader` in a child process, started at the first question and again after a death.

    `load` gives the reader that works there: a module's function or class that takes `max_pixels`. A file that ends
    the child, or that takes more memory than `max_pixels` explain, is tried once more in a fresh one; then it is to
    blame, as one is over which the child takes too long. Not shared between threads.

    Raises PermanentModelError where no child can be started: that is no file's fault.
    """

    def __init__(self, load: Callable[[int], FrameReader], max_pixels: int, limits: Limits = LIMITS) -> None:
        self._load, self._max_pixels, self._limits = load, max_pixels, limits
        self._child: _Child | None = None

    def read(self, clip: Clip) -> Iterator[tuple[int, RGB]]:
        """See `FrameReader`. The child decodes ahead while the caller works on what it has."""
        left = list(clip.frame_indices)
        deaths = 0
        while left:
            asked = replace(clip, frame_indices=left[:FRAMES_PER_QUESTION])
            try:
                for picture in self._pictures(asked):
                    yield left.pop(0), picture
            except _DiedError as died:
                deaths += 1
                self._blame(died, deaths)

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        """See `FrameReader`."""
        deaths = 0
        while True:
            try:
                return self._times_s(clip)
            except _DiedError as died:
                deaths += 1
                self._blame(died, deaths)

    def close(self) -> None:
        """End the child now. May be called again; the next question starts another."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _blame(self, died: _DiedError, deaths: int) -> None:
        self.close()
        if deaths == TRIES:
            raise PermanentMediaError(died.reason, f"{died}, {TRIES} times") from None

    def _pictures(self, clip: Clip) -> Iterator[RGB]:
        child = self._ask("read", clip, self._limits.question_s(clip, clip.frame_indices[-1] + 1))
        for place, index in enumerate(clip.frame_indices):
            if self._reply(child).get("index") != index:
                raise _DiedError(Reason.CRASH, NONSENSE)
            picture = child.picture(clip, place)
            child.send({"taken": index})
            child.is_busy = place + 1 < len(clip.frame_indices)
            yield picture

    def _times_s(self, clip: Clip) -> NDArray[np.float64]:
        asked = replace(clip, frame_indices=())  # all of them are meant, and their list has no room in a message
        child = self._ask("frame_times_s", asked, self._limits.question_s(clip, clip.video_frames or 0))
        self._reply(child)
        times_s = child.numbers(clip.video_frames or 0)
        child.is_busy = False
        if not (np.isfinite(times_s).all() and (np.diff(times_s) >= 0).all()):
            raise _DiedError(Reason.CRASH, NONSENSE)
        return times_s

    def _ask(self, name: str, clip: Clip, limit_s: float) -> _Child:
        if self._child is not None and self._child.is_busy:
            self.close()  # the rest of an answer that nobody waited for must not meet the next question
        if self._child is None:
            self._child = _Child(self._load, self._max_pixels)
        child = self._child
        child.is_busy, child.left_s = True, limit_s
        child.send({"ask": name, "limit_s": limit_s, "clip": asdict(clip) | _plain(clip)})
        return child

    def _reply(self, child: _Child) -> dict[str, Any]:
        """Raises PermanentMediaError with what the child found, and when it takes too long."""
        try:
            reply = child.receive()
        except TimeoutError:
            self.close()
            raise PermanentMediaError(Reason.DECODE, "its file takes too long to decode") from None
        if "failed" in reply:
            child.is_busy = False
            raise _found(reply)
        return reply


class _DiedError(Exception):
    """The child ended in the middle of a question; `reason` is the file's, should it happen again."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Child:
    """One process and what is shared with it; ended with `end`, or when nobody holds this any more.

    `is_busy`: a question has not been answered to its end. `left_s`: how long it may still be waited for.
    """

    def __init__(self, load: Callable[[int], FrameReader], max_pixels: int) -> None:
        self.is_busy, self.left_s = False, START_LIMIT_S
        size = max(LEAST_SHARED_BYTES, 2 * 3 * max_pixels)
        memory_fd = _sealed_memory(size)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order = {
            "path": sys.path,
            "reader": f"{load.__module__}:{load.__qualname__}",
            "max_pixels": max_pixels,
            "socket": theirs.fileno(),
            "memory": memory_fd,
        }
        try:
            self._memory = mmap.mmap(memory_fd, size, prot=mmap.PROT_READ)
            self._process = subprocess.Popen(
                [sys.executable, "-c", BOOT, json.dumps(order)],
                env=OWN_ENVIRONMENT | {name: os.environ[name] for name in INHERITED if name in os.environ},
                pass_fds=(theirs.fileno(), memory_fd),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # libraries quote the file there, and a terminal would obey it
            )
            self.end = weakref.finalize(self, _end, self._process, self._socket)
        except OSError as error:
            self._socket.close()
            raise PermanentModelError(f"the process that decodes files cannot be started: {error}") from error
        finally:
            theirs.close()
            os.close(memory_fd)
        self._await_start()

    def _await_start(self) -> None:
        try:
            self.receive()
        except (_DiedError, TimeoutError) as error:
            self.end()
            raise PermanentModelError(
                f"the process that decodes files does not start: {error}; is there memory enough, and is the "
                "installation whole (`autolabel doctor`)?"
            ) from error

    def send(self, message: dict[str, Any]) -> None:
        try:
            self._socket.send(json.dumps(message).encode())
        except OSError:
            raise self._died() from None

    def receive(self) -> dict[str, Any]:
        """Raises TimeoutError after `left_s` of waiting; _DiedError when the child is gone, or talks nonsense."""
        self._socket.settimeout(max(self.left_s, 0.001))
        asked_s = time.monotonic()
        try:
            message = self._socket.recv(MAX_MESSAGE_BYTES)
        except TimeoutError:
            raise
        except OSError:
            message = b""
        self.left_s -= time.monotonic() - asked_s
        if not message:
            raise self._died()
        try:
            reply = json.loads(message)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            raise _DiedError(Reason.CRASH, NONSENSE)
        return reply

    def picture(self, clip: Clip, place: int) -> RGB:
        """A copy of the frame in the slot of the answer's frame number `place`."""
        count = clip.height_px * clip.width_px * 3
        offset = place % slots_of(clip, len(self._memory)) * count
        return self._copy(np.dtype(np.uint8), count, offset).reshape(clip.height_px, clip.width_px, 3)

    def numbers(self, count: int) -> NDArray[np.float64]:
        """A copy of the answer's numbers."""
        return self._copy(np.dtype(np.float64), count, 0)

    def _copy(self, dtype: np.dtype[Number], count: int, offset: int) -> NDArray[Number]:
        if offset + count * dtype.itemsize > len(self._memory):
            raise _DiedError(Reason.CRASH, NONSENSE)
        return np.frombuffer(self._memory, dtype, count, offset).copy()

    def _died(self) -> _DiedError:
        try:
            code = self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return _DiedError(Reason.CRASH, "the process that decodes its file fell silent")
        if code == OUT_OF_MEMORY:
            return _DiedError(Reason.TOO_LARGE, "decoding its file took more memory than a picture of its size needs")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return _DiedError(Reason.CRASH, f"decoding its file ended the process that does it ({how})")


def _end(process: subprocess.Popen[bytes], pipe: socket.socket) -> None:
    pipe.close()
    process.kill()
    with suppress(subprocess.TimeoutExpired):  # a disk that hangs can keep it, and must not keep us
        process.wait(END_TIMEOUT_S)


def _sealed_memory(size: int) -> int:
    """A file without a name, gone with the last process that has it open; nobody can cut it short under a reader."""
    fd = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def _plain(clip: Clip) -> dict[str, Any]:
    return {"path": str(clip.path), "frame_indices": list(clip.frame_indices)}


def _found(reply: dict[str, Any]) -> Exception:
    """What the child says of the file, as far as it can be believed: a reason that there is, one printable line."""
    reason = next((reason for reason in FOUND if reason == reply["failed"]), None)
    if reason is None:
        return _DiedError(Reason.CRASH, NONSENSE)
    text = str(reply.get("message", ""))[:MAX_TEXT]
    return PermanentMediaError(reason, "".join(char if char.isprintable() else "\ufffd" for char in text))

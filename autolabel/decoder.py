"""What runs in the process that decodes: it may do little and hold little. See `decoding` for who talks to it."""

from __future__ import annotations

import json
import mmap
import os
import pkgutil
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from autolabel.core.rows import Reason
from autolabel.errors import PermanentMediaError
from autolabel.protocols import RGB, Clip, FrameReader

# What may be allocated beyond the imports. Measured at 25 million pixels: 28 bytes a pixel for WebP, the hungriest of
# the formats, 19 for JPEG and PNG. The fixed part is for codecs, their threads' stacks and the frames of videos.
BYTES_PER_PIXEL = 32
FIXED_BYTES = 512 << 20
SLOTS = 8
"""Frames that wait in shared memory, decoded ahead; fewer where they are large, but two always fit."""
MAX_MESSAGE_BYTES = 1 << 16
MAX_TEXT = 500
OUT_OF_MEMORY = 71
"""The exit code where the limit was met: what a process holds by then is not to be trusted with the next file."""


def slots_of(clip: Clip, size: int) -> int:
    """How many of a clip's frames the shared memory holds at a time: known to both sides, so never told."""
    return max(1, min(SLOTS, size // max(1, clip.width_px * clip.height_px * 3)))


def serve(order: dict[str, Any]) -> None:
    """The child's life: one question after the other until the parent is gone."""
    reader: FrameReader = pkgutil.resolve_name(order["reader"])(order["max_pixels"])
    pipe = socket.socket(fileno=order["socket"])
    memory = mmap.mmap(order["memory"], 0)
    os.close(order["memory"])
    _limit(FIXED_BYTES + BYTES_PER_PIXEL * order["max_pixels"])
    _tell(pipe, {})
    while True:
        question = _heard(pipe)
        raw = question["clip"]
        _limit_cpu(question["limit_s"])
        _answer(question["ask"], Clip(**raw | {"path": Path(raw["path"])}), reader, pipe, memory)


def _answer(name: str, clip: Clip, reader: FrameReader, pipe: socket.socket, memory: mmap.mmap) -> None:
    try:
        if name == "read":
            _put_frames(clip, reader, pipe, memory)
        else:
            _put_times(clip, reader, memory)
            _tell(pipe, {})
    except PermanentMediaError as exc:
        _tell(pipe, {"failed": exc.reason, "message": str(exc)[:MAX_TEXT]})
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except Exception as exc:  # noqa: BLE001 # the one outer handler: readers fail in ways of their own
        _tell(pipe, {"failed": Reason.DECODE, "message": f"its file cannot be decoded: {type(exc).__name__}"})


def _put_frames(clip: Clip, reader: FrameReader, pipe: socket.socket, memory: mmap.mmap) -> None:
    """A frame goes into a slot once the parent has taken the one that was there; all are taken in the end."""
    slots = slots_of(clip, len(memory))
    untaken = place = 0
    try:
        for index, picture in reader.read(clip):
            if untaken == slots:
                _heard(pipe)
                untaken -= 1
            _put(picture, memory, place % slots * picture.nbytes, (clip.height_px, clip.width_px, 3))
            _tell(pipe, {"index": index})
            untaken, place = untaken + 1, place + 1
    finally:
        for _ in range(untaken):
            _heard(pipe)


def _put(picture: RGB, memory: mmap.mmap, offset: int, shape: tuple[int, int, int]) -> None:
    if picture.shape != shape or offset + picture.nbytes > len(memory):
        raise PermanentMediaError(Reason.TOO_LARGE, f"its picture of shape {picture.shape} has no room")
    np.frombuffer(memory, np.uint8, picture.size, offset).reshape(shape)[:] = picture


def _put_times(clip: Clip, reader: FrameReader, memory: mmap.mmap) -> None:
    times_s = reader.frame_times_s(clip)
    if len(times_s) != clip.video_frames:
        raise PermanentMediaError(Reason.FRAME_COUNT, f"its video has {len(times_s)} frames")
    if times_s.nbytes > len(memory):
        raise PermanentMediaError(Reason.TOO_LARGE, f"its video has {len(times_s)} frames, which have no room")
    np.frombuffer(memory, np.float64, len(times_s))[:] = times_s


def _heard(pipe: socket.socket) -> Any:
    try:
        message = pipe.recv(MAX_MESSAGE_BYTES)
    except OSError:
        message = b""
    return json.loads(message) if message else sys.exit()  # the parent is gone, and so are we


def _tell(pipe: socket.socket, message: dict[str, Any]) -> None:
    try:
        pipe.send(json.dumps(message).encode())
    except OSError:
        sys.exit()


def _limit(budget_bytes: int) -> None:
    """No core, no growing file, and `budget_bytes` of memory on top of what the child has now.

    RLIMIT_DATA counts what is private and can be written to: what decoding takes. RLIMIT_AS would also count what is
    only reserved, which grows with threads and so with the machine's cores, and the shared frames.
    """
    status = Path("/proc/self/status").read_text()
    held = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmData"))) << 10
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_DATA, held + budget_bytes),
    ):
        allowed = _at_most(value, resource.getrlimit(limit)[1])
        resource.setrlimit(limit, (allowed, allowed))


def _limit_cpu(limit_s: float) -> None:
    """The net under the parent's watch, for a child that loops when there is no parent any more."""
    used_s = time.process_time() + limit_s * (os.cpu_count() or 1)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (_at_most(int(used_s) + 1, hard), hard))


def _at_most(value: int, hard: int) -> int:
    """A process may lower a limit that it was started under, and not raise it."""
    return value if hard == resource.RLIM_INFINITY else min(value, hard)

"""A reader that misbehaves in the process that decodes: what a hostile file may make a codec do."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autolabel.batches import Batch, Room, decode_batches, infer_batches
from autolabel.core.detections import FrameLabels
from autolabel.decoding import DecodeProcess, Limits
from autolabel.errors import PermanentMediaError
from autolabel.protocols import RGB, Clip, ClipAnswer
from autolabel.worker import Answers
from fakes import swell

LIES = {
    "lie-no-json": b"\x80\x04rubbish",
    "lie-deep": b"[" * 60_000,
    "lie-list": b"[]",
    "lie-room": b'{"index": 0}',
    "lie-index": b'{"index": 1000000000}',
    "lie-reason": b'{"failed": "human_content", "message": "x"}',
    "lie-kind": b'{"failed": {"a": []}}',
}


class PoisonReader:
    """A `FrameReader` whose pictures hold the process id; a clip says what it does: "abort", "7:loop", "bad-late"."""

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels

    def read(self, clip: Clip) -> Iterator[tuple[int, RGB]]:
        for index in clip.frame_indices:
            if index > 0 or not clip.data_hash.endswith("-late"):
                misbehave(clip)
            yield index, self._picture(clip, index)

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        misbehave(clip)
        return np.arange(clip.video_frames or 0) / 25

    def _picture(self, clip: Clip, index: int) -> RGB:
        picture = np.zeros((clip.height_px, clip.width_px, 3), np.uint8)
        picture.reshape(-1)[:5] = [*os.getpid().to_bytes(4, "big"), index % 256]
        return picture


def told_by(picture: RGB) -> tuple[int, int]:
    """(process id, frame index) that a PoisonReader wrote."""
    told = picture.reshape(-1)[:5].tolist()
    return int.from_bytes(told[:4], "big"), told[4]


def misbehave(clip: Clip) -> None:
    match clip.data_hash.rpartition(":")[2].removesuffix("-late"):
        case "abort":
            os.abort()
        case "segfault":
            ctypes.string_at(0)
        case "loop":
            while True:
                pass
        case "allocate":
            np.ones(20 << 30, np.uint8)
        case "once" if clip.path.exists():
            clip.path.unlink()
            os.abort()
        case name:
            _talk(name)


def _talk(name: str) -> None:
    if name == "bad":
        raise PermanentMediaError("decode", "a bad \x1b[31mfile")
    if name == "bug":
        raise ZeroDivisionError
    if name == "look":
        raise PermanentMediaError("decode", _surroundings())
    if name in LIES:
        _pipe().send(LIES[name])


def _surroundings() -> str:
    """The environment, how many files are open, and what may be written by this process."""
    limits = [resource.getrlimit(limit)[0] for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)]
    return f"{sorted(os.environ)} {len(list(Path('/proc/self/fd').iterdir()))} files, {limits}"


def _pipe() -> socket.socket:
    found = next(path for path in Path("/proc/self/fd").iterdir() if path.is_socket())
    return socket.socket(fileno=os.dup(int(found.name)))


def load_poisoned() -> Answers:
    """For an inference process that decodes by a PoisonReader, and finds nothing; "7:models:loop" it does itself."""
    reader = DecodeProcess(PoisonReader, 10_000, Limits(grace_s=2.0, frame_s=0.0))
    decode = partial(decode_batches, reader=reader, batch_frames=8)
    return Answers(decode, _infer_poisoned, reader.frame_times_s)


def _infer_poisoned(clips: Sequence[Clip], batches: Iterable[Batch]) -> list[ClipAnswer]:
    for clip in clips:
        if clip.data_hash.endswith(":models:allocate"):
            swell()  # where no limit stands in the way
        elif ":models:" in clip.data_hash:
            misbehave(clip)
    return infer_batches(clips, batches, _find_nothing, Room(8))


def _find_nothing(frames: Sequence[tuple[int, RGB]]) -> list[FrameLabels]:
    return [FrameLabels(index, image.shape[1], image.shape[0], ()) for index, image in frames]


def fail_to_start(max_pixels: int) -> PoisonReader:
    raise RuntimeError(max_pixels)

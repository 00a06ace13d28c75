"""What the inference process does with clips: decoded into batches of pictures of one size, batches into answers."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Protocol

from autolabel.core.detections import FrameLabels
from autolabel.core.rows import Reason
from autolabel.errors import PermanentMediaError, PermanentOutOfMemoryError
from autolabel.protocols import RGB, Clip, ClipAnswer, ClipFailure, FrameReader

USABLE_SHARE = 0.8
"""Of the free memory: frames with many objects take more than the one that was measured."""

InferFrames = Callable[[Sequence[tuple[int, RGB]]], list[FrameLabels]]


@dataclass(frozen=True)
class Picture:
    """A decoded frame: of which clip of the question, with its index there and the SHA-256 of that clip's file."""

    position: int
    index: int
    image: RGB
    file_digest: str


@dataclass(frozen=True)
class Batch:
    """Pictures of one size, and the clips of the question that could not be read so far, by position."""

    pictures: Sequence[Picture]
    failures: Mapping[int, ClipFailure]


def decode_batches(clips: Sequence[Clip], reader: FrameReader, batch_frames: int) -> Iterator[Batch]:
    """Pictures, `batch_frames` at a time, of one size, which may span clips; what cannot be read comes last."""
    failures: dict[int, ClipFailure] = {}
    for positions in _by_size(clips):
        pictures = _decode(clips, positions, reader, failures)
        while batch := list(islice(pictures, batch_frames)):
            yield Batch(batch, {})
    if failures:
        yield Batch((), failures)


class Memory(Protocol):
    """What a device says of its memory, in bytes."""

    def start(self) -> None:
        """From here on a peak is measured."""
        ...

    def peak_bytes(self) -> int:
        """The most that was held since then, beyond what was held before."""
        ...

    def free_bytes(self) -> int: ...


class Room:
    """How many pictures of one size the models may take at once: `most`, or fewer where `memory` has no room.

    Of each size one picture is looked at alone first, and what that takes is measured.
    """

    def __init__(self, most: int, memory: Memory | None = None) -> None:
        self._most, self._memory = most, memory
        self._fits: dict[tuple[int, ...], int] = {}

    def split(self, frames: Sequence[tuple[int, RGB]]) -> Iterator[Sequence[tuple[int, RGB]]]:
        """Frames of one size in parts, each of which is to be looked at before the next is asked for."""
        size = frames[0][1].shape if frames else ()
        if frames and self._memory is not None and size not in self._fits:
            self._memory.start()
            yield frames[:1]
            self._fits[size] = frames_that_fit(self._memory.free_bytes(), self._memory.peak_bytes(), self._most)
            frames = frames[1:]
        step = self._fits.get(size, self._most)
        for start in range(0, len(frames), step):
            yield frames[start : start + step]

    def shrink(self, frames: Sequence[tuple[int, RGB]], fits: int) -> None:
        """So many frames were too many; from the next question on `fits` of that size go together."""
        size = frames[0][1].shape
        self._fits[size] = min(fits, self._fits.get(size, self._most))


def frames_that_fit(free_bytes: int, frame_bytes: int, most: int) -> int:
    """Of pictures that take `frame_bytes` each; at least one, since one is tried in any case."""
    return max(1, min(most, int(free_bytes * USABLE_SHARE) // max(1, frame_bytes)))


def infer_batches(
    clips: Sequence[Clip], batches: Iterable[Batch], infer_frames: InferFrames, room: Room
) -> list[ClipAnswer]:
    """Answers to clips, in their order, out of batches as `decode_batches` gives them.

    A clip that cannot be read, or for a frame of which the device has too little memory, becomes a ClipFailure and
    touches no other. Each answer carries the SHA-256 of its clip's file.
    """
    labels: list[list[FrameLabels]] = [[] for _ in clips]
    failures: dict[int, ClipFailure] = {}
    for batch in batches:
        failures |= batch.failures
        frames = [(picture.index, picture.image) for picture in batch.pictures]
        answers = [answer for part in room.split(frames) for answer in _infer_in_memory(part, infer_frames, room)]
        for picture, answer in zip(batch.pictures, answers, strict=True):
            if isinstance(answer, ClipFailure):
                failures[picture.position] = answer
            else:
                labels[picture.position].append(replace(answer, image_digest=picture.file_digest))
    return [failures[i] if i in failures else labels[i] for i in range(len(clips))]


def run_clips(
    clips: Sequence[Clip], reader: FrameReader, infer_frames: InferFrames, batch_frames: int
) -> list[ClipAnswer]:
    """Decode and infer in turn, on this thread."""
    return infer_batches(clips, decode_batches(clips, reader, batch_frames), infer_frames, Room(batch_frames))


def _infer_in_memory(
    frames: Sequence[tuple[int, RGB]], infer_frames: InferFrames, room: Room
) -> list[FrameLabels | ClipFailure]:
    """Where the device has too little memory for the batch, its halves; a frame too large alone has no answer."""
    try:
        return list(infer_frames(frames))
    except PermanentOutOfMemoryError as exc:
        if len(frames) == 1:
            return [ClipFailure(Reason.OOM, str(exc))]
    half = len(frames) // 2
    room.shrink(frames, half)
    return _infer_in_memory(frames[:half], infer_frames, room) + _infer_in_memory(frames[half:], infer_frames, room)


def _decode(
    clips: Sequence[Clip], positions: Iterable[int], reader: FrameReader, failures: dict[int, ClipFailure]
) -> Iterator[Picture]:
    """Clips one after the other; what fails is noted in `failures`."""
    for position in positions:
        clip = clips[position]
        try:
            for index, image in reader.read(clip):
                yield Picture(position, index, image, _digest(clip.path, clip.path.stat().st_mtime_ns))
        except PermanentMediaError as exc:
            failures[position] = ClipFailure(Reason(exc.reason), str(exc))


def _by_size(clips: Sequence[Clip]) -> list[list[int]]:
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position, clip in enumerate(clips):
        groups[clip.width_px, clip.height_px].append(position)
    return list(groups.values())


@lru_cache(maxsize=1)  # a long video is asked for in many clips
def _digest(path: Path, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

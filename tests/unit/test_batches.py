"""How many pictures the models take at once: as many as fit, with the same answers whatever that is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from autolabel.batches import Room, decode_batches, frames_that_fit, infer_batches, run_clips
from autolabel.core.detections import FrameLabels
from autolabel.errors import PermanentOutOfMemoryError
from autolabel.protocols import RGB, Clip
from fakes import BlackReader

FRAME_BYTES = 100


class Device:
    """A `Memory`, and the models on it: each frame takes FRAME_BYTES, those behind the first `heavier` times that."""

    def __init__(self, free_bytes: int, heavier: int = 1) -> None:
        self.batches: list[int] = []
        self._free_bytes, self._heavier, self._peak = free_bytes, heavier, 0

    def start(self) -> None:
        self._peak = 0

    def peak_bytes(self) -> int:
        return self._peak

    def free_bytes(self) -> int:
        return self._free_bytes

    def __call__(self, frames: Sequence[tuple[int, RGB]]) -> list[FrameLabels]:
        taken = sum(FRAME_BYTES * (self._heavier if index else 1) for index, _ in frames)
        if taken > self._free_bytes:
            raise PermanentOutOfMemoryError("no room")
        self._peak = max(self._peak, taken)
        self.batches.append(len(frames))
        return [FrameLabels(index, image.shape[1], image.shape[0], ()) for index, image in frames]


def spooled(folder: Path, frames: int, size_px: tuple[int, int] = (4, 2)) -> Clip:
    path = folder / f"{frames}"
    path.write_bytes(b"file")
    return Clip("row", path, range(frames), *size_px)


@pytest.mark.parametrize(
    ("free", "frame", "most", "fit"),
    [(1000, 100, 32, 8), (1000, 100, 4, 4), (10, 100, 8, 1), (0, 0, 8, 1), (99, 0, 8, 8)],
)
def test_so_many_frames_fit_and_never_fewer_than_one(free: int, frame: int, most: int, fit: int) -> None:
    assert frames_that_fit(free, frame, most) == fit


def test_one_frame_of_each_size_is_measured_and_then_as_many_go_together_as_fit(tmp_path: Path) -> None:
    device = Device(free_bytes=500)
    room = Room(8, device)
    clips = [spooled(tmp_path, 12), spooled(tmp_path, 3, (6, 6))]
    for _ in range(2):
        infer_batches(clips, decode_batches(clips, BlackReader(), 8), device, room)
    assert device.batches == [1, 4, 3, 4, 1, 2, 4, 4, 4, 3]


@pytest.mark.parametrize("free_bytes", [300, 500, 900, 5000])
def test_frames_that_take_more_than_the_measured_one_are_halved_with_the_same_answers(
    tmp_path: Path, free_bytes: int
) -> None:
    clips, device = [spooled(tmp_path, 20)], Device(free_bytes, heavier=3)
    answers = infer_batches(clips, decode_batches(clips, BlackReader(), 8), device, Room(8, device))
    assert answers == run_clips(clips, BlackReader(), Device(10**6), 8)
    assert all(count * 3 * FRAME_BYTES <= free_bytes for count in device.batches[2:])


def test_without_a_memory_to_measure_no_frame_goes_alone(tmp_path: Path) -> None:
    clips, device = [spooled(tmp_path, 8)], Device(10**6)
    infer_batches(clips, decode_batches(clips, BlackReader(), 8), device, Room(3))
    assert device.batches == [3, 3, 2]


def test_a_shortage_is_met_once_and_remembered_for_pictures_of_that_size(tmp_path: Path) -> None:
    class Short(Device):
        refused = 0

        def __call__(self, frames: Sequence[tuple[int, RGB]]) -> list[FrameLabels]:
            try:
                return super().__call__(frames)
            except PermanentOutOfMemoryError:
                self.refused += 1
                raise

    device, clips = Short(400), [spooled(tmp_path, 48)]
    infer_batches(clips, decode_batches(clips, BlackReader(), 8), device, Room(8))
    assert device.refused == 1
    assert device.batches[-3:] == [4, 4, 4]

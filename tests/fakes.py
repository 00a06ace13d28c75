"""Hand-written stand-ins for the seams of `autolabel.protocols`; the contract tests hold them to the same rules."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from autolabel.batches import Batch, Picture, Room, decode_batches, infer_batches
from autolabel.core.detections import Detections, FrameLabels, Mask
from autolabel.core.geometry import mask_from_window
from autolabel.core.prompts import PromptPlan
from autolabel.core.rows import Reason
from autolabel.errors import PermanentMediaError, PermanentOutOfMemoryError
from autolabel.protocols import RGB, Clip, ClipAnswer
from autolabel.worker import Answers

TOO_HIGH_PX = 9


@dataclass(frozen=True)
class Find:
    """What a ScriptedDetector answers: a prompt, its score, and a box in fractions of the frame."""

    prompt: str
    score: float
    box_xyxy_norm: tuple[float, float, float, float] = (0.25, 0.25, 0.75, 0.75)


class ScriptedDetector:
    """A TextDetector that finds the same things on every image, where the plan asks for them."""

    def __init__(self, *finds: Find) -> None:
        self._finds = finds

    def detect(self, images: Sequence[RGB], plan: PromptPlan) -> list[Detections]:
        return [self._on(image, plan.prompts) for image in images]

    def _on(self, image: RGB, prompts: tuple[str, ...]) -> Detections:
        height, width, _ = image.shape
        finds = [find for find in self._finds if find.prompt in prompts]
        boxes = np.array([find.box_xyxy_norm for find in finds], np.float32).reshape(-1, 4)
        scores = np.zeros((len(finds), len(prompts)), np.float32)
        for row, find in enumerate(finds):
            scores[row, prompts.index(find.prompt)] = find.score
        return Detections(boxes * np.array([width, height] * 2, np.float32), scores)


class BoxShapedSegmenter:
    """A BoxSegmenter whose masks fill their boxes; `asked` counts the boxes it was given."""

    def __init__(self, *, empty: bool = False) -> None:
        self._empty = empty
        self.asked = 0

    def segment(self, images: Sequence[RGB], boxes_xyxy_px: Sequence[NDArray[np.float32]]) -> list[list[Mask]]:
        self.asked += sum(map(len, boxes_xyxy_px))
        return [[self._fill(box) for box in boxes] for _, boxes in zip(images, boxes_xyxy_px, strict=True)]

    def _fill(self, box_xyxy_px: NDArray[np.float32]) -> Mask:
        left, top = np.floor(box_xyxy_px[:2]).astype(int).tolist()
        right, bottom = np.ceil(box_xyxy_px[2:]).astype(int).tolist()
        return mask_from_window(np.full((bottom - top, right - left), not self._empty), left, top, 0.9)


class RankTracker:
    """A Tracker by place in the list; `seen` counts the detections of every frame."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def step(self, boxes_xyxy_px: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.int32]:
        self.seen.append(len(scores))
        return np.arange(len(scores), dtype=np.int32)


class BlackReader:
    """A FrameReader: black frames of a clip's size; clips named "bad" or "half" cannot be read (to their end)."""

    def read(self, clip: Clip) -> Iterator[tuple[int, RGB]]:
        for index in clip.frame_indices:
            if index == 1 and clip.data_hash == "half":
                raise PermanentMediaError(Reason.DECODE, "half a file")
            if clip.data_hash == "bad":
                raise PermanentMediaError(Reason.WRONG_SIZE, "4x4, not 5x5")
            yield index, np.zeros((clip.height_px, clip.width_px, 3), np.uint8)

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        return np.arange(clip.video_frames or 0) / 25


def load_obedient_inference() -> Answers:
    """For an inference process: answers with its process id as the frame index, or does what a clip's name says."""
    return Answers(lambda clips: iter([]), _obey_all, _obey_about_times)


def _obey_all(clips: Sequence[Clip], batches: Iterable[Batch]) -> list[ClipAnswer]:
    return [_obey(clip) for clip in clips]


def _obey_about_times(clip: Clip) -> NDArray[np.float64]:
    if clip.data_hash == "hang":
        threading.Event().wait()
    return np.arange(clip.video_frames or 0) / 25


def _obey(clip: Clip) -> list[FrameLabels]:
    match clip.data_hash:
        case "hang":
            threading.Event().wait()
        case "exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "bug":
            raise ZeroDivisionError("by nought")
        case "swell":
            swell()
        case "slow":
            time.sleep(0.5)
    return [FrameLabels(os.getpid(), clip.width_px, clip.height_px, ())]


def load_cramped_inference() -> Answers:
    """For an inference process with memory for as many frames at once as they are wide, and for none TOO_HIGH_PX."""
    return Answers(
        partial(decode_batches, reader=BlackReader(), batch_frames=8),
        partial(infer_batches, infer_frames=_infer_cramped, room=Room(8)),
        _obey_about_times,
    )


def _infer_cramped(frames: Sequence[tuple[int, RGB]]) -> list[FrameLabels]:
    if any(image.shape[0] == TOO_HIGH_PX or image.shape[1] < len(frames) for _, image in frames):
        raise PermanentOutOfMemoryError("no room")
    return [FrameLabels(index, image.shape[1], image.shape[0], ()) for index, image in frames]


def swell() -> None:
    """Take 20 GB, by and by."""
    held = [np.ones(1 << 28, np.uint8) for _ in range(80)]
    raise AssertionError(len(held))


def load_watchful_inference() -> Answers:
    """For an inference process: says how many batches were decoded, by files beside the clip, while it looked."""
    return Answers(_decode_noting, _infer_watching, _obey_about_times)


def _decode_noting(clips: Sequence[Clip]) -> Iterator[Batch]:
    for index in clips[0].frame_indices:
        clips[0].path.with_name(f"decoded-{index}").touch()
        yield Batch([Picture(0, index, np.zeros((2, 4, 3), np.uint8), "digest")], {})


def _infer_watching(clips: Sequence[Clip], batches: Iterable[Batch]) -> list[ClipAnswer]:
    folder, seen = clips[0].path.parent, 0
    for batch in batches:
        index = batch.pictures[0].index
        while index < clips[0].height_px and not (folder / f"decoded-{index + 1}").exists():
            time.sleep(0.01)  # for ever, where nothing decodes meanwhile
        time.sleep(0.1)
        seen = max(seen, len(list(folder.glob("decoded-*"))) - index)
    return [[FrameLabels(seen, 4, 2, ())]]


def load_and_die() -> Answers:
    """For an inference process: what an out-of-memory kill during loading looks like."""
    os._exit(137)


def load_and_hang() -> Answers:
    """For an inference process: what a device that never comes up looks like."""
    threading.Event().wait()
    raise AssertionError

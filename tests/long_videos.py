"""Videos of minutes, and an `Inference` that decodes them and makes its objects up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from autolabel.batches import run_clips
from autolabel.core.detections import Detection, FrameLabels
from autolabel.core.geometry import mask_from_window
from autolabel.protocols import RGB, Clip, ClipAnswer, Pending
from autolabel.remote.frames import MediaReader
from autolabel.sandbox.media import encode_video

WIDTH_PX, HEIGHT_PX, FPS = 320, 180, 25
OBJECTS = 5


class Finder:
    """`Inference` in this process: real decoding, and the same five rings side by side on every frame."""

    def __init__(self, feature_hashes: Sequence[str]) -> None:
        self._reader = MediaReader(10**7)
        y, x = np.mgrid[-1:1:40j, -1:1:60j]
        ring = (np.hypot(x, y) < 0.95) & (np.hypot(x, y) > 0.4)
        self._found = tuple(
            Detection(
                feature_hashes[i % len(feature_hashes)],
                "car",
                0.9,
                (62.0 * i, 10.0, 62.0 * i + 60, 50.0),
                mask_from_window(ring, 62 * i, 10, 0.9),
            )
            for i in range(OBJECTS)
        )

    def ask(self, clips: Sequence[Clip]) -> Pending:
        return partial(self._answers, clips)

    def _answers(self, clips: Sequence[Clip]) -> list[ClipAnswer]:
        return run_clips(clips, self._reader, self._find, batch_frames=8)

    def _find(self, frames: Sequence[tuple[int, RGB]]) -> list[FrameLabels]:
        return [FrameLabels(index, WIDTH_PX, HEIGHT_PX, self._found) for index, _ in frames]

    def frame_times_s(self, clip: Clip) -> NDArray[np.float64]:
        return self._reader.frame_times_s(clip)

    def close(self) -> None:
        pass


def draw_minute(path: Path) -> None:
    ramp = np.linspace(0, 255, WIDTH_PX).astype(np.uint8)
    frames = (
        (k / FPS, np.broadcast_to(np.roll(ramp, k)[None, :, None], (HEIGHT_PX, WIDTH_PX, 3)).copy())
        for k in range(60 * FPS)
    )
    encode_video(path, (WIDTH_PX, HEIGHT_PX), frames)


def repeat(minute: Path, path: Path, times: int) -> None:
    """The same minute one time after the other, without encoding it again."""
    with av.open(str(path), "w") as longer:
        stream = None
        for turn in range(times):
            with av.open(str(minute)) as source:
                stream = stream or longer.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.pts is not None and packet.dts is not None and packet.time_base is not None:
                        shift = round(turn * 60 / packet.time_base)
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        longer.mux(packet)


def peak_rss_mib() -> float:
    """The most memory this process has held."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024

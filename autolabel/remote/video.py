"""A spooled video file -> upright RGB frames by index, streamed, under limits. Files are not trusted.

A frame's index is its rank among the frames that are shown, which is how the platform counts: what an edit list cuts
off has none, and neither B-frames nor a variable rate change it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from autolabel.core.rows import Reason
from autolabel.errors import PermanentMediaError
from autolabel.protocols import RGB, Clip

# Playlists and the like, which name other files, are not opened.
OPTIONS = {"format_whitelist": "mov,matroska,avi,mpegts,mpeg", "protocol_whitelist": "file"}
GRACE_S = 60.0
LIMIT_S_PER_FRAME = 1.0

Item = TypeVar("Item")


class Video:
    """One open file that is read forwards; `next_index` is the frame that comes next.

    Raises PermanentMediaError: `too_large` over `max_pixels`; `wrong_size`; `frame_count` where the file does not
    hold as many frames as the platform counts; `decode` for what is no video, is damaged or takes too long.
    """

    def __init__(self, clip: Clip, max_pixels: int) -> None:
        self._clip = clip
        self.next_index = 0
        with _decoding():
            self._pts, self.times_s = _presented(clip, max_pixels)
            self._container = _open(clip.path)
            self._frames = timely(_decoded(self._container), time.monotonic)
            self._to_rgb = VideoReformatter()  # one for all frames: each has threads of its own

    def close(self) -> None:
        self._container.close()

    def read(self, frame_indices: Sequence[int]) -> Iterator[tuple[int, RGB]]:
        """(frame index, picture); indices rise and begin at `next_index` or later."""
        for index in frame_indices:
            with _decoding():
                while self.next_index <= index:
                    frame = self._next()
                picture = _upright(frame, self._clip, self._to_rgb)
            yield index, picture

    def _next(self) -> VideoFrame:
        frame = next(self._frames, None)
        if frame is None:
            raise _wrong_count(self._clip, self.next_index)
        if frame.pts != self._pts[self.next_index]:
            raise PermanentMediaError(
                Reason.FRAME_COUNT,
                f"its video loses a frame before number {self.next_index} of the {self._clip.video_frames} that the "
                "platform counts, so later ones cannot be told apart",
            )
        # Not of every frame: to look at its side data keeps a frame in memory until the garbage collector comes.
        if (frame.key_frame or self.next_index == 0) and _is_mirrored(frame):
            raise PermanentMediaError(
                Reason.DECODE,
                "its file asks for its video to be mirrored; whether the platform shows it so is not known",
            )
        self.next_index += 1
        return frame


def measure(path: Path) -> tuple[int, int, int]:
    """(width, height, frames) of a video as the file itself tells them, upright.

    Raises PermanentMediaError: `decode`.
    """
    with _decoding(), _open(path) as container, _open(path) as again:
        stamps = _stamps(container, _stream(container))
        frames = timely(_decoded(again), time.monotonic)
        first = next(frames, None)
        if first is None:
            raise PermanentMediaError(Reason.DECODE, "its video holds no frame that can be decoded")
        known = len(stamps) if _is_order(stamps, container) else 1 + sum(1 for _ in frames)
        lies_down = first.rotation // 90 % 2
        width, height = (first.height, first.width) if lies_down else (first.width, first.height)
        return width, height, known


def _presented(clip: Clip, max_pixels: int) -> tuple[Sequence[int | None], NDArray[np.float64]]:
    """The time stamps of the frames as shown, and in seconds after the first. Decodes only where it must."""
    with _open(clip.path) as container:
        stream = _stream(container)
        _check_size(stream, clip, max_pixels)
        stamps: Sequence[int | None] = _stamps(container, stream)
        if len(stamps) != clip.video_frames or not _is_order(stamps, container):
            with _open(clip.path) as again:
                stamps = [frame.pts for frame in timely(_decoded(again), time.monotonic)]
        if len(stamps) != clip.video_frames:
            raise _wrong_count(clip, len(stamps))
        return stamps, _seconds(stamps, stream)


def _stamps(container: InputContainer, stream: VideoStream) -> list[int]:
    """Read off the packets, which is quick; empty where some have no time stamp."""
    packets = timely(container.demux(stream), time.monotonic)
    stamps = [packet.pts for packet in packets if packet.size and not packet.is_discard]
    known = [pts for pts in stamps if pts is not None]
    return sorted(known) if len(known) == len(stamps) else []


def _is_order(stamps: Sequence[int | None], container: InputContainer) -> bool:
    """Whether they tell every frame's place. AVI knows no order of showing: what it calls one is the file's."""
    return 0 < len(set(stamps)) == len(stamps) and "avi" not in container.format.name


def _seconds(stamps: Sequence[int | None], stream: VideoStream) -> NDArray[np.float64]:
    known = np.array([-1 if pts is None else pts for pts in stamps], np.float64)
    if stream.time_base is not None and (np.diff(known) > 0).all():
        return (known - known[:1]) * float(stream.time_base)
    return np.arange(len(stamps)) / float(stream.average_rate or 1)


def _open(path: Path) -> InputContainer:
    return av.open(str(path), options=OPTIONS, metadata_errors="replace")  # titles may be in any encoding


def _stream(container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise PermanentMediaError(Reason.DECODE, "its file holds no video")
    return stream


def _decoded(container: InputContainer) -> Iterator[VideoFrame]:
    """Frames as shown. Packets that do not decode are passed over, as FFmpeg does for whoever counts with it."""
    try:
        for packet in container.demux(_stream(container)):
            yield from _decoded_packet(packet)
    except MemoryError:
        raise
    except av.FFmpegError:
        return


def _decoded_packet(packet: Packet[VideoStream]) -> list[VideoFrame]:
    try:
        return list(packet.decode())
    except MemoryError:  # which FFmpeg's own is too; frames left out for want of it would shift those after them
        raise
    except av.FFmpegError:
        return []


def timely(items: Iterator[Item], clock: Callable[[], float]) -> Iterator[Item]:
    """Pass items on while they come in time, whatever is done between them.

    Raises PermanentMediaError when they take longer than GRACE_S and LIMIT_S_PER_FRAME for each.
    """
    left_s = GRACE_S
    while True:
        asked = clock()
        try:
            item = next(items)
        except StopIteration:
            return
        left_s += LIMIT_S_PER_FRAME - (clock() - asked)
        if left_s < 0:
            raise PermanentMediaError(Reason.DECODE, "its video takes too long to decode")
        yield item


def _check_size(stream: VideoStream, clip: Clip, max_pixels: int) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > max_pixels:
        raise PermanentMediaError(
            Reason.TOO_LARGE, f"its frames have {width}x{height} pixels, the limit is {max_pixels} in all"
        )
    if sorted((width, height)) != sorted((clip.width_px, clip.height_px)):
        raise _wrong_size(width, height, clip)


def _upright(frame: VideoFrame, clip: Clip, to_rgb: VideoReformatter) -> RGB:
    """Turned as the file asks where that gives the platform's size; where only the stored size does, as stored."""
    expected = (clip.width_px, clip.height_px)
    turns, rest = divmod(frame.rotation, 90)
    turned = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
    if sorted(turned) != sorted(expected):
        raise _wrong_size(frame.width, frame.height, clip)
    if rest:
        raise PermanentMediaError(Reason.DECODE, f"its video is turned by {frame.rotation} degrees")
    pixels = to_rgb.reformat(frame, format="rgb24").to_ndarray().astype(np.uint8, copy=False)
    if turned == expected:
        return np.ascontiguousarray(np.rot90(pixels, turns))
    return pixels


def _is_mirrored(frame: VideoFrame) -> bool:
    """Whether the display matrix is more than a turn, which is all that `frame.rotation` tells of it."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).tolist()
    return bool(a * d - b * c < 0)


def _wrong_size(width: int, height: int, clip: Clip) -> PermanentMediaError:
    expected = f"{clip.width_px}x{clip.height_px}"
    return PermanentMediaError(Reason.WRONG_SIZE, f"its video is {width}x{height}, the platform says {expected}")


def _wrong_count(clip: Clip, decoded: int) -> PermanentMediaError:
    return PermanentMediaError(
        Reason.FRAME_COUNT, f"its video decodes to {decoded} frames, the platform counts {clip.video_frames}"
    )


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as exc:
        why = (
            exc.strerror if isinstance(exc, av.FFmpegError) else exc
        )  # not FFmpeg's whole text, which names our spool
        raise PermanentMediaError(Reason.DECODE, f"its video cannot be decoded: {type(exc).__name__}: {why}") from exc

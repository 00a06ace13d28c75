"""What a media file says of itself, and how videos are made. Frames are counted, not believed.

Not known of the real server, and decided here:
- width and height are reported as they are seen: with the EXIF orientation of a picture and the
  display matrix of a video applied;
- a video's frames are the packets that are shown, its rate is their mean;
- a file whose header or first frame cannot be read is refused; one that breaks further in is not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

EXIF_ORIENTATION = 0x0112
EXIF_SIDEWAYS = {5, 6, 7, 8}
TICKS_PER_S = 90_000
DEFAULT_GAP_S = 0.04
VIDEO_TYPE = "video/mp4"


@dataclass(frozen=True)
class Properties:
    """Of a picture, or of a video if it has a rate."""

    mime_type: str
    width_px: int
    height_px: int
    frame_count: int = 1
    fps: float | None = None
    duration_s: float | None = None


def picture_properties(path: Path) -> Properties:
    """Raises OSError for a file that is no picture."""
    from PIL import Image  # slow to import, and rarely needed

    with Image.open(path) as picture:
        width, height = picture.size
        if picture.getexif().get(EXIF_ORIENTATION) in EXIF_SIDEWAYS:
            width, height = height, width
        return Properties(picture.get_format_mimetype() or "application/octet-stream", width, height)


def picture(path: Path) -> NDArray[np.uint8]:
    """RGB, upright, H x W x 3. Raises OSError for a file that is no picture."""
    from PIL import Image, ImageOps

    with Image.open(path) as stored:
        return np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))


def video_properties(path: Path) -> Properties:
    """Raises ValueError for a file without a video that can be decoded."""
    import av  # slow to import, and rarely needed

    try:
        with av.open(path, metadata_errors="replace") as container:  # titles may be in any encoding
            stream = container.streams.video[0]
            first = next(container.decode(stream))
            container.seek(0)
            packets = (packet for packet in container.demux(stream) if packet.size and not packet.is_discard)
            shown = [packet.dts or 0 if packet.pts is None else packet.pts for packet in packets]
            tick_s, name = float(stream.time_base or 1), container.format.name
    except (av.FFmpegError, IndexError, StopIteration) as error:
        raise ValueError(f"this is no video that can be decoded: {error}") from error
    width, height = first.width, first.height
    if first.rotation % 180:
        width, height = height, width
    times_s = [ticks * tick_s for ticks in sorted(shown)]
    mime_type = VIDEO_TYPE if "mp4" in name else f"video/{name.split(',')[-1]}"
    return Properties(mime_type, width, height, len(shown), *rate_and_duration(times_s))


def rate_and_duration(times_s: Sequence[float]) -> tuple[float, float]:
    """Frames a second and seconds of a video with frames at these times; the last is shown as long as most are."""
    gaps_s = [later - earlier for earlier, later in pairwise(times_s)]
    duration_s = round(times_s[-1] - times_s[0] + (median(gaps_s) if gaps_s else DEFAULT_GAP_S), 6)
    return len(times_s) / duration_s, duration_s


def encode_video(path: Path, size_px: tuple[int, int], frames: Iterable[tuple[float, NDArray[np.uint8]]]) -> None:
    """An H.264 MP4 with B-frames of (time in seconds, RGB picture); the same frames give the same bytes."""
    import av

    width_px, height_px = size_px
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("libx264", options={"preset": "veryfast", "bf": "2", "threads": "1"})
        stream.width, stream.height = width_px, height_px
        stream.pix_fmt = "yuv444p" if width_px % 2 or height_px % 2 else "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS_PER_S)
        for time_s, rgb in frames:
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
            frame.pts, frame.time_base = round(time_s * TICKS_PER_S), stream.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

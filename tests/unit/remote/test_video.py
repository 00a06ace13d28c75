"""That index k decodes to picture k, whatever the file does with time; and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
import pytest

from autolabel.core.rows import Reason
from autolabel.errors import PermanentMediaError
from autolabel.protocols import RGB, Clip
from autolabel.remote.frames import MediaReader
from autolabel.remote.video import GRACE_S, LIMIT_S_PER_FRAME, measure, timely
from videos import HEIGHT_PX, WIDTH_PX, displayed, film, number_of, numbered, turned, with_latin_1_text

MAX_PIXELS = 10_000
UNEVEN_MS = list(accumulate([0] + [10 + 37 * i % 190 for i in range(59)]))


def clip_of(path: Path, frames: int = 60, size: tuple[int, int] = (WIDTH_PX, HEIGHT_PX)) -> Clip:
    return Clip("row", path, range(frames), *size, video_frames=frames)


def picked(clip: Clip, *indices: int) -> Clip:
    return Clip(clip.data_hash, clip.path, indices, clip.width_px, clip.height_px, clip.video_frames)


def numbers(clip: Clip) -> list[tuple[int, int]]:
    return [(index, number_of(picture)) for index, picture in MediaReader(MAX_PIXELS).read(clip)]


def refused(clip: Clip) -> PermanentMediaError:
    with pytest.raises(PermanentMediaError) as caught:
        list(MediaReader(MAX_PIXELS).read(clip))
    return caught.value


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi", "a.ts"])
def test_index_k_is_picture_k_with_b_frames(tmp_path: Path, name: str) -> None:
    assert numbers(clip_of(film(tmp_path / name))) == [(k, k) for k in range(60)]


@pytest.mark.parametrize(
    "times_ms", [UNEVEN_MS, [500 + 40 * k for k in range(60)]], ids=["variable rate", "starts late"]
)
def test_index_k_is_picture_k_whenever_it_is_shown(tmp_path: Path, times_ms: list[int]) -> None:
    clip = clip_of(film(tmp_path / "a.mp4", times_ms=times_ms))
    assert numbers(clip) == [(k, k) for k in range(60)]
    shown_s = MediaReader(MAX_PIXELS).frame_times_s(clip)
    assert shown_s == pytest.approx((np.array(times_ms) - times_ms[0]) / 1000, abs=0.001)


def test_what_an_edit_list_cuts_off_is_not_counted(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", times_ms=[40 * k - 200 for k in range(60)])
    assert numbers(clip_of(path, 55)) == [(k, k + 5) for k in range(55)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_text_in_another_encoding_than_utf_8_does_no_harm(tmp_path: Path, name: str) -> None:
    path = with_latin_1_text(film(tmp_path / name))
    assert numbers(clip_of(path)) == [(k, k) for k in range(60)]
    assert measure(path) == (WIDTH_PX, HEIGHT_PX, 60)


def test_only_the_frames_asked_for_come_out(tmp_path: Path) -> None:
    assert numbers(picked(clip_of(film(tmp_path / "a.mp4")), 3, 4, 31, 59)) == [(k, k) for k in (3, 4, 31, 59)]


def test_a_later_clip_goes_on_and_an_earlier_one_starts_over(tmp_path: Path) -> None:
    clip, reader = clip_of(film(tmp_path / "a.mp4")), MediaReader(MAX_PIXELS)
    for some in ((0, 9), (10, 20), (20, 21), (5, 40)):
        assert [number_of(picture) for _, picture in reader.read(picked(clip, *some))] == list(some)


def test_a_clip_whose_reading_is_broken_off_can_be_read_again(tmp_path: Path) -> None:
    clip, reader = clip_of(film(tmp_path / "a.mp4")), MediaReader(MAX_PIXELS)
    next(iter(reader.read(clip)))
    assert [index for index, _ in reader.read(clip)] == list(range(60))


@pytest.mark.parametrize("counted", [59, 61])
def test_another_count_than_the_platforms_is_refused_naming_both(tmp_path: Path, counted: int) -> None:
    error = refused(clip_of(film(tmp_path / "a.mp4"), counted))
    assert error.reason == Reason.FRAME_COUNT
    assert str(error) == f"its video decodes to 60 frames, the platform counts {counted}"


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1000], lambda whole: whole[:-900] + bytes(900)])
def test_a_video_whose_tail_does_not_decode_is_refused_with_both_counts(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = film(tmp_path / "a.mp4", movflags="+faststart")
    path.write_bytes(damage(path.read_bytes()))
    error = refused(clip_of(path))
    assert error.reason == Reason.FRAME_COUNT
    assert re.search(r"decodes to \d+ frames, the platform counts 60", str(error))


def test_a_platform_that_stopped_counting_at_the_damage_is_believed(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", movflags="+faststart")
    path.write_bytes(path.read_bytes()[:-1000])
    (counted,) = re.findall(r"to (\d+) frames", str(refused(clip_of(path))))
    whole = int(counted) - 1  # the last one is what is left of the damage
    assert whole > 10
    assert numbers(clip_of(path, int(counted)))[:whole] == [(k, k) for k in range(whole)]


def of_size(picture: RGB) -> tuple[int, int]:
    return picture.shape[1], picture.shape[0]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_display_matrix_is_applied(tmp_path: Path, degrees: int) -> None:
    path = turned(film(tmp_path / "a.mp4"), degrees)
    size = (HEIGHT_PX, WIDTH_PX) if degrees % 180 else (WIDTH_PX, HEIGHT_PX)
    pictures = [picture for _, picture in MediaReader(MAX_PIXELS).read(clip_of(path, size=size))]
    assert of_size(pictures[0]) == size
    difference = np.abs(pictures[37].astype(int) - np.rot90(numbered(37), degrees // 90))
    assert difference.mean() < 8


def test_a_platform_that_ignores_a_display_matrix_gets_the_stored_picture(tmp_path: Path) -> None:
    assert numbers(clip_of(turned(film(tmp_path / "a.mp4"), 90)))[37] == (37, 37)


@pytest.mark.parametrize("matrix", [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)])
def test_a_mirrored_video_is_refused_rather_than_shown_some_other_way(
    tmp_path: Path, matrix: tuple[int, int, int, int]
) -> None:
    error = refused(clip_of(displayed(film(tmp_path / "a.mp4"), matrix)))
    assert error.reason == Reason.DECODE
    assert "mirrored" in str(error)


def test_another_size_is_refused_naming_both(tmp_path: Path) -> None:
    error = refused(clip_of(film(tmp_path / "a.mp4"), size=(64, 50)))
    assert (error.reason, str(error)) == (Reason.WRONG_SIZE, "its video is 64x48, the platform says 64x50")


def test_too_many_pixels_are_refused_by_the_header(tmp_path: Path) -> None:
    with pytest.raises(PermanentMediaError, match="64x48 pixels, the limit is 3000") as caught:
        MediaReader(3000).frame_times_s(clip_of(film(tmp_path / "a.mp4")))
    assert caught.value.reason == Reason.TOO_LARGE


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize("content", [b"", b"no video", b"\x00\x00\x00\x18ftypmp42" + bytes(90)], ids=len)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    error = refused(clip_of(path))
    assert error.reason == Reason.DECODE
    assert str(tmp_path) not in str(error)


def test_sound_without_a_picture_is_refused(tmp_path: Path) -> None:
    sound_only(tmp_path / "a.mp4")
    assert refused(clip_of(tmp_path / "a.mp4")).reason == Reason.DECODE


def test_a_playlist_that_names_other_files_is_not_followed(tmp_path: Path) -> None:
    film(tmp_path / "a.ts")
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\na.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist)
    assert refused(clip_of(tmp_path / "list.m3u8")).reason == Reason.DECODE


def test_a_decoder_that_gets_stuck_is_given_up_and_other_work_does_not_count() -> None:
    clock = iter([0.0, 1.0, 500.0, 501.0, 501.0, 501.0 + GRACE_S + 3 * LIMIT_S_PER_FRAME])
    frames: Iterator[int] = timely(iter(range(9)), lambda: next(clock))
    assert [next(frames), next(frames)] == [0, 1]
    with pytest.raises(PermanentMediaError, match="too long to decode"):
        next(frames)

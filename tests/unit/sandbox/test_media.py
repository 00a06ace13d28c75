"""What the stand-in reads off uploaded files."""

from __future__ import annotations

from pathlib import Path

from autolabel.sandbox.media import video_properties
from videos import HEIGHT_PX, WIDTH_PX, film, with_latin_1_text


def test_a_video_with_text_that_is_no_utf_8_is_taken(tmp_path: Path) -> None:
    found = video_properties(with_latin_1_text(film(tmp_path / "a.mp4")))
    assert (found.width_px, found.height_px, found.frame_count) == (WIDTH_PX, HEIGHT_PX, 60)

"""The page of a run: it adds up, shows few pictures, escapes what comes from outside and is the owner's alone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from autolabel.album import STRIP_FRAMES, Album
from autolabel.core.assemble import Instance
from autolabel.core.rows import LabelRow
from autolabel.errors import PermanentUsageError
from autolabel.protocols import Clip
from autolabel.remote.frames import MediaReader
from autolabel.report import editor_url, push_page, row_lines, write_report
from labels import make_class, make_instance
from platform_fakes import CAR, RECIPE, make_project, make_row
from videos import HEIGHT_PX, WIDTH_PX, film

EVIL = '<script>alert("x")</script>'
SUMMARY: dict[str, Any] = {
    "run": "run-1",
    "destination": "main",
    "labelled": 2,
    "empty": 1,
    "done_before": 4,
    "pending": 0,
    "held_back": {},
    "left_alone": {"human_content": 3},
    "set_aside": {"decode": 1},
    "elsewhere": {},
    "objects": {CAR.feature_hash: 2},
    "dropped_by_cap": {CAR.feature_hash: 7},
    "dropped_without_mask": {},
    "dropped_short_tracks": {},
    "speed": {},
    "reference": False,
}


def car(*scores: float) -> Instance:
    return replace(make_instance(make_class(), *scores), feature_hash=CAR.feature_hash)


def album_of(folder: Path, *rows: tuple[LabelRow, list[Instance]], images: bool = True) -> Album:
    path = folder / "picture.png"
    Image.new("RGB", (100, 50), (90, 90, 90)).save(path)
    album = Album([CAR], "run-1", MediaReader(10**6) if images else None)
    for row, instances in rows:
        album.add(row, instances, [Clip(row.data_hash, path, range(1), 100, 50)])
    return album


def page_of(folder: Path, album: Album, title: str = "Cars", **changes: Any) -> str:
    page = push_page(
        replace(make_project(), title=title),
        RECIPE,
        SUMMARY | changes,
        ["b.png: damaged"],
        "https://api.us.encord.com",
    )
    return write_report(folder, page, album).read_text()


def test_a_page_adds_up_names_the_worst_and_links_each_task(tmp_path: Path) -> None:
    html = page_of(tmp_path, album_of(tmp_path, (make_row("sure"), [car(0.9)]), (make_row("shy"), [car(0.4)])))
    assert "<b>11</b> label rows" in html
    assert "left out: 7 detections over the cap" in html
    assert html.index("shy.png") < html.index("sure.png")
    assert "https://app.us.encord.com/label_editor/project-1/shy/0" in html
    assert "Car 0.40" in html
    assert RECIPE.id in html
    assert html.count("data:image/jpeg") == 2


def test_a_page_says_whether_confidence_is_calibrated(tmp_path: Path) -> None:
    assert "scores 0 to 1, uncalibrated" in page_of(tmp_path, album_of(tmp_path))
    config = RECIPE.config.model_copy(update={"confidence": "calibrated"})
    page = push_page(make_project(), replace(RECIPE, config=config), SUMMARY, [], "https://api.encord.com")
    html = write_report(tmp_path, page, album_of(tmp_path)).read_text()
    assert "confidence 0 to 1, calibrated" in html
    assert "uncalibrated" not in html


def test_a_page_is_readable_by_its_owner_alone_and_loads_nothing(tmp_path: Path) -> None:
    html = page_of(tmp_path, album_of(tmp_path, (make_row("a"), [car(0.9)])))
    assert (tmp_path / "run-1.html").stat().st_mode & 0o777 == 0o600
    assert "<script" not in html
    assert all(url.startswith("data:image/jpeg;base64,") for url in re.findall(r'src="([^"]*)"', html))
    assert not re.search(r"url\(|<link|@import", html)


def test_what_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    evil = replace(CAR, name=EVIL, color=EVIL)
    album = Album([evil], EVIL, None)
    album.add(make_row("a", title=EVIL), [car(0.9)], [])
    html = page_of(tmp_path, album, title=EVIL)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 3


def test_a_page_that_cannot_be_written_is_one_clear_error_and_leaves_no_half_page(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PermanentUsageError, match=r"run-1\.html cannot be written: (Not a directory|File exists)"):
        page_of(tmp_path / "file", album_of(tmp_path))
    (tmp_path / "run-1.html").mkdir()
    with pytest.raises(PermanentUsageError, match="Is a directory"):
        page_of(tmp_path, album_of(tmp_path))
    assert not list(tmp_path.glob("*.part"))


def test_more_messages_than_a_page_lists_are_counted(tmp_path: Path) -> None:
    page = push_page(make_project(), RECIPE, SUMMARY, ["damaged"] * 60, "https://api.encord.com")
    assert "<li>and 10 more</li>" in write_report(tmp_path, page, album_of(tmp_path)).read_text()


def test_without_images_titles_and_scores_stay(tmp_path: Path) -> None:
    html = page_of(tmp_path, album_of(tmp_path, (make_row("a"), [car(0.4)]), images=False))
    assert "data:image" not in html
    assert "a.png" in html
    assert "Car 0.40" in html


@pytest.mark.parametrize(
    ("destination", "says"), [("branch", "autolabel publish --run run-1"), ("main", f"branch {RECIPE.branch} holds")]
)
def test_a_page_says_what_to_do_next(tmp_path: Path, destination: str, says: str) -> None:
    assert says in page_of(tmp_path, album_of(tmp_path), destination=destination)


def test_a_class_that_the_ontology_has_lost_is_shown_by_its_hash(tmp_path: Path) -> None:
    album = Album([], "run-1", None)
    album.add(make_row("a"), [car(0.5)], [])
    assert f"{CAR.feature_hash} 0.50" in page_of(tmp_path, album)


def test_an_album_of_many_rows_stays_small(tmp_path: Path) -> None:
    album = album_of(tmp_path, *[(make_row(f"row-{i}"), [car(i / 500)]) for i in range(500)])
    assert album.rows == sum(album.scores[CAR.feature_hash].counts) == 500
    assert sum(len(cards) for _, cards in album.shelves()) == 15


def test_a_video_becomes_a_strip_of_frames_with_their_times(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 60)
    album = Album([CAR], "run-1", MediaReader(10**6))
    clips = [
        Clip("a", path, part, WIDTH_PX, HEIGHT_PX, video_frames=60) for part in (range(0, 30, 3), range(30, 60, 3))
    ]
    album.add(make_row("video", data_type="video", frames=60), [car(*[0.5] * 3)], clips)
    ((title, (card,)),) = album.shelves()
    shown = [picture.frame_index for picture in card.pictures]
    assert (title, len(shown), shown[0], shown[-1]) == ("Least certain", STRIP_FRAMES, 0, 57)
    html = page_of(tmp_path, album)
    assert 'class="strip"' in html
    assert "frame 57 · " in html


def test_a_file_that_cannot_be_read_any_more_stops_nothing(tmp_path: Path) -> None:
    album = Album([CAR], "run-1", MediaReader(10**6))
    album.add(make_row("a"), [car(0.5)], [Clip("a", tmp_path / "gone", range(1), 100, 50)])
    assert "a.png" in page_of(tmp_path, album)


@pytest.mark.parametrize(
    ("domain", "url"),
    [
        ("https://api.encord.com", "https://app.encord.com/label_editor/p/d%2F1/0"),
        ("http://127.0.0.1:8080", None),
    ],
)
def test_the_editor_is_beside_the_api_where_there_is_one(domain: str, url: str | None) -> None:
    assert editor_url(domain, "p", "d/1") == url


def test_rows_that_a_limit_holds_back_are_told_apart_from_those_that_wait() -> None:
    lines = row_lines(SUMMARY | {"pending": 5, "held_back": {"max_waiting": 3}})
    assert lines[-2:] == [
        (3, "held back: enough pre-labelled rows wait for annotators (AUTOLABEL_MAX_WAITING)"),
        (2, "wait for the next run"),
    ]

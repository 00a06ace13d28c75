"""A preview goes as far as a run would before it writes, on whatever rows and media it is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from autolabel.core.rows import LabelRow
from autolabel.errors import PermanentMediaError, PermanentUsageError, TransientServiceError
from autolabel.inferring import Eyes
from autolabel.plan import Options
from autolabel.preview import invent_classes, preview
from autolabel.remote.local import link_local, local_rows
from autolabel.tally import Tally
from ledgers import open_ledger
from platform_fakes import CAR, RECIPE, FakeGallery, FakePlatform, ScriptedInference, make_row


def look_at(
    folder: Path, platform: FakePlatform, inference: ScriptedInference, gallery: FakeGallery | None = None
) -> Tally:
    spool = folder / "spool"
    spool.mkdir()
    eyes = Eyes(platform.download, inference, open_ledger(folder), spool)
    tally = preview(
        RECIPE, eyes, platform.rows(), gallery or FakeGallery(), Options(batch_frames=2), lambda tally: None
    )
    assert list(spool.iterdir()) == []
    return tally


def rows(count: int) -> list[LabelRow]:
    return [make_row(f"row-{i}") for i in range(count)]


def test_what_would_be_found_is_counted_and_shown_and_nothing_is_written(tmp_path: Path) -> None:
    platform, gallery = FakePlatform(rows(5)), FakeGallery()
    tally = look_at(tmp_path, platform, ScriptedInference(cars=2, dropped=3), gallery)
    assert (tally.labelled, tally.objects, tally.dropped_by_cap) == (
        5,
        {CAR.feature_hash: 10},
        {CAR.feature_hash: 15},
    )
    assert gallery.shown == {f"row-{i}": (2, True) for i in range(5)}
    assert platform.writes == []


def test_rows_that_cannot_be_looked_at_have_their_reason_and_stop_no_other(tmp_path: Path) -> None:
    platform = FakePlatform(rows(5))
    platform.unreadable["row-1"] = PermanentMediaError("decode", "no picture")
    platform.unreadable["row-2"] = TransientServiceError("no answer")
    tally = look_at(tmp_path, platform, ScriptedInference(odd=frozenset({"row-3"})))
    assert (tally.labelled, tally.set_aside) == (2, {"decode": 1, "download": 1, "invalid_output": 1})
    assert len(tally.messages) == 3


def test_invented_classes_have_their_names_as_hashes_and_colours_of_their_own() -> None:
    classes = invent_classes({"scissors": "bitmask", "gauze": "bounding_box"})
    assert [(item.feature_hash, item.shape) for item in classes] == [
        ("scissors", "bitmask"),
        ("gauze", "bounding_box"),
    ]
    assert classes[0].color != classes[1].color


MAX_PIXELS = 10**6


def titles(*paths: Path) -> tuple[list[str], int]:
    found, others = local_rows(paths)
    return [row.title for row in found], others


def test_files_and_folders_become_rows_and_other_files_do_not(tmp_path: Path) -> None:
    pics = tmp_path / "pics"
    for name in ("b.PNG", "sub/a.jpg", "notes.txt", "photo.heic", ".hidden"):
        (pics / name).parent.mkdir(parents=True, exist_ok=True)
        (pics / name).touch()
    assert titles(pics) == (["b.PNG", "sub/a.jpg"], 2)
    assert titles(pics / "notes.txt") == (["notes.txt"], 0)
    assert titles(pics / "sub" / "a.jpg", pics, pics / "b.PNG", pics) == (["a.jpg", "b.PNG"], 2)
    with pytest.raises(PermanentUsageError, match="nowhere; nothing was done"):
        local_rows([tmp_path / "nowhere"])
    with pytest.raises(PermanentUsageError, match="cannot be read"):
        local_rows([tmp_path / ("a" * 300)])


def test_a_file_name_that_is_no_utf_8_has_a_title_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).touch()
    assert titles(tmp_path) == (["caf\ufffd.jpg"], 0)


def test_a_picture_over_the_limit_is_refused_before_any_pixel_is_decoded(tmp_path: Path) -> None:
    Image.new("L", (4000, 3000)).save(tmp_path / "large.png")
    (row,), _ = local_rows([tmp_path])
    with pytest.raises(PermanentMediaError, match="4000x3000 pixels, the limit is 1000000"):
        link_local(row, tmp_path, MAX_PIXELS)


def test_a_local_picture_is_linked_with_its_upright_size_and_stays_where_it_is(tmp_path: Path) -> None:
    path, spool = tmp_path / "turned.jpg", tmp_path / "spool"
    spool.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(path, exif=exif)
    (row,), _ = local_rows([path])
    (clip,) = link_local(row, spool, MAX_PIXELS)
    assert (clip.width_px, clip.height_px, clip.path.read_bytes()) == (40, 60, path.read_bytes())
    clip.path.unlink()
    assert path.exists()


def test_a_file_that_is_no_picture_has_its_reason(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"rubbish")
    with pytest.raises(PermanentMediaError, match="cannot be decoded"):
        link_local(local_rows([tmp_path])[0][0], tmp_path, MAX_PIXELS)

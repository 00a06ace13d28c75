"""Image groups, sequences and videos: pushed by the command, read back through the SDK, held against the truth."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from encord import Project
from encord.objects import LabelRowV2, OntologyStructure, Shape
from encord.objects.bitmask import BitmaskCoordinates
from encord.objects.coordinates import BoundingBoxCoordinates
from encord.orm.storage import CustomerProvidedVideoMetadata
from PIL import Image

from autolabel.protocols import RGB
from autolabel.sandbox.media import encode_video
from autolabel.sandbox.scenes import draw
from sandbox.commands import Command
from sandbox.conftest import Start
from sandbox.own_project import make_project

SIZE_PX = (320, 224)
SIDE_PX = 76
EVEN_S = [k / 25 for k in range(200)]
UNEVEN_S = np.cumsum([0.0] + [0.02 + 0.013 * (k % 9) for k in range(79)]).tolist()
RECIPE = """detector: {family: grounding_dino, weights: "bundled:detector"}
segmenter: {family: sam, weights: "bundled:segmenter"}
threshold: 0.12
"""
SCENE = draw(395, 640, 480, ["white gauze"])


def gauze(x_px: float, size_px: tuple[int, int] = SIZE_PX) -> RGB:
    """A piece of gauze, its middle at (x, 110), on plain cloth."""
    ((_, mask, _),) = SCENE.objects
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    box = (x, y, x + width, y + height)
    size = (round(SIDE_PX * width / max(width, height)), round(SIDE_PX * height / max(width, height)))
    cloth = Image.new("RGB", size_px, (70, 110, 120))
    place = (round(x_px - size[0] / 2), round(110 - size[1] / 2))
    cut, shape = (Image.fromarray(pixels).crop(box).resize(size) for pixels in (SCENE.rgb, mask.view(np.uint8) * 255))
    cloth.paste(cut, place, shape)
    return np.array(cloth)


def x_at(time_s: float) -> float:
    """Where the films' gauze is, in pixels."""
    return 94 + 22 * float(np.sin(time_s))


def film(path: Path, times_s: Sequence[float]) -> Path:
    encode_video(path, SIZE_PX, ((time_s, gauze(x_at(time_s))) for time_s in times_s))
    return path


def pictures(folder: Path, *xs_px: float, sizes: Sequence[tuple[int, int]] = (SIZE_PX,)) -> list[Path]:
    paths = [folder / f"frame-{x:g}.png" for x in xs_px]
    for place, (path, x) in enumerate(zip(paths, xs_px, strict=True)):
        Image.fromarray(gauze(x, sizes[place % len(sizes)])).save(path)
    return paths


def of_gauze(push: Command, *files: Path | Sequence[Path], shape: Shape = Shape.BITMASK, **how: bool) -> Project:
    structure = OntologyStructure()
    structure.add_object("white gauze", shape)
    return make_project(push.sandbox, structure, files, **how)


@pytest.fixture
def empty(start: Start, tmp_path: Path) -> Command:
    (tmp_path / "gauze.yaml").write_text(RECIPE)
    return Command(start("empty"), tmp_path / "home", str(tmp_path / "gauze.yaml"))


def pushed(push: Command, project: Project) -> dict[str, Any]:
    done = push("push", "--yes", "--json", "--project", project.project_hash)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def opened(project: Project) -> LabelRowV2:
    (row,) = project.list_label_rows_v2(include_images_data=True)
    row.initialise_labels()
    assert row.is_valid
    return row


def centres(row: LabelRowV2) -> Iterator[tuple[str, int, float]]:
    """(object hash, frame, x of its centre in pixels) of everything in the row."""
    for item in row.get_object_instances():
        for place in item.get_annotations():
            where = place.coordinates
            if isinstance(where, BoundingBoxCoordinates):
                x_norm = where.top_left_x + where.width / 2
            else:
                assert isinstance(where, BitmaskCoordinates)
                mask = where.to_numpy_array()
                x_norm = float(mask.nonzero()[1].mean() + 0.5) / mask.shape[1]
            yield item.object_hash, place.frame, x_norm * (row.get_frame_view(place.frame).width or 0)


@pytest.mark.parametrize("shape", [Shape.BITMASK, Shape.BOUNDING_BOX])
def test_the_frames_of_a_group_are_labelled_each_in_its_own_size(
    empty: Command, tmp_path: Path, shape: Shape
) -> None:
    files = pictures(tmp_path, 70, 120, 100, sizes=[SIZE_PX, (400, 240)])
    project = of_gauze(empty, files, shape=shape)
    result = pushed(empty, project)
    found = sorted(centres(opened(project)), key=lambda label: label[1])
    assert (result["labelled"], result["inferred_frames"]) == (1, 3)
    assert [x for _, _, x in found] == pytest.approx([70, 120, 100], abs=4)
    assert len({name for name, _, _ in found}) == 3


def test_an_image_sequence_is_labelled_frame_by_frame(empty: Command, tmp_path: Path) -> None:
    project = of_gauze(empty, pictures(tmp_path, 70, 120, 100), as_sequences=True)
    assert pushed(empty, project)["labelled"] == 1
    found = sorted((frame, x) for _, frame, x in centres(opened(project)))
    assert [x for _, x in found] == pytest.approx([70, 120, 100], abs=4)


@pytest.mark.parametrize("times_s", [EVEN_S, UNEVEN_S], ids=["constant rate", "variable rate"])
def test_an_object_of_a_video_is_one_track_where_it_was_on_each_frame(
    empty: Command, tmp_path: Path, times_s: list[float]
) -> None:
    project = of_gauze(empty, film(tmp_path / "film.mp4", times_s))
    result = pushed(empty, project)
    found = list(centres(opened(project)))
    assert (result["labelled"], len({name for name, _, _ in found})) == (1, 1)
    assert result["inferred_frames"] == int(times_s[-1]) + 1
    assert len(found) >= result["inferred_frames"] - 1  # the demo's detector may miss it once
    assert [x for _, _, x in found] == pytest.approx([x_at(times_s[frame]) for _, frame, _ in found], abs=4)
    (track,) = opened(project).get_object_instances()
    assert all(0.12 <= place.confidence < 1 and not place.manual_annotation for place in track.get_annotations())


def test_a_second_push_of_videos_and_groups_writes_nothing(empty: Command, tmp_path: Path) -> None:
    files = [film(tmp_path / "film.mp4", EVEN_S[:60]), pictures(tmp_path, 70, 120)]
    project = of_gauze(empty, *files)
    pushed(empty, project)
    mark = len(empty.sandbox.log())
    again = pushed(empty, project)
    assert (again["done_before"], again["inferred_frames"], empty.sandbox.writes(mark)) == (2, 0, [])


def stored_chunks(push: Command) -> int:
    try:
        with closing(sqlite3.connect(f"file:{push.home}/ledger.sqlite?mode=ro", uri=True)) as ledger:
            (count,) = ledger.execute("SELECT count(*) FROM detections").fetchone()
    except sqlite3.OperationalError:
        return 0
    return int(count)


def test_a_push_killed_within_a_video_goes_on_at_the_first_missing_chunk(empty: Command, tmp_path: Path) -> None:
    (tmp_path / "gauze.yaml").write_text(RECIPE + "video_fps: native")
    project = of_gauze(empty, film(tmp_path / "film.mp4", EVEN_S[:130]), shape=Shape.BOUNDING_BOX)
    process = empty.start("push", "--yes", "--project", project.project_hash)
    while stored_chunks(empty) < 2 and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = stored_chunks(empty)
    result = pushed(empty, project)
    found = list(centres(opened(project)))
    print(f"{kept} chunks kept, {result['inferred_frames']} of 130 frames inferred after the kill")
    assert 2 <= kept < 5
    assert result["inferred_frames"] == 130 - 32 * kept
    assert len({name for name, _, _ in found}) == 1
    assert len({frame for _, frame, _ in found}) == len(found) > 110


def test_a_video_whose_labels_would_be_too_large_is_set_aside_naming_the_rate_that_fits(
    empty: Command, tmp_path: Path
) -> None:
    project = of_gauze(empty, film(tmp_path / "film.mp4", EVEN_S))
    done = empty("push", "--yes", "--json", "--project", project.project_hash, AUTOLABEL_MAX_ROW_BYTES="2000")
    result = json.loads(done.stdout)
    assert (done.returncode, result["set_aside"]) == (3, {"too_large": 1})
    assert "the limit is 2000 (AUTOLABEL_MAX_ROW_BYTES); with video_fps: 0." in result["messages"][0]
    assert all(row.label_hash is None for row in project.list_label_rows_v2())


def test_a_video_that_the_platform_counts_differently_is_set_aside_with_both_counts(
    empty: Command, tmp_path: Path
) -> None:
    project = of_gauze(empty, *pictures(tmp_path, 70))
    client = empty.sandbox.client()
    said = CustomerProvidedVideoMetadata(
        fps=25, duration=2, width=SIZE_PX[0], height=SIZE_PX[1], file_size=1, mime_type="video/mp4"
    )
    item = client.create_storage_folder("inbox").upload_video(
        film(tmp_path / "film.mp4", EVEN_S), video_metadata=said
    )
    client.get_dataset(project.list_label_rows_v2()[0].dataset_hash).link_items([item])
    result = pushed(empty, project)
    assert (result["labelled"], result["set_aside"]) == (1, {"frame_count": 1})
    assert "decodes to 200 frames, the platform counts 50" in result["messages"][0]

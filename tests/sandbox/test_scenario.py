"""The whole demo project: its pictures, image groups and videos are what the platform and the truth say of them."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import requests
from av.video.frame import PictureType
from encord.objects.ontology_labels_impl import LabelRowV2
from pycocotools.coco import COCO

from autolabel.sandbox import running
from autolabel.sandbox.projects import TIMES_S, Stock, frame_of_video
from sandbox.conftest import RunningSandbox, Start
from sandbox.own_project import clip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    folder = tmp_path_factory.mktemp("whole")
    with running(folder, scenario="demo") as info:
        yield RunningSandbox(dir=folder, **info)


@pytest.fixture(scope="module")
def rows(demo: RunningSandbox) -> list[LabelRowV2]:
    return demo.project().list_label_rows_v2()


def decoded(demo: RunningSandbox, rows: list[LabelRowV2], title: str) -> list[av.VideoFrame]:
    (row,) = (row for row in rows if row.data_title == title)
    item = demo.client().get_storage_item(str(row.backing_item_uuid))
    path = demo.dir / title
    path.write_bytes(requests.get(str(item.get_signed_url()), timeout=60).content)
    with av.open(path) as container:
        return list(container.decode(video=0))


def truth_of(demo: RunningSandbox) -> COCO:
    return COCO(str(demo.dir / "truth.json"))


def test_groups_and_videos_come_after_the_pictures(rows: list[LabelRowV2]) -> None:
    assert [row.data_type.value for row in rows] == ["image"] * 40 + ["img_group"] * 5 + ["video"] * 2
    assert [row.number_of_frames for row in rows[40:45]] == [3, 5, 4, 3, 4]
    assert [(row.data_title, row.number_of_frames) for row in rows[45:]] == [("steady.mp4", 200), ("uneven.mp4", 96)]


def test_a_number_of_frames_asks_for_pictures_alone(start: Start) -> None:
    rows = start("demo-agent", frames=3).project().list_label_rows_v2()
    assert [row.data_type.value for row in rows] == ["image"] * 3


def test_frames_of_a_group_are_drawn_in_their_own_size(rows: list[LabelRowV2]) -> None:
    sizes = set()
    for row in rows[40:45]:
        row.initialise_labels(include_signed_url=True)
        for view in row.get_frame_views():
            picture = requests.get(str(view.data_link), timeout=60).content
            assert int.from_bytes(picture[16:20]) == view.width
            assert int.from_bytes(picture[20:24]) == view.height
            sizes.add((row.data_hash, view.width, view.height))
    assert len(sizes) > 5


@pytest.mark.parametrize("title", ["steady.mp4", "uneven.mp4"])
def test_a_video_has_b_frames_and_the_frames_that_the_platform_says(
    demo: RunningSandbox, rows: list[LabelRowV2], title: str
) -> None:
    frames = decoded(demo, rows, title)
    (row,) = (row for row in rows if row.data_title == title)
    gaps_s = [float((later.pts - earlier.pts) * later.time_base) for earlier, later in pairwise(frames)]
    assert (len(frames), frames[0].width, frames[0].height) == (row.number_of_frames, row.width, row.height)
    assert PictureType.B in {frame.pict_type for frame in frames}
    assert row.fps == pytest.approx(len(frames) / row.duration)
    assert {round(gap, 3) for gap in gaps_s} == (
        {0.04} if title == "steady.mp4" else {0.02, 0.033, 0.04, 0.067, 0.1, 0.15}
    )


def test_the_truth_lists_each_second_of_a_video_with_tracks(demo: RunningSandbox, rows: list[LabelRowV2]) -> None:
    truth = truth_of(demo)
    for title, video in zip(("steady.mp4", "uneven.mp4"), truth.dataset["videos"], strict=True):
        times_s = [float(frame.pts * frame.time_base) for frame in decoded(demo, rows, title)]
        shown = [
            max(i for i, time_s in enumerate(times_s) if time_s <= second + 1e-4)
            for second in range(int(times_s[-1]) + 1)
        ]
        assert [frame["frame"] for frame in video["frames"]] == shown
        assert [frame["time_s"] for frame in video["frames"]] == pytest.approx([times_s[i] for i in shown], abs=1e-4)
        tracks = [{a["track_id"]: a["category_id"] for a in annotations_of(truth, f)} for f in video["frames"]]
        assert len(set.union(*map(set, tracks))) >= 2
        for earlier, later in pairwise(tracks):
            assert all(later[track] == earlier[track] for track in earlier.keys() & later.keys())


def annotations_of(truth: COCO, frame: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = truth.imgToAnns[frame["image_id"]]
    return found


@pytest.mark.parametrize("name", ["steady", "uneven"])
def test_each_frame_shows_its_own_moment(demo: RunningSandbox, rows: list[LabelRowV2], name: str) -> None:
    scene = Stock("demo", "", "").video(name).scene
    assert scene is not None
    frames = decoded(demo, rows, f"{name}.mp4")
    candidates = range(1, len(frames), 10)
    drawn = [frame_of_video(scene, TIMES_S[name][i]).rgb.astype(float) for i in candidates]
    for i in (1, 31, 91):
        shown = frames[i].to_ndarray(format="rgb24")
        assert candidates[int(np.argmin([np.abs(shown - rgb).mean() for rgb in drawn]))] == i


def test_every_file_of_the_truth_is_a_frame_of_a_row(demo: RunningSandbox, rows: list[LabelRowV2]) -> None:
    frames = {row.data_hash: row.number_of_frames for row in rows}
    names = [image["file_name"].split("/") for image in truth_of(demo).imgs.values()]
    assert len(names) == len({tuple(name) for name in names}) == 40 + 19 + 8 + 6
    assert all(int(frame) < frames[data_hash] for data_hash, frame in names)


def test_a_video_is_always_encoded_to_the_same_bytes(tmp_path: Path) -> None:
    first, second = (clip(tmp_path / name, [i / 10 for i in range(30)]) for name in ("a.mp4", "b.mp4"))
    assert first.read_bytes() == second.read_bytes()

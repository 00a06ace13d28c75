"""Real photos as a project that people have finished: what the small models, which know drawn tools, are worth there.

pytest tests/figures/test_trial_photos.py -rP
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from encord import Project
from pycocotools.coco import COCO

from autolabel.remote.client import Connection
from autolabel.remote.source import EncordSource
from autolabel.sandbox import running
from sandbox.commands import Command
from sandbox.conftest import RunningSandbox
from sandbox.finished_project import best_iou, labelled_categories, make_finished_project

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "coco128_free"
pytestmark = pytest.mark.skipif(not PHOTOS.is_dir(), reason="coco128_free is not beside this checkout")


@pytest.fixture(scope="module")
def truth() -> COCO:
    return COCO(str(PHOTOS / "instances.json"))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    folder = tmp_path_factory.mktemp("photos")
    with running(folder, scenario="empty") as info:
        yield RunningSandbox(dir=folder, **info)


@pytest.fixture(scope="module")
def project(sandbox: RunningSandbox, truth: COCO) -> Project:
    return make_finished_project(sandbox, truth, PHOTOS / "images")


def test_the_truth_of_the_photos_comes_back_as_what_people_drew(
    sandbox: RunningSandbox, project: Project, truth: COCO
) -> None:
    source = EncordSource(Connection(sandbox.client(), project, project, is_local=True), max_media_bytes=1)
    classes = {one.feature_hash: one for one in source.project().classes}
    assert len(classes) == len(labelled_categories(truth)) == 44
    rows = {row.title: row for row in source.rows()}
    assert {row.stage_uuid for row in rows.values()} == {source.project().workflow.stages[-1].uuid}
    drawn = source.drawn(list(rows.values()))
    likeness: list[float] = []
    for photo in truth.dataset["images"]:
        (frame,) = drawn[rows[photo["file_name"]].data_hash].frames
        notes = [note for note in truth.imgToAnns[photo["id"]] if not note["iscrowd"]]
        assert (frame.width_px, frame.height_px, len(frame.detections)) == (
            photo["width"],
            photo["height"],
            len(notes),
        )
        for found in frame.detections:
            name = classes[found.feature_hash].name
            same = [note for note in notes if truth.cats[note["category_id"]]["name"] == name]
            likeness.append(best_iou(found, same, truth))
    print(
        f"{len(likeness)} objects on {len(rows)} photos: IoU median {median(likeness):.4f}, worst {min(likeness):.4f}"
    )
    assert min(likeness) > 0.9


def test_no_class_of_photos_is_said_to_be_worth_it(
    sandbox: RunningSandbox, project: Project, truth: COCO, tmp_path_factory: pytest.TempPathFactory
) -> None:
    command, began = Command(sandbox, tmp_path_factory.mktemp("home")), time.monotonic()
    mark = len(sandbox.log())
    done = command("trial", "--project", project.project_hash, "--rows", "50", "--json")
    assert done.returncode == 0, done.stderr
    print(f"{time.monotonic() - began:.0f} s")
    told = json.loads(done.stdout, parse_constant=pytest.fail)
    (trial,), (page,) = told["trials"], told["reports"]
    assert trial["judged_rows"] == trial["judged_frames"] == len(truth.dataset["images"])
    by_worth: dict[str, list[str]] = {"yes": [], "no": [], "unknown": []}
    for one in trial["classes"]:
        by_worth[one["verdict"]["worth"]].append(f"{one['plan']['name']}: {one['verdict']['text']}")
    print(
        *(f"{worth}: {'; '.join(said)}" for worth, said in by_worth.items()),
        trial["together"]["text"],
        page,
        sep="\n",
    )
    assert (len(trial["classes"]), by_worth["yes"]) == (44, [])
    assert trial["together"]["worth"] == "no"
    assert "no threshold of any of 44 classes saves time" in Path(page).read_text()
    assert sandbox.writes(mark) == []

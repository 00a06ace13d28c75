"""`trial` as a user runs it: real models over HTTP, on rows that people finished; nothing is written there."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from encord import Project
from encord.objects import LabelRowV2, Object, OntologyStructure, Shape
from encord.objects.coordinates import BoundingBoxCoordinates
from encord.workflow import AnnotationStage, ReviewStage
from PIL import Image

from autolabel.sandbox import running
from autolabel.sandbox.media import encode_video
from autolabel.sandbox.scenes import Scene, draw
from autolabel.sandbox.truth import box_px
from sandbox.commands import Command, kill_all
from sandbox.conftest import RunningSandbox
from sandbox.own_project import make_project

DEMO = Path(__file__).parents[2] / "configs" / "demo.yaml"
SIZE_PX = (480, 360)
WORDS = {"white gauze": "white gauze", "purple scissors": "Mayo", "blue syringe": "blue syringe"}
"""What is drawn -> the class that people have it under; no detector knows the second one's word."""
STILLS = (
    *(7000, 7003, 7005, 7013, 7016, 7020, 7021, 7022, 7024, 7026, 7033, 7037, 7040, 7044, 7045, 7050),
    *(7051, 7052, 7059, 7060, 7061, 7067, 7070, 7071, 7072, 7078),
)
GROUP, VIDEO, NEW = (7083, 7086), 7089, (7090, 7091)
"""Seeds of scenes with at least two swabs and one pair of purple scissors."""
LABELLED_FRAMES = (0, 10)
NOWHERE = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Ward:
    """A project that people have finished but for two new pictures, with a recipe and a prompt map of its own."""

    sandbox: RunningSandbox
    project: Project
    command: Command
    recipe: Path

    @property
    def map(self) -> Path:
        return self.recipe.with_name("map.yaml")

    def trial(self, *arguments: str, **environment: str) -> Any:
        return self.command("trial", "--project", self.project.project_hash, *arguments, **environment)

    def push(self) -> Any:
        return self.command("push", "--yes", "--json", "--to", "main", "--project", self.project.project_hash)


def scene(seed: int) -> Scene:
    return draw(seed, *SIZE_PX, ["white gauze"] * 5 + ["purple scissors"] * 4 + ["blue syringe"])


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    folder = tmp_path_factory.mktemp("ward")
    recipe = folder / "recipe.yaml"
    recipe.write_text(DEMO.read_text() + "prompt_map: map.yaml\n")
    recipe.with_name("map.yaml").write_text("classes:  # ours\n  white gauze: {threshold: 0.5}\n")
    with running(folder / "sandbox", scenario="empty") as info:
        sandbox = RunningSandbox(dir=folder / "sandbox", **info)
        project = make_project(sandbox, ontology(), files(folder))
        finish(project)
        yield Ward(sandbox, project, Command(sandbox, folder / "home", str(recipe)), recipe)


def ontology() -> OntologyStructure:
    structure = OntologyStructure()
    for name in WORDS.values():
        structure.add_object(name, Shape.BOUNDING_BOX)
    return structure


def files(folder: Path) -> list[Path | Sequence[Path]]:
    paths = {seed: folder / f"{seed}.png" for seed in (*STILLS, *GROUP, *NEW)}
    for seed, path in paths.items():
        Image.fromarray(scene(seed).rgb).save(path)
    film = folder / f"{VIDEO}.mp4"
    encode_video(film, SIZE_PX, ((k / 10, scene(VIDEO).rgb) for k in range(25)))
    return [*(paths[seed] for seed in (*STILLS, *NEW)), [paths[seed] for seed in GROUP], film]


def finish(project: Project) -> None:
    """People draw what is truly there, and it is approved; nobody opens the new pictures."""
    new = {f"{seed}.png" for seed in NEW}
    for row in project.list_label_rows_v2():
        if row.data_title not in new:
            row.initialise_labels()
            for frame, seed in seen(row).items():
                by_hand(row, frame, scene(seed))
            row.save()
    for stage in project.workflow.stages:
        if isinstance(stage, AnnotationStage):
            for task in stage.get_tasks():
                if task.data_title not in new:
                    task.submit()
        elif isinstance(stage, ReviewStage):
            for review in stage.get_tasks():
                review.approve()


def seen(row: LabelRowV2) -> Mapping[int, int]:
    """Of the frames that people labelled, the scene."""
    if row.data_title.startswith("group"):
        return dict(enumerate(GROUP))
    seed = int(row.data_title.split(".")[0])
    return dict.fromkeys(LABELLED_FRAMES if seed == VIDEO else (0,), seed)


def by_hand(row: LabelRowV2, frame: int, shown: Scene) -> None:
    for name, mask, _ in shown.objects:
        if name in WORDS:
            x, y, w, h = box_px(mask)
            width, height = SIZE_PX
            box = BoundingBoxCoordinates(
                top_left_x=x / width, top_left_y=y / height, width=w / width, height=h / height
            )
            drawn = row.ontology_structure.get_child_by_title(WORDS[name], type_=Object).create_instance()
            drawn.set_for_frames(box, frames=frame, manual_annotation=True)
            row.add_object_instance(drawn)


@pytest.fixture(scope="module")
def first(ward: Ward) -> Any:
    """A trial that writes what it found into the map of one's own; and what it wrote to the platform."""
    mark = len(ward.sandbox.log())
    done = ward.trial("--write-map", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    (said,) = json.loads(done.stdout, parse_constant=pytest.fail)["trials"]
    return {**said, "by_name": {one["plan"]["name"]: one for one in said["classes"]}} | {
        "writes": ward.sandbox.writes(mark),
        "told": done.stderr,
        "map": ward.map.read_text(),
    }


def test_nothing_is_written_to_the_platform(first: Any) -> None:
    assert first["writes"] == []


def test_classes_are_worth_it_or_not_or_cannot_be_told_with_how_many_more(first: Any) -> None:
    by_name = first["by_name"]
    assert {name: one["verdict"]["worth"] for name, one in by_name.items()} == {
        "white gauze": "yes",
        "Mayo": "no",
        "blue syringe": "unknown",
    }
    few = by_name["blue syringe"]
    lacking = {"too_few": f"{few['objects']} of 30 objects"}
    assert [few["rates"], few["precision"], few["verdict"]["saved_s"]] == [lacking] * 3
    assert f"{30 - few['objects']} more are needed" in few["verdict"]["text"]
    assert few["iou"] is few["boundary_iou"] is few["verdict"]["threshold"] is None


def test_every_kind_of_row_is_judged_and_counts_add_up(ward: Ward, first: Any) -> None:
    rows = len(STILLS) + 2
    assert first["rows"] == {"judged": rows}
    assert (first["judged_rows"], first["judged_frames"]) == (rows, len(STILLS) + len(GROUP) + len(LABELLED_FRAMES))
    seeds = [*STILLS, *GROUP, *[VIDEO] * len(LABELLED_FRAMES)]
    names = [one.name for seed in seeds for one in scene(seed).objects]
    for drawn, word in WORDS.items():
        assert first["by_name"][word]["objects"] == names.count(drawn)
        hash_ = first["by_name"][word]["plan"]["feature_hash"]
        assert sum(count for kind, _, count in first["confusion"] if kind == hash_) == names.count(drawn)


def test_the_map_gets_thresholds_and_what_is_off_and_people_see_the_difference(first: Any) -> None:
    threshold = first["by_name"]["white gauze"]["verdict"]["threshold"]
    assert f"+  white gauze: {{threshold: {threshold}}}  # trial: saves " in first["told"]
    assert "-  white gauze: {threshold: 0.5}\n" in first["told"]
    assert "+    prompts: []  # trial: not worth it: " in first["told"]
    assert first["map"].startswith("classes:  # ours\n")
    assert "calibrat" not in first["map"]


def test_labels_carry_calibrated_confidence_until_the_prompts_change(ward: Ward, first: Any) -> None:
    """The curve is by hand here: a trial writes one from 500 detections on."""
    ward.map.write_text(first["map"] + "  blue syringe: {prompts: []}\n")
    again = ward.trial("--json", AUTOLABEL_REPORT_IMAGES="off")
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    assert "data:image/jpeg" not in Path(told["reports"][0]).read_text()
    entries = yaml.safe_load(ward.map.read_text())
    entries["classes"]["white gauze"]["calibration"] = [[0.0, 0.1], [1.0, 0.3]]
    ward.map.write_text(yaml.safe_dump(entries | {"calibrated_for": told["trials"][0]["scoring_id"]}))
    ward.recipe.write_text(ward.recipe.read_text() + "confidence: calibrated\n")
    pushed = ward.push()
    assert pushed.returncode == 0, pushed.stderr
    assert "confidence 0 to 1, calibrated" in Path(json.loads(pushed.stdout)["report"]).read_text()
    assert all(0.1 < confidence < 0.3 for confidence in confidences(ward.project))
    ward.map.write_text(ward.map.read_text().replace("white gauze:", "white gauze:\n    prompts: [gauze]"))
    refused = ward.push()
    assert refused.returncode == 2
    assert "it is not for this recipe's prompts" in refused.stderr
    assert "Run `autolabel trial` with --write-map" in refused.stderr


def test_the_same_map_twice_shows_no_difference(ward: Ward) -> None:
    a, b = (ward.recipe.with_name(name) for name in ("a.yaml", "a-copy.yaml"))
    for path in (a, b):
        path.write_text("classes:\n  white gauze: {threshold: 0.3}\n")
    done = ward.trial("--rows", "10", "--variants", str(a), str(b), "--config", "demo")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("all classes together: no difference shown (")
    assert "better" not in done.stdout
    pages = sorted((ward.command.home / "reports").glob("trial-*.html"), key=os.path.getmtime)[-3:]
    assert report_of(done.stdout) == pages[-1]
    assert [stat.S_IMODE(page.stat().st_mode) for page in pages] == [0o600] * 3


def test_what_cannot_be_done_is_said_in_one_line_and_nothing_is_tried(ward: Ward) -> None:
    for arguments, why in (
        (
            ["--stage", "Done"],
            "has no stage called 'Done', so --stage has to name another; there are 'Annotate', 'Review', 'Comp",
        ),
        (["--write-map"], "nobody is here to confirm a new prompt map: give --yes, or no --write-map"),
        (["--write-map", "--variants", "a.yaml", "b.yaml"], "leave out --variants"),
        (
            ["--write-map", "--yes", "--config", "demo"],
            "the recipe has no prompt map, so there is none to write into",
        ),
        (["--project", NOWHERE], f"the platform knows no such thing while opening project {NOWHERE}"),
    ):
        done = ward.trial(*arguments)
        assert done.returncode == (1 if NOWHERE in arguments else 2), (arguments, done.stderr)
        assert re.fullmatch(rf"error: .*{re.escape(why)}.*\n", done.stderr), (arguments, done.stderr)
        assert done.stdout == ""


def test_an_interrupted_trial_leaves_nothing_behind(ward: Ward) -> None:
    command = replace(ward.command, home=ward.command.home.with_name("other home"), config="demo")
    process = command.start("trial", "--project", ward.project.project_hash)
    spool = command.home / "spool"
    try:
        while not (spool.is_dir() and list(spool.iterdir())):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 75
    finally:
        if process.poll() is None:
            kill_all(process)
    assert list(spool.iterdir()) == []
    assert not (command.home / "reports").exists()


def report_of(stdout: str) -> Path:
    return Path(stdout.split("report: ")[1].splitlines()[0])


def confidences(project: Project) -> list[float]:
    """Of what stands on the new pictures, read back through the SDK."""
    rows = [row for row in project.list_label_rows_v2() if row.data_title in {f"{seed}.png" for seed in NEW}]
    for row in rows:
        row.initialise_labels()
    return [
        place.confidence for row in rows for item in row.get_object_instances() for place in item.get_annotations()
    ]

"""People work on what a run wrote, over HTTP, and a review tells what they did, and that alone."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
from encord.objects import OntologyStructure, Shape

from annotators import Annotator, annotate, approve, truth_of
from autolabel.bootstrap import open_undo, run_review
from autolabel.evaluation.values import TooFew
from autolabel.review import NOT_YET, PASSED, REVIEWED, SKIPPED, UNDONE, Fates, Review
from autolabel.settings import Settings, read_settings
from sandbox.commands import Command
from sandbox.conftest import RunningSandbox, Start
from sandbox.own_project import make_project
from sandbox.test_frames import EVEN_S, RECIPE, film

ANN, BEN = "ann@example.com", "ben@example.com"
FAR = [0.02, 0.02, 0.1, 0.1]


@dataclass(frozen=True)
class Reviewed:
    """A project that a run was pushed to; people act on it, and what a review says is what they did."""

    command: Command
    run: str

    @property
    def settings(self) -> Settings:
        sandbox = self.command.sandbox
        places = {"domain": sandbox.domain, "ssh_key_file": Path(sandbox.ssh_key_file), "home": self.command.home}
        return read_settings(env_file=None).model_copy(update=places)

    def review(self, *, all_runs: bool = False) -> Review:
        """In this process, held to read only and to add up."""
        mark = len(self.command.sandbox.log())
        found = run_review(self.settings, self.run, all_runs=all_runs)
        assert self.command.sandbox.writes(mark) == []
        assert found.fates == sum(found.by_person.values(), Fates())
        return found

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Data hash -> objects of the rows on main in which something of the run stands."""
        listed = {key: _objects(row["labels"]) for key, row in self.command.sandbox.rows()["main"].items()}
        return {key: items for key, items in listed.items() if any(not item["manualAnnotation"] for item in items)}

    def fullest(self) -> tuple[str, list[dict[str, Any]]]:
        return max(self.rows().items(), key=lambda row: len(row[1]))

    def act(self, email: str, data_hash: str, action: str, **wanted: Any) -> None:
        person = {"action": action, "project": self.command.project, "data_hash": data_hash, "email": email}
        self.command.sandbox.admin("POST", "human", person | wanted)


def _objects(part: Any) -> list[dict[str, Any]]:
    """Of all units, and of all frames of a video."""
    return part["objects"] if "objects" in part else [item for inner in part.values() for item in _objects(inner)]


@pytest.fixture
def pushed(start: Start, pushed_state: tuple[Path, str], sandbox_dir: Path, tmp_path: Path) -> Reviewed:
    folder, run = pushed_state
    copytree(folder / "sandbox", sandbox_dir)
    copytree(folder / "home", tmp_path / "home")
    return Reviewed(Command(start(), tmp_path / "home"), run)


def work(done: Reviewed) -> None:
    """On the fullest row Ann edits, replaces and adds an object, Ben deletes one, a mask stays; Ann takes longer."""
    row, items = done.fullest()
    (box,) = [item for item in items if "boundingBox" in item]
    first, second = [item for item in items if "polygons" in item]
    place = box["boundingBox"]
    half = [place["x"], place["y"], place["w"] / 2, place["h"]]
    done.act(ANN, row, "edit", object_hash=box["objectHash"], box_norm=half)
    done.act(BEN, row, "delete", object_hash=first["objectHash"], seconds=5)
    done.act(ANN, row, "delete", object_hash=second["objectHash"])
    done.act(ANN, row, "draw", box_norm=around(second), **{"class": "blue syringe"})
    done.act(ANN, row, "draw", box_norm=FAR, **{"class": "blue syringe"})
    done.act(ANN, row, "submit", seconds=60)


def around(item: dict[str, Any]) -> list[float]:
    points = np.concatenate([np.reshape(ring, (-1, 2)) for part in item["polygons"] for ring in part])
    return [*points.min(0).tolist(), *np.ptp(points, axis=0).tolist()]


def lines(review: Review) -> dict[str, int]:
    return {text: count for count, text in review.rows}


@pytest.mark.sdk
def test_each_object_is_told_by_class_and_by_who_decided(pushed: Reviewed) -> None:
    work(pushed)
    found = pushed.review()
    by_class = {cls.name: dict(cls.by_person) for cls in found.classes if cls.fates.total}
    assert by_class == {
        "blue syringe": {ANN: Fates(edited=1, added=1)},
        "gold needle holder": {ANN: Fates(deleted=1, other_class=1)},
        "black forceps": {ANN: Fates(kept=1)},
    }
    assert found.edit_iou == pytest.approx(0.5, abs=1e-3)
    names = {item.feature_hash: item.name for item in found.project.classes}
    swapped = [(names[now], names[was]) for now, was in found.confusion if now and was and now != was]
    assert swapped == [("blue syringe", "gold needle holder")]


def test_only_rows_that_people_have_finished_are_judged(pushed: Reviewed) -> None:
    assert (pushed.review().fates, lines(pushed.review())) == (Fates(), {NOT_YET: 8})
    rows = pushed.rows()
    finished, skipped, past, *_others = rows
    pushed.act(ANN, finished, "submit", seconds=30)
    pushed.act(ANN, skipped, "skip")
    found = pushed.review()
    assert lines(found) == {REVIEWED: 1, NOT_YET: 6, SKIPPED: 1}
    assert found.by_person == {ANN: Fates(kept=len(rows[finished]))}
    pushed.act(ANN, past, "submit")
    assert lines(pushed.review()) == {REVIEWED: 1, NOT_YET: 5, PASSED: 1, SKIPPED: 1}


def test_rows_that_were_taken_back_are_left_out(pushed: Reviewed) -> None:
    work(pushed)
    with open_undo(pushed.settings, pushed.run) as undoing:
        undoing.execute(undoing.plan(via_agent_stage=True))
    found = pushed.review()
    assert lines(found) == {REVIEWED: 1, NOT_YET: 1, UNDONE: 6}
    assert found.fates.proposed == 4


def test_a_second_review_says_the_same_and_the_page_is_for_its_owner_alone(pushed: Reviewed) -> None:
    work(pushed)
    first, second = pushed.review(), pushed.review(all_runs=True)
    assert asdict(replace(first, id="")) == asdict(replace(second, id=""))
    done = pushed.command("review", "--run", pushed.run, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {key: told["all"][key] for key in asdict(first.fates)} == asdict(first.fates)
    assert told["rows"] == lines(first)
    assert Path(told["report"]).stat().st_mode & 0o777 == 0o600


def test_labels_of_the_agent_stage_are_reviewed_and_timed_against_rows_that_were_held_out(
    start: Start, tmp_path: Path
) -> None:
    command = Command(start("demo-agent", 8), tmp_path / "home")
    pushing = ("push", "--project", command.project, "--yes", "--json", "--to", "agent-stage")
    pushed = json.loads(command(*pushing, AUTOLABEL_HOLDOUT="0.5").stdout)
    done, truth, rng = Reviewed(command, pushed["run"]), truth_of(command.sandbox), np.random.default_rng(0)
    shown, did = done.rows(), Counter[str]()
    for row in command.sandbox.project().list_label_rows_v2():
        if row.workflow_graph_node.title == "Annotate":
            acts = annotate(command.sandbox, Annotator(ANN), row.data_hash, truth.get(row.data_hash, []), rng).acts
            did += Counter(act for act, _name in acts.elements() if row.data_hash in shown)
            approve(command.sandbox, "rev@example.com", row.data_hash, 5)
    found = done.review()
    assert lines(found) == {REVIEWED: pushed["labelled"] + pushed["empty"]}
    assert (found.fates.edited, found.fates.deleted) == (did["edited"], did["deleted"])
    assert isinstance(found.time, TooFew)
    assert found.time.have == pushed["left_alone"]["holdout"]


@pytest.fixture
def film_on_branch(start: Start, tmp_path: Path) -> Reviewed:
    """A video of a gauze, which a run labelled on its own branch."""
    (tmp_path / "gauze.yaml").write_text(RECIPE)
    structure = OntologyStructure()
    structure.add_object("white gauze", Shape.BOUNDING_BOX)
    sandbox: RunningSandbox = start("empty")
    project = make_project(sandbox, structure, [film(tmp_path / "film.mp4", EVEN_S[:75])])
    sandbox = replace(sandbox, projects={"own": project.project_hash})
    command = Command(sandbox, tmp_path / "home", str(tmp_path / "gauze.yaml"))
    return Reviewed(command, command.push("--to", "branch")["run"])


def test_a_branch_is_reviewed_once_it_is_published_and_a_track_is_edited_on_one_frame(
    film_on_branch: Reviewed,
) -> None:
    done, command = film_on_branch, film_on_branch.command
    refused = command("review", "--run", done.run)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert f"autolabel publish --run {done.run}" in refused.stderr
    assert command("publish", "--run", done.run, "--yes").returncode == 0
    ((row, items),) = done.rows().items()
    assert len({item["objectHash"] for item in items}) == 1
    half = items[0]["boundingBox"]
    half = [half["x"], half["y"], half["w"] / 2, half["h"]]
    done.act(ANN, row, "edit", object_hash=items[0]["objectHash"], box_norm=half)
    done.act(ANN, row, "submit")
    found = done.review()
    assert found.by_person == {ANN: Fates(edited=1)}
    assert found.edit_iou == pytest.approx((len(items) - 0.5) / len(items), abs=1e-3)


def test_an_unknown_run_is_refused_in_one_line(start: Start, tmp_path: Path) -> None:
    done = Command(start("empty"), tmp_path / "home")("review", "--run", "no-such-run")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)

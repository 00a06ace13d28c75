"""Undoing a run over HTTP: what goes is ours and untouched, and all else is byte for byte what it was."""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from encord.objects import LabelRowV2
from encord.objects.attributes import TextAttribute
from encord.workflow.stages.annotation import AnnotationStage

from autolabel.bootstrap import open_undo
from autolabel.errors import TransientError
from autolabel.operate import Action, Step, Why
from autolabel.settings import read_settings
from sandbox.commands import Command
from sandbox.conftest import Start

SAVE = {"query_type": "labelrow", "query_method": "POST"}
Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Pushed:
    """A project that was pushed, `run` by which run; undone in this process, which loads no model."""

    command: Command
    run: str

    def undo(self, *, via: bool = False) -> list[Step]:
        sandbox = self.command.sandbox
        changes = {
            "domain": sandbox.domain,
            "ssh_key_file": Path(sandbox.ssh_key_file),
            "home": self.command.home,
            "config": "demo",
        }
        settings = read_settings(env_file=None).model_copy(update=changes)
        with open_undo(settings, self.run) as work:
            return work.execute(work.plan(via_agent_stage=via))

    def rows(self, branch: str = "main") -> Rows:
        return self.command.sandbox.rows().get(branch, {})

    @property
    def branch(self) -> str:
        (name,) = self.command.sandbox.rows().keys() - {"main"}
        return name

    def stages(self) -> dict[str, str]:
        listed = self.command.sandbox.project().list_label_rows_v2()
        return {row.data_hash: row.workflow_graph_node.title for row in listed}

    def labelled(self) -> list[Any]:
        """The rows that the run labelled, as the SDK lists them."""
        ours = self.rows(self.branch)
        return [row for row in self.command.sandbox.project().list_label_rows_v2() if row.data_hash in ours]

    def fullest(self) -> str:
        """Data hash of the row with most of the run's objects."""
        ours = self.rows(self.branch)
        return max(ours, key=lambda key: len(objects(ours[key])))

    def sdk_row(self, data_hash: str, branch: str = "main") -> LabelRowV2:
        listed = self.command.sandbox.project().list_label_rows_v2(data_hashes=[data_hash], branch_name=branch)
        listed[0].initialise_labels()
        return listed[0]


@pytest.fixture
def pushed(start: Start, pushed_state: tuple[Path, str], sandbox_dir: Path, tmp_path: Path) -> Pushed:
    folder, run = pushed_state
    copytree(folder / "sandbox", sandbox_dir)
    copytree(folder / "home", tmp_path / "home")
    return Pushed(Command(start(), tmp_path / "home"), run)


def objects(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for labels in row["labels"].values() for item in labels["objects"]]


def content(row: dict[str, Any], less: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    """All that stands in a row, less some objects, as text."""
    labels = {
        unit: {**parts, "objects": [item for item in parts["objects"] if item["objectHash"] not in less]}
        for unit, parts in row["labels"].items()
    }
    answers = {part: row[part] for part in ("object_answers", "object_actions")}
    kept = {part: {name: a for name, a in all_.items() if name not in less} for part, all_ in answers.items()}
    return json.dumps([labels, kept, row["classification_answers"]], sort_keys=True)


def actions(steps: list[Step]) -> Counter[Action]:
    return Counter(step.action for step in steps)


def test_our_branch_is_emptied_and_main_left_with_the_reason_where_people_may_look(pushed: Pushed) -> None:
    before, branch = pushed.rows(), pushed.branch
    labelled = len(pushed.labelled())
    steps = pushed.undo()
    assert actions(steps) == {Action.EMPTY: labelled, Action.LEAVE: labelled}
    assert {step.why for step in steps} == {None, Why.ELSEWHERE}
    assert json.dumps(pushed.rows()) == json.dumps(before)
    assert not any(objects(row) for row in pushed.rows(branch).values())
    mark = len(pushed.command.sandbox.log())
    assert actions(pushed.undo()) == {Action.LEAVE: labelled}
    assert pushed.command.sandbox.writes(mark) == []


@pytest.mark.sdk
def test_by_way_of_the_agent_stage_main_is_undone_and_a_later_push_leaves_it_so(pushed: Pushed) -> None:
    stages, labelled = pushed.stages(), pushed.labelled()
    assert {stages[row.data_hash] for row in labelled} == {"Annotate"}
    pushed.command.sandbox.human("assign", labelled[0], email="annotator@example.com")
    steps = pushed.undo(via=True)
    assert actions(steps) == {Action.EMPTY: len(labelled), Action.EDIT: len(labelled) - 1, Action.LEAVE: 1}
    assert pushed.stages() == stages
    ours = {row.data_hash for row in labelled[1:]}
    assert not any(objects(row) for key, row in pushed.rows().items() if key in ours)
    assert objects(pushed.rows()[labelled[0].data_hash])
    again = pushed.command.push("--to", "main")
    assert (again["labelled"], again["left_alone"]["undone"]) == (0, len(labelled) - 1)


@pytest.mark.sdk
def test_what_people_touched_stays_and_so_does_all_else_of_the_row(pushed: Pushed) -> None:
    row = pushed.sdk_row(pushed.fullest())
    ours = [item["objectHash"] for item in objects(pushed.rows()[row.data_hash]) if "boundingBox" in item]
    sandbox, box = pushed.command.sandbox, [0.1, 0.2, 0.3, 0.4]
    sandbox.human("edit", row, object_hash=ours[0], box_norm=box)
    sandbox.human("draw", row, box_norm=box, **{"class": "blue syringe"})
    sandbox.human("classify", row)
    before = pushed.rows()[row.data_hash]
    machine = {item["objectHash"] for item in objects(before) if not item["manualAnnotation"]}
    (step,) = [s for s in pushed.undo(via=True) if s.claim.data_hash == row.data_hash and s.claim.branch == "main"]
    assert (step.action, step.objects, step.kept) == (Action.EDIT, len(machine) - 1, 1)
    assert content(pushed.rows()[row.data_hash]) == content(before, less=machine - {ours[0]})


def test_an_object_that_moved_without_a_mark_or_whose_attribute_was_answered_stays(pushed: Pushed) -> None:
    project = pushed.command.sandbox.project()
    ontology = pushed.command.sandbox.client().get_ontology(project.ontology_hash)
    for kind in ontology.structure.objects:
        kind.add_attribute(TextAttribute, "Remark")
    ontology.save()
    row = pushed.sdk_row(pushed.fullest())
    moved, answered, *others = row.get_object_instances()
    (place,) = moved.get_annotations()
    place.confidence = 0.5
    answered.set_answer("rusty", answered.ontology_item.attributes[0])
    row.save()
    before = pushed.rows()[row.data_hash]
    pushed.undo(via=True)
    assert content(pushed.rows()[row.data_hash]) == content(before, less={item.object_hash for item in others})


def test_a_row_that_cannot_be_read_is_left_and_stops_no_other(pushed: Pushed) -> None:
    key, client = pushed.fullest(), pushed.command.sandbox.project()._client
    (raw,) = client.get_label_rows([pushed.rows()[key]["label_hash"]], get_signed_url=False)
    unknown = {"name": "Dirty", "value": "dirty", "answers": "yes", "featureHash": "unknown1"}
    next(iter(raw["object_answers"].values()))["classifications"] = [unknown]
    client.save_label_rows([raw["label_hash"]], [raw])
    before = pushed.rows()[key]
    steps = pushed.undo(via=True)
    assert [step.claim.data_hash for step in steps if step.why == Why.UNREADABLE] == [key]
    assert (pushed.rows()[key], actions(steps)[Action.LEAVE]) == (before, 1)


def test_a_row_that_somebody_changed_on_our_branch_is_left(pushed: Pushed) -> None:
    branch = pushed.branch
    row = pushed.sdk_row(pushed.fullest(), branch)
    (place,) = row.get_object_instances()[0].get_annotations()
    place.manual_annotation = True
    row.save()
    before = pushed.rows(branch)[row.data_hash]
    (step,) = [s for s in pushed.undo() if s.why == Why.CHANGED]
    assert step.claim.data_hash == row.data_hash
    assert pushed.rows(branch)[row.data_hash] == before


def test_an_undo_that_ends_with_a_task_at_the_agent_stage_is_finished_by_the_next(pushed: Pushed) -> None:
    stages, labelled = pushed.stages(), pushed.labelled()
    pushed.command.sandbox.fault("status", status=400, after=1, match={"path_contains": "move-tasks"})
    assert [step.why for step in pushed.undo(via=True)].count(Why.REFUSED) == 1
    assert Counter(pushed.stages().values()) != Counter(stages.values())
    pushed.undo(via=True)
    assert pushed.stages() == stages
    ours = {row.data_hash for row in labelled}
    assert not any(objects(row) for key, row in pushed.rows().items() if key in ours)


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "truncate"])
def test_a_save_whose_answer_is_lost_is_read_back_and_not_done_twice(pushed: Pushed, kind: str) -> None:
    branch = pushed.branch
    pushed.command.sandbox.fault(kind, match=SAVE)
    assert Action.EMPTY in actions(pushed.undo())
    assert pushed.command.sandbox.faults_met() == [1]
    saved = [row["revision"] for row in pushed.rows(branch).values()]
    assert saved == [2] * len(saved)  # the labels, then their undoing


def test_a_row_at_the_agent_stage_is_edited_and_stays_there(pushed: Pushed) -> None:
    project = pushed.command.sandbox.project()
    agent, annotate = (project.workflow.get_stage(name=name) for name in ("Pre-label", "Annotate"))
    assert isinstance(annotate, AnnotationStage)
    row = pushed.labelled()[0]
    (task,) = annotate.get_tasks(data_hash=row.data_hash)
    task.move(destination_stage_uuid=agent.uuid)
    steps = pushed.undo()
    assert [step.claim.data_hash for step in steps if step.action == Action.EDIT] == [row.data_hash]
    assert pushed.stages()[row.data_hash] == "Pre-label"
    assert objects(pushed.rows()[row.data_hash]) == []


def test_nothing_is_undone_while_a_run_holds_the_project(pushed: Pushed) -> None:
    mark = len(pushed.command.sandbox.log())
    with (pushed.command.home / "locks" / f"{pushed.command.project}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with pytest.raises(TransientError, match="nothing was undone"):
            pushed.undo()
    assert pushed.command.sandbox.log()[mark:] == []


def test_undo_and_explain_on_the_command_line(pushed: Pushed) -> None:
    item = objects(next(iter(pushed.rows(pushed.branch).values())))[0]
    told = json.loads(pushed.command("explain", item["objectHash"], "--json").stdout)
    assert (told["class"]["name"], told["written"][0]["run"]) == (item["name"], pushed.run)
    assert told["frames"][0]["score"] == pytest.approx(item["confidence"], abs=1e-4)
    plan = pushed.command("undo", "--run", pushed.run)
    assert (plan.returncode, "nobody is here to confirm" in plan.stderr) == (2, True)
    assert "its task is not at the Agent stage" in plan.stdout
    assert "emptied" in plan.stdout
    done = pushed.command("undo", "--run", pushed.run, "--yes", "--json", "--via-agent-stage")
    assert (done.returncode, json.loads(done.stdout)["left"]) == (0, [])
    assert "undone" in pushed.command("explain", item["objectHash"]).stdout

"""Labels that go straight to main while tasks sit at the Agent stage: real SDK over HTTP, a fake for the models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autolabel.core.prompts import PromptPlan
from autolabel.core.rows import Destination, Reason
from autolabel.errors import TransientServiceError
from autolabel.plan import LOOK_AGAIN_S
from quick_pushes import Desk
from sandbox.commands import Command, ours
from sandbox.conftest import RunningSandbox, Start

CREATE = {"query_type": "labelrow", "query_method": "PUT"}
SAVE = {"query_type": "labelrow", "query_method": "POST"}
ROWS = 10
IMPORTED = 2  # rows of the demo with an Agent stage that hold people's work already


@pytest.fixture
def sandbox(start: Start) -> RunningSandbox:
    return start("demo-agent", ROWS)


@pytest.fixture
def desk(sandbox: RunningSandbox, tmp_path: Path) -> Desk:
    return desk_of(sandbox, tmp_path)


def desk_of(sandbox: RunningSandbox, home: Path) -> Desk:
    (project_hash,) = sandbox.projects.values()
    return Desk(sandbox.domain, sandbox.ssh_key_file, project_hash, home)


def waiting_at(sandbox: RunningSandbox) -> dict[str, int]:
    """Stage title -> how many tasks are there."""
    titles = [row.workflow_graph_node.title for row in sandbox.project().list_label_rows_v2()]
    return {title: titles.count(title) for title in dict.fromkeys(titles)}


def people_take_all(sandbox: RunningSandbox) -> list[Any]:
    """All tasks at Annotate, as before any push: no row opened, nobody assigned."""
    project = sandbox.project()
    stage = project.workflow.stages[0]
    for task in list(stage.get_tasks()):
        task.proceed(pathway_name="annotate")
    return project.list_label_rows_v2()


def test_labels_land_on_main_and_tasks_move_on_and_no_branch_is_made(sandbox: RunningSandbox, desk: Desk) -> None:
    run = desk.push()
    assert (run.tally.labelled, run.summary()["left_alone"]) == (ROWS - IMPORTED, {Reason.HUMAN_CONTENT: IMPORTED})
    assert set(sandbox.rows()) == {"main"}
    assert len(ours(sandbox)) == 2 * (ROWS - IMPORTED)
    assert waiting_at(sandbox) == {"Annotate": ROWS - IMPORTED, "Pre-label": IMPORTED}


def test_labels_of_a_calibrated_recipe_carry_the_calibrated_confidence(sandbox: RunningSandbox, desk: Desk) -> None:
    (cls,) = desk.recipe.plan.classes
    desk.recipe = replace(
        desk.recipe,
        config=desk.recipe.config.model_copy(update={"confidence": "calibrated"}),
        plan=PromptPlan((replace(cls, calibration=((0.0, 0.0), (0.8, 0.25), (0.9, 0.5), (1.0, 1.0))),)),
    )
    desk.push()
    assert {round(item.numbers[0], 6) for item in ours(sandbox)} == {0.25, 0.5}


def test_each_row_is_saved_once_and_a_second_push_writes_nothing(sandbox: RunningSandbox, desk: Desk) -> None:
    desk.push()
    assert sandbox.writes() == ["label_row_created", "label_row_saved", "task_moved"]
    mark = len(sandbox.log())
    assert desk.push().summary()["done_before"] == ROWS - IMPORTED
    assert sandbox.writes(mark) == []


def test_a_row_that_was_opened_and_holds_nothing_is_labelled(sandbox: RunningSandbox, desk: Desk) -> None:
    row = sandbox.project().list_label_rows_v2()[0]
    row.initialise_labels()
    assert desk.push().tally.labelled == ROWS - IMPORTED


def test_an_answer_that_the_sdk_does_not_show_is_peoples_work(sandbox: RunningSandbox, desk: Desk) -> None:
    """The SDK drops answers without a range, as old rows may hold them; a save would delete them."""
    row = sandbox.project().list_label_rows_v2()[0]
    (answered,) = sandbox.human("classify", row)["changed"]
    (answer,) = answered["classification_answers"].values()
    del answer["range"]
    sandbox.human("autosave", row, copy=answered)
    row.initialise_labels()
    assert row.get_classification_instances() == []
    assert desk.push().tally.left_alone == {Reason.HUMAN_CONTENT: 1}
    assert len(sandbox.rows()["main"][row.data_hash]["classification_answers"]) == 1


def test_a_task_that_leaves_the_stage_after_the_plan_is_left_alone_and_its_row_is_not_made(
    sandbox: RunningSandbox, desk: Desk
) -> None:
    row = desk.source.rows()[0]
    (stage, *_) = sandbox.project().workflow.stages
    next(iter(stage.get_tasks(data_hash=row.data_hash))).proceed(pathway_name="annotate")
    desk.source.rows = lambda dataset=None: [row]  # type: ignore[method-assign]
    assert desk.push().tally.left_alone == {Reason.WRONG_STAGE: 1}
    assert row.data_hash not in sandbox.rows().get("main", {})


@pytest.mark.parametrize("act", ["draw", "classify"])
def test_what_somebody_puts_into_a_row_just_before_it_is_read_stays(
    sandbox: RunningSandbox, desk: Desk, act: str
) -> None:
    row = sandbox.project().list_label_rows_v2()[0]
    plan_rows = desk.source.rows()
    desk.source.rows = lambda dataset=None: plan_rows  # type: ignore[method-assign]
    sandbox.human(act, row, **({"class": "blue syringe", "box_norm": [0.1, 0.1, 0.2, 0.2]} if act == "draw" else {}))
    before = json.dumps(sandbox.rows()["main"][row.data_hash])
    assert desk.push().tally.left_alone == {Reason.HUMAN_CONTENT: 1}
    assert json.dumps(sandbox.rows()["main"][row.data_hash]) == before
    assert waiting_at(sandbox)["Pre-label"] == IMPORTED


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        pytest.param("reset_after", CREATE, id="created, answer lost"),
        pytest.param("reset_before", SAVE, id="save lost"),
        pytest.param("reset_after", SAVE, id="saved, answer lost"),
        pytest.param("truncate", SAVE, id="saved, answer cut"),
        pytest.param("reset_after", {"path_contains": "/actions"}, id="moved on, answer lost"),
    ],
)
def test_a_lost_answer_is_read_back_and_never_blindly_sent_again(
    sandbox: RunningSandbox, desk: Desk, kind: str, call: dict[str, Any]
) -> None:
    sandbox.fault(kind, match=call)
    assert desk.push().tally.labelled == ROWS - IMPORTED
    assert sandbox.faults_met() == [1]
    effects = sandbox.writes()
    assert effects.count("label_row_saved") == 1
    assert len(ours(sandbox)) == 2 * (ROWS - IMPORTED)


def test_rows_of_a_run_that_died_after_its_save_are_read_back_wherever_their_tasks_are(
    sandbox: RunningSandbox, desk: Desk
) -> None:
    """Everything after the save fails; then people move the tasks on, and one is drawn on."""
    sandbox.fault("status", times=1000, after=1, match={"query_type": "labelrow", "query_method": "GET"})
    with pytest.raises(TransientServiceError):
        desk.push()
    assert sandbox.writes().count("label_row_saved") == 1
    sandbox.admin("DELETE", "faults")
    rows = people_take_all(sandbox)
    sandbox.human("draw", rows[0], **{"class": "blue syringe", "box_norm": [0.1, 0.1, 0.2, 0.2]})
    mark = len(sandbox.log())
    run = desk.push()
    assert sandbox.writes(mark) == []
    assert (run.tally.labelled, run.tally.left_alone) == (ROWS - IMPORTED - 1, {Reason.HUMAN_CONTENT: 1})


def test_tasks_are_pulled_from_people_labelled_and_given_back(sandbox: RunningSandbox, desk: Desk) -> None:
    """One is opened and let go of, one assigned, two hold people's work: only those that are new are pulled."""
    rows = people_take_all(sandbox)
    rows[0].initialise_labels()
    sandbox.human("assign", rows[2])
    assert desk.push().tally.labelled == 0
    run = desk.push(pull_from="Annotate", destination=Destination.AGENT_STAGE)
    assert run.tally.labelled == ROWS - IMPORTED - 1
    assert run.summary()["left_alone"] == {Reason.HUMAN_CONTENT: IMPORTED, Reason.ASSIGNED: 1}
    assert waiting_at(sandbox) == {"Annotate": ROWS}
    moved = [e for e in sandbox.log() if e.get("path", "").endswith("/move-tasks")]
    assert len(moved) == 1


def test_a_task_that_a_person_takes_while_it_is_pulled_goes_back_and_stays_theirs(
    sandbox: RunningSandbox, desk: Desk
) -> None:
    """What the platform's answers look like after such a race: the task is at the Agent stage, and a person's."""
    row = people_take_all(sandbox)[0]
    sandbox.human("assign", row)
    (agent, annotate) = sandbox.project().workflow.stages[:2]
    next(iter(annotate.get_tasks(data_hash=row.data_hash))).move(destination_stage_uuid=agent.uuid)
    (taken,) = [one for one in desk.source.rows() if one.data_hash == row.data_hash]
    desk.sink.pull([taken], str(annotate.uuid), str(agent.uuid))
    (listed,) = sandbox.project().list_label_rows_v2(data_hashes=[row.data_hash])
    assert (listed.workflow_graph_node.title, listed.assigned_user_email) == ("Annotate", "annotator@example.com")


def test_a_tab_from_before_that_saves_over_our_labels_is_reported_and_deleted_objects_stay_deleted(
    sandbox: RunningSandbox, desk: Desk
) -> None:
    rows = sandbox.project().list_label_rows_v2()[4:6]
    desk.push()
    box = {"class": "blue syringe", "box_norm": [0.1, 0.1, 0.2, 0.2]}
    sandbox.human("autosave", rows[0], copy=None, **box)
    ours_there = [label.object_hash for label in ours(sandbox) if label.data_hash == rows[1].data_hash]
    sandbox.human("delete", rows[1], object_hash=ours_there[0])
    mark = len(sandbox.log())
    desk.ahead_s = LOOK_AGAIN_S + 1
    assert desk.push().summary()["left_alone"] == {Reason.HUMAN_CONTENT: IMPORTED, Reason.REPLACED_BY_HUMAN: 1}
    assert desk.push().summary()["done_before"] == ROWS - IMPORTED - 1
    assert sandbox.writes(mark) == []


def test_tasks_that_people_have_are_copied_to_main_when_asked_for(start: Start, tmp_path: Path) -> None:
    sandbox = start("demo", 12)
    desk = desk_of(sandbox, tmp_path)
    before = desk.push().summary()["left_alone"]
    assert before[Reason.ASSIGNED] == 1
    assert desk.push(include_assigned=True).tally.labelled == 1
    assert not any(label.manual for label in ours(sandbox))


def test_the_command_line_takes_the_destination_from_the_workflow_and_says_why(
    sandbox: RunningSandbox, tmp_path: Path
) -> None:
    push = Command(sandbox, tmp_path / "home")
    done = push("push", "--project", push.project, "--dry-run")
    assert "to agent-stage, since tasks pass the Agent stage Pre-label before people get them" in done.stdout
    assert "8 rows on main where nothing stands, 8 tasks moved on" in done.stdout

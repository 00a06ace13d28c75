"""The main job end to end: the real command, the real SDK, the real model code, over HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sandbox.commands import Command, Label, assert_same_labels, labels, ours
from sandbox.conftest import RunningSandbox, Start

# Demo rows on which people have worked (see scenarios): left alone in every test here.
HUMAN_ROWS = 5
SAVE = {"query_type": "labelrow", "query_method": "POST"}


def main_rows(sandbox: RunningSandbox) -> dict[str, Any]:
    return sandbox.rows().get("main", {})


def test_free_rows_are_labelled_with_confidence_and_people_keep_theirs(push: Command) -> None:
    before = main_rows(push.sandbox)
    result = push.push()
    assert (result["exit"], result["pending"], sum(result["left_alone"].values())) == (0, 0, HUMAN_ROWS)
    after = main_rows(push.sandbox)
    assert {key: json.dumps(after[key]) for key in before} == {key: json.dumps(row) for key, row in before.items()}
    machine = ours(push.sandbox)
    assert len(machine) == sum(result["objects"].values()) > 0
    assert all(0.2 <= label.numbers[0] <= 1 for label in machine)
    names = {item.feature_node_hash: item.name for item in push.sandbox.project().ontology_structure.objects}
    assert Counter(label.name for label in machine) == {names[key]: n for key, n in result["objects"].items()}


def test_a_second_push_writes_nothing_and_infers_nothing(push: Command) -> None:
    push.push()
    mark = len(push.sandbox.log())
    again = push.push()
    assert push.sandbox.writes(mark) == []
    assert (again["exit"], again["inferred_frames"], again["labelled"]) == (0, 0, 0)


def test_a_dry_run_writes_nothing_and_its_rows_add_up(push: Command) -> None:
    mark = len(push.sandbox.log())
    done = push("push", "--project", push.project, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    rows = plan["rows"]
    parts = rows["to_label"] + rows["beyond_limit"] + rows["done_before"]
    assert parts + sum(rows["left_alone"].values()) + sum(rows["set_aside"].values()) == rows["total"] == 12
    assert plan["seconds_per_frame"] > 0
    assert plan["left_to_people"]["classes"] == ["Suture (polyline)"]
    assert plan["writes"]["rows_copied_to_main"] == rows["to_label"]
    assert push.sandbox.writes(mark) == []


def test_the_plan_is_readable_and_names_reasons_prompts_and_destination(push: Command) -> None:
    done = push("push", "--project", push.project, "--dry-run")
    assert done.returncode == 0, done.stderr
    for words in ("people have labelled here", '"blue syringe"', "tasks wait at Annotate", "left to people"):
        assert words in done.stdout


def test_a_row_that_a_person_opens_while_its_labels_are_saved_stays_theirs(
    push: Command, undisturbed: list[Label]
) -> None:
    free = push.sandbox.project().list_label_rows_v2(data_hashes=[undisturbed[0].data_hash])[0]
    push.sandbox.fault("slow", delay_s=2.0, match=SAVE)

    def draw_meanwhile() -> None:
        while not push.sandbox.faults_met()[0]:
            time.sleep(0.02)
        push.sandbox.human("draw", free, **{"class": "blue syringe", "box_norm": [0.1, 0.1, 0.2, 0.2]})

    person = threading.Thread(target=draw_meanwhile)
    person.start()
    result = push.push()
    person.join()
    assert result["left_alone"]["human_content"] == 4
    assert [label.manual for label in labels(push.sandbox) if label.data_hash == free.data_hash] == [True]


def test_a_branch_push_leaves_main_untouched_until_it_is_published(push: Command) -> None:
    before = json.dumps(main_rows(push.sandbox), sort_keys=True)
    branch = push.push("--to", "branch")
    assert branch["labelled"] > 0
    assert json.dumps(main_rows(push.sandbox), sort_keys=True) == before
    done = push("publish", "--run", branch["run"], "--yes", "--json", AUTOLABEL_MAX_MINUTES="0.000001")
    assert done.returncode == 0, done.stderr
    published = json.loads(done.stdout)
    assert (published["labelled"], published["inferred_frames"]) == (branch["labelled"], 0)
    assert len(ours(push.sandbox)) == sum(branch["objects"].values())


def at_pre_label(push: Command) -> int:
    rows = push.sandbox.project().list_label_rows_v2()
    return sum(row.workflow_graph_node.title == "Pre-label" for row in rows)


def test_tasks_at_an_agent_stage_are_labelled_and_handed_to_people(start: Start, tmp_path: Path) -> None:
    """Two of the demo's rows hold people's work already: their tasks move only when the stage is named as ours."""
    push = Command(start("demo-agent", 10), tmp_path / "home")
    result = push.push()
    assert (result["exit"], result["pending"], at_pre_label(push)) == (0, 0, 2)
    done = push("push", "--project", push.project, "--yes", AUTOLABEL_AGENT_STAGE="Pre-label")
    assert (done.returncode, at_pre_label(push)) == (0, 0)


@pytest.mark.filterwarnings("ignore:_remove_from_frame_to_hashes_map")  # the SDK's own call
def test_what_people_delete_on_the_branch_stays_deleted_on_main(push: Command) -> None:
    branch = push.push("--to", "branch")
    project = push.sandbox.project()
    listed = project.list_label_rows_v2(branch_name=f"autolabel-{branch['recipe'][:8]}")
    rows = [row for row in listed if row.label_hash]
    rows[0].initialise_labels()
    deleted = rows[0].get_object_instances()[0]
    rows[0].remove_object(deleted)
    rows[0].save()
    push.push()
    assert deleted.object_hash not in {label.object_hash for label in ours(push.sandbox)}
    assert len(ours(push.sandbox)) == sum(branch["objects"].values()) - 1


def test_an_outage_while_reading_opened_rows_does_not_make_them_look_like_peoples_work(push: Command) -> None:
    read = {"query_type": "labelrow", "query_method": "GET"}
    push.sandbox.fault("status", status=503, match=read)
    done = push("push", "--project", push.project, "--dry-run", "--json")
    assert push.sandbox.faults_met() == [1]
    assert json.loads(done.stdout)["rows"]["left_alone"] == {"human_content": 3, "has_row_empty": 1, "assigned": 1}


def test_the_queues_priority_decides_what_a_limited_push_takes(push: Command, undisturbed: list[Label]) -> None:
    last = undisturbed[-1].data_hash
    push.sandbox.project().list_label_rows_v2(data_hashes=[last])[0].set_priority(0.99)
    push.push("--limit", "1")
    assert {label.data_hash for label in ours(push.sandbox)} == {last}


CREATE, COPY = {"query_type": "labelrow", "query_method": "PUT"}, {"path_contains": "copy-branch"}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"match": CREATE, "kind": "status", "status": 429, "retry_after_s": 1}, id="429 on create"),
        pytest.param({"match": SAVE, "kind": "reset_after"}, id="save applied, answer lost"),
        pytest.param({"match": COPY, "kind": "status", "status": 503}, id="503 on copy"),
    ],
)
def test_a_fault_on_a_write_changes_nothing_in_the_end(
    push: Command, undisturbed: list[Label], fault: dict[str, Any]
) -> None:
    """Every fault on every write: see `test_http_faults`."""
    push.sandbox.fault(**fault)
    result = push.push()
    assert push.sandbox.faults_met() == [1]
    assert (result["exit"], result["pending"]) == (0, 0)
    assert_same_labels(push.sandbox, undisturbed)


def test_expired_urls_are_signed_again(push: Command, undisturbed: list[Label]) -> None:
    push.sandbox.fault("expire_url", times=2, match={"path_contains": "/blobs/"})
    assert push.push()["pending"] == 0
    assert push.sandbox.faults_met() == [2]
    assert_same_labels(push.sandbox, undisturbed)


def test_a_bundle_that_fails_half_way_ends_with_every_row_labelled_once(
    push: Command, undisturbed: list[Label]
) -> None:
    push.sandbox.fault("fail_items", items=[2], match=SAVE)
    assert push.push()["pending"] == 0
    assert push.sandbox.faults_met() == [1]
    assert_same_labels(push.sandbox, undisturbed)


def test_a_row_missing_from_an_answer_is_noticed(push: Command, undisturbed: list[Label]) -> None:
    push.sandbox.fault("drop_items", items=[1], match=CREATE)
    assert push.push()["pending"] == 0
    assert push.sandbox.faults_met() == [1]
    assert_same_labels(push.sandbox, undisturbed)


def test_a_push_that_an_outage_stops_tells_and_shows_what_it_has_written(push: Command) -> None:
    push.sandbox.fault("status", times=1000, status=503, after=2, match=SAVE)
    arguments = ("push", "--project", push.project, "--yes", "--json")
    done = push(*arguments, AUTOLABEL_WRITE_ROWS="1")
    assert done.returncode == 75
    result = json.loads(done.stdout)
    assert (result["labelled"], result["pending"] > 0) == (2, True)
    assert result["stopped_by"]
    assert "<b>12</b> label rows" in Path(result["report"]).read_text()


def test_coarse_rounding_by_the_server_is_reported_not_hidden(push: Command) -> None:
    """Whether the answer is lost or the row is tried again: what differs from what was sent never reaches main."""
    push.sandbox.admin("POST", "settings", {"coordinate_decimals": 2})
    push.sandbox.fault("reset_after", match=SAVE)
    for again in ((), ("--retry-failed",)):
        result = push.push(*again)
        assert result["exit"] == 3
        assert set(result["set_aside"]) == {"read_back"}
    # Only what has no coordinates to round: bitmasks.
    assert {label.name for label in ours(push.sandbox)} <= {"black forceps", "steel scissors"}


@pytest.mark.filterwarnings("ignore:_remove_from:DeprecationWarning")  # the SDK warns of itself
def test_a_row_that_somebody_emptied_on_the_branch_is_not_published(push: Command) -> None:
    run = push.push("--to", "branch", "--limit", "4")
    (branch,) = push.sandbox.rows().keys() - {"main"}
    row = next(row for row in push.sandbox.project().list_label_rows_v2(branch_name=branch) if row.label_hash)
    row.initialise_labels()
    for item in row.get_object_instances():
        row.remove_object(item)
    row.save()
    published = json.loads(push("publish", "--run", run["run"], "--yes", "--json").stdout)
    assert (published["labelled"], published["left_alone"]) == (run["labelled"] - 1, {"has_row_empty": 1})
    assert row.data_hash not in main_rows(push.sandbox)

"""People who hold on to old tabs, empty rows and take tasks back."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from sandbox.conftest import RunningSandbox, Start

DRAWN = {"class": "blue syringe", "box_norm": [0.1, 0.1, 0.2, 0.2]}
FREE = 0


@pytest.fixture
def sandbox(start: Start) -> RunningSandbox:
    return start("demo", 2)


def act(sandbox: RunningSandbox, action: str, **wanted: Any) -> Any:
    """The last thing that the person's action changed, as it is then."""
    row = sandbox.project().list_label_rows_v2()[FREE]
    return sandbox.human(action, row, **wanted)["changed"][0]


def hashes(row: dict[str, Any]) -> list[str]:
    return [item["objectHash"] for unit in row["labels"].values() for item in unit["objects"]]


def test_a_tab_from_before_saves_what_it_shows_over_what_is_there(sandbox: RunningSandbox) -> None:
    shown = act(sandbox, "draw", object_hash="FIRST000", **DRAWN)
    act(sandbox, "draw", object_hash="SECOND00", **DRAWN)
    saved = act(sandbox, "autosave", copy=shown, object_hash="THIRD000", **DRAWN)
    assert hashes(saved) == ["FIRST000", "THIRD000"]
    assert saved["revision"] == 3


def test_a_tab_that_was_opened_before_there_was_a_row_saves_an_empty_one(sandbox: RunningSandbox) -> None:
    act(sandbox, "draw", **DRAWN)
    assert hashes(act(sandbox, "autosave", copy=None)) == []


def test_a_row_is_emptied_of_its_objects(sandbox: RunningSandbox) -> None:
    act(sandbox, "draw", **DRAWN)
    emptied = act(sandbox, "empty")
    assert (hashes(emptied), emptied["object_answers"]) == ([], {})


def test_a_question_has_one_answer_a_frame(sandbox: RunningSandbox) -> None:
    act(sandbox, "classify")
    assert len(act(sandbox, "classify")["classification_answers"]) == 1
    sandbox.project().list_label_rows_v2()[FREE].initialise_labels()


def test_a_task_that_was_submitted_is_taken_back(sandbox: RunningSandbox) -> None:
    at_review = act(sandbox, "submit")["stage_uuid"]
    taken_back = act(sandbox, "reopen")
    assert (taken_back["stage_uuid"] == at_review, taken_back["status"]) == (False, "REOPENED")


def test_people_who_keep_out_of_an_agent_stage_are_refused_there(start: Start) -> None:
    sandbox = start("demo-agent", 1)
    with pytest.raises(requests.HTTPError, match="400"):
        act(sandbox, "draw", keeps_out=True, **DRAWN)
    assert len(hashes(act(sandbox, "draw", **DRAWN))) == 1

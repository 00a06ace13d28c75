"""What authentic bodies ask for."""

from __future__ import annotations

import json

import pytest

from autolabel.errors import PermanentCallError
from autolabel.service.envelopes import Ignored, read_bucket, read_encord
from autolabel.wakes import Hint
from webhooks import PROJECT, STAGE, event, task_ready

READY = "agent_stage_work_available_event"


def test_a_task_ready_notification_is_a_hint_to_its_project_and_stage() -> None:
    assert read_encord(task_ready(PROJECT.upper(), STAGE)) == Hint(PROJECT, STAGE)


@pytest.mark.parametrize("name", ["task_submitted_event", "task_sumbitted_event", "task_completed", "", "\x1b[31m"])
def test_other_events_are_ignored_whatever_they_carry(name: str) -> None:
    found = read_encord(event(name, {"data_hashes": 1}))
    assert isinstance(found, Ignored)
    assert "\x1b" not in found.why


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "the body"),
        (b"\xff", "the body"),
        (b"[" * 60_000, "the body"),
        (b"[]", "the body"),
        (b"NaN", "the body"),
        (b'{"event_type": "\\ud800"}', "the body"),
        (b"{}", "event_type"),
        (b'{"event_type": 7}', "event_type"),
        (b'{"event_type": "%s"}' % READY.encode(), "payload"),
        (event(READY, {"project_hash": PROJECT}), "payload.stage_uuid"),
        (event(READY, {"project_hash": "../..", "stage_uuid": STAGE}), "payload.project_hash"),
        (event(READY, {"project_hash": [PROJECT], "stage_uuid": STAGE}), "payload.project_hash"),
    ],
)
def test_a_body_that_cannot_be_used_is_told_by_its_field(body: bytes, told: str) -> None:
    with pytest.raises(PermanentCallError, match=f"^{told} is not usable: ") as refused:
        read_encord(body)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"dataset_hash": STAGE}, f"dataset/{STAGE}"),
        ({"folder_uuid": STAGE.upper()}, f"folder/{STAGE}"),
        ({"folder_uuid": PROJECT, "dataset_hash": STAGE, "bucket": "b"}, f"dataset/{STAGE}"),
    ],
)
def test_a_bucket_event_is_a_hint_to_a_place_whose_projects_are_to_be_looked_up(
    data: dict[str, str], place: str
) -> None:
    assert read_bucket(json.dumps({"type": "upload", "data": data}).encode()) == Hint("", place)


@pytest.mark.parametrize(
    ("body", "told"),
    [({"data": {"dataset_hash": STAGE}}, "type"), ({"type": "t"}, "data"), ({"type": "t", "data": {}}, "data")],
)
def test_a_bucket_event_that_cannot_be_used_is_told_by_its_field(body: dict[str, object], told: str) -> None:
    with pytest.raises(PermanentCallError, match=f"^{told}") as refused:
        read_bucket(json.dumps(body).encode())
    assert refused.value.status == 400

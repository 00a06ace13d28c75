"""The webhooks that the stand-in sends, as a receiver on this machine gets them."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from threading import Event
from typing import Any

import pytest
import requests
from encord_agents.core.webhooks import WebhookVerificationError, verify_and_parse_notification

from sandbox.conftest import RunningSandbox, Start
from sandbox.receivers import LIMIT_S, Receiver, receiving, say, wait

SECRET = "a secret of the stage"
OFTEN_S = 0.1


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as kept:
        yield kept


@dataclass(frozen=True)
class Stage:
    """A sandbox whose project has four tasks at its Agent stage."""

    sandbox: RunningSandbox
    receiver: Receiver

    def add(self, kind: str = "agent_stage", **wanted: Any) -> str:
        (project,) = self.sandbox.projects.values()
        wanted = {"project": project, "kind": kind, "url": self.receiver.url, "secret": SECRET, **wanted}
        if kind == "agent_stage":
            wanted = {"every_s": OFTEN_S, **wanted}
        return str(self.sandbox.admin("POST", "webhooks", wanted)["id"])

    def remove(self, hook: str) -> None:
        self.sandbox.admin("DELETE", f"webhooks?id={hook}")

    def log(self) -> list[dict[str, Any]]:
        return [entry for entry in self.sandbox.log() if entry["kind"] == "webhook"]

    def move_on(self) -> None:
        """Every task that waits at the Agent stage, to people."""
        for task in list(self.sandbox.project().workflow.stages[0].get_tasks()):
            task.proceed("annotate")


@pytest.fixture
def stage(start: Start, receiver: Receiver) -> Stage:
    return Stage(start("demo-agent", 4), receiver)


def by_hand(secret: str, body: bytes, headers: dict[str, str]) -> bool:
    signed = headers["X-Encord-Timestamp"].encode() + b"." + body
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() == headers["X-Encord-Signature"]


def test_tasks_that_wait_at_an_agent_stage_are_told_again_and_again_each_time_under_a_new_uid(stage: Stage) -> None:
    stage.add()
    told = stage.receiver.get(3)
    assert len({call["uid"] for call in told}) == 3
    (project,) = stage.sandbox.projects.values()
    for call in told:
        assert call["event_type"] == "agent_stage_work_available_event"
        assert call["payload"] == {
            "project_hash": project,
            "stage_uuid": str(stage.sandbox.project().workflow.stages[0].uuid),
            "pending_count": 4,
            "reason": "batch_size_reached",
        }


def test_what_is_sent_is_what_encords_own_package_verifies(stage: Stage) -> None:
    stage.add()
    (told,) = stage.receiver.get(1)
    body, headers = stage.receiver.calls[0]
    seen = verify_and_parse_notification(body, headers, secret=SECRET)
    assert (str(seen.uid), seen.pending_count, str(seen.reason)) == (told["uid"], 4, "batch_size_reached")
    with pytest.raises(WebhookVerificationError):
        verify_and_parse_notification(body, headers, secret="another")


def test_the_signature_covers_the_time_and_the_body_to_the_byte(stage: Stage) -> None:
    stage.add()
    stage.receiver.get(1)
    body, headers = stage.receiver.calls[0]
    assert abs(int(headers["X-Encord-Timestamp"]) - time.time()) < LIMIT_S
    assert [by_hand(SECRET, sent, headers) for sent in (body, body + b" ")] == [True, False]


def test_a_queue_that_is_empty_is_not_told_of_until_something_comes(stage: Stage) -> None:
    stage.move_on()
    stage.add()
    time.sleep(4 * OFTEN_S)
    assert stage.receiver.calls == []
    task = next(iter(stage.sandbox.project().workflow.stages[1].get_tasks()))
    task.move(destination_stage_uuid=stage.sandbox.project().workflow.stages[0].uuid)
    assert stage.receiver.get(1)[0]["payload"]["pending_count"] == 1


def test_less_than_a_batch_is_told_of_when_the_first_task_has_waited_long(stage: Stage) -> None:
    stage.add(batch_size=5, max_wait_s=3600)
    stage.add(batch_size=5, max_wait_s=0.5)
    stage.add(batch_size=5)
    assert {call["payload"]["reason"] for call in stage.receiver.get(3)} == {"max_wait_elapsed"}
    assert len({entry["webhook"] for entry in stage.log()}) == 1


def test_a_call_that_times_out_is_sent_again_with_the_same_uid_and_a_signature_of_its_own(stage: Stage) -> None:
    stage.receiver.answers = [lambda _: time.sleep(1.8)] * 2
    stage.add("annotate", timeout_s=1.5)
    stage.move_on()
    stage.sandbox.human("submit", stage.sandbox.project().list_label_rows_v2()[0])
    wait(lambda: len(stage.log()) == 3)
    assert [entry["outcome"] for entry in stage.log()] == ["timed_out", "timed_out", "delivered"]
    bodies, headers = zip(*stage.receiver.calls, strict=True)
    assert (len(set(bodies)), len({each["X-Encord-Signature"] for each in headers})) == (1, 3)
    assert all(by_hand(SECRET, body, each) for body, each in stage.receiver.calls)


def test_any_answer_but_200_is_a_failed_delivery_and_redirects_are_not_followed(stage: Stage) -> None:
    statuses = [201, 307, 401, 503]
    stage.receiver.answers = [say(status, Location=stage.receiver.url) for status in statuses]
    hook = stage.add(every_s=0.3)
    wait(lambda: len(stage.log()) >= 5)
    stage.remove(hook)
    seen = [(entry["outcome"], entry["status"]) for entry in stage.log()[:5]]
    assert seen == [*(("refused", status) for status in statuses), ("delivered", 200)]
    assert len({call["uid"] for call in stage.receiver.get(5)}) == 5


def test_a_receiver_that_is_not_there_or_speaks_no_http_is_noted_and_tried_at_the_next_look(stage: Stage) -> None:
    def babble(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"hello\r\n\r\n")

    stage.receiver.answers = [babble]
    stage.add()
    stage.add(url="http://127.0.0.1:9/webhooks/encord")
    stage.receiver.get(2)
    wait(lambda: {e["outcome"] for e in stage.log()} == {"unreachable", "delivered"})


def test_a_task_that_is_submitted_and_one_that_is_completed_are_told_once(stage: Stage) -> None:
    for kind in ("annotate", "complete"):
        stage.add(kind)
    stage.move_on()
    row = stage.sandbox.project().list_label_rows_v2()[2]
    stage.sandbox.human("draw", row, **{"class": "blue syringe", "box_norm": [0.1, 0.1, 0.2, 0.2]})
    for action in ("submit", "reject", "submit", "approve"):
        stage.sandbox.human(action, row)
    told = stage.receiver.get(3)
    wait(lambda: len(stage.log()) == 3)
    assert sorted(call["event_type"] for call in told) == ["task_completed_event"] + ["task_submitted_event"] * 2
    label_hash = stage.sandbox.project().list_label_rows_v2()[2].label_hash
    for call in told:
        (project,) = stage.sandbox.projects.values()
        hashes = {"data_hashes": row.data_hash, "label_hashes": label_hash}
        assert call["payload"] == {"project_hash": project, **hashes}


def test_webhooks_live_through_a_restart_and_their_secret_is_shown_nowhere(
    stage: Stage, start: Start, receiver: Receiver
) -> None:
    hook = stage.add()
    stage.receiver.get(1)
    os.kill(stage.sandbox.pid, signal.SIGKILL)
    again = Stage(start(), receiver)
    receiver.calls.clear()
    receiver.get(2)
    assert by_hand(SECRET, *receiver.calls[0])
    (listed,) = again.sandbox.admin("GET", "webhooks")
    assert (listed["id"], listed["url"], listed["failed"], listed["last"]["status"]) == (hook, receiver.url, 0, 200)
    shown = json.dumps([listed, again.sandbox.log()]) + (again.sandbox.dir / "output.txt").read_text()
    assert SECRET not in shown
    assert SECRET not in (again.sandbox.dir / "log.jsonl").read_text()


def test_a_webhook_that_is_removed_is_silent_and_its_secret_is_gone(stage: Stage) -> None:
    hook = stage.add()
    stage.receiver.get(1)
    stage.remove(hook)
    time.sleep(2 * OFTEN_S)
    count = len(stage.receiver.calls)
    time.sleep(4 * OFTEN_S)
    assert (len(stage.receiver.calls), stage.sandbox.admin("GET", "webhooks")) == (count, [])
    assert list((stage.sandbox.dir / "webhook-secrets").iterdir()) == []


def test_what_is_no_webhook_of_this_machine_is_refused(stage: Stage) -> None:
    refused: list[dict[str, Any]] = [
        *({"url": url} for url in ("http://192.0.2.1:80/", "http://example.com:80/", "https://127.0.0.1:8765/", "")),
        *({"kind": "review"}, {"stage": "Annotate"}, {"secret": ""}, {"every_s": 0}, {"colour": "red"}),
    ]
    for wanted in refused:
        with pytest.raises(requests.HTTPError, match="400"):
            stage.add(**wanted)
    assert stage.sandbox.admin("GET", "webhooks") == []


def test_deliveries_are_skipped_doubled_damaged_and_late_as_planned(stage: Stage) -> None:
    plan = [{"kind": "skip"}, {"kind": "duplicate"}, {"kind": "corrupt"}, {"kind": "late", "delay_s": 1.0}]
    for fault in plan:
        stage.sandbox.fault(**fault, match={"query_type": "agent_stage_work_available_event"})
    stage.add(every_s=0.3)
    wait(lambda: len(stage.log()) >= 9)
    assert (stage.log()[0]["outcome"], stage.sandbox.faults_met()) == ("skipped", [1, 1, 1, 1])
    first, again, damaged, *others = stage.receiver.calls
    assert first == again
    assert (by_hand(SECRET, *first), by_hand(SECRET, *damaged)) == (True, False)
    made = [json.loads(body)["event_created_timestamp"] for body, _ in others]
    assert made.index(min(made)) > 0  # others overtook the late one


def test_faults_of_requests_are_not_met_by_deliveries(stage: Stage) -> None:
    stage.sandbox.fault("status")
    stage.add()
    stage.receiver.get(1)
    assert stage.sandbox.faults_met() == [0]


def test_a_receiver_that_does_not_answer_holds_up_no_request(stage: Stage) -> None:
    over = Event()
    stage.receiver.answers = [lambda _: assert_set(over)] * 100
    stage.add()
    stage.receiver.get(5)
    assert len(stage.sandbox.project().list_label_rows_v2()) == 4
    assert stage.log() == []
    over.set()


def assert_set(event: Event) -> None:
    assert event.wait(LIMIT_S)

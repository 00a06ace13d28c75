"""The receiver's answers, in one process: what is kept, refused, ignored; and what it says of itself."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from autolabel.service.app import MAX_BODY_BYTES, Patience
from autolabel.service.calls import LINES, WINDOW_S, Calls
from webhooks import (
    OTHER_SECRET,
    PROJECT,
    SECRET,
    STAGE,
    Receiver,
    bucket_event,
    event,
    receiver,
    secrets,
    signed,
    standard_signed,
    task_ready,
)

BUCKET = bucket_event()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path) as here:
        yield here


def test_an_authentic_call_is_kept_and_then_acknowledged(here: Receiver) -> None:
    body = task_ready()
    assert here.post(body, signed(body)) == (200, "accepted")
    (wake,) = here.wakes.owed()
    assert (wake.hint.project_hash, wake.hint.place, here.kept(), len(here.woken)) == (PROJECT, STAGE, 1, 1)


def test_a_call_that_comes_again_is_acknowledged_and_adds_nothing(here: Receiver) -> None:
    body = task_ready()
    headers = signed(body)
    assert [here.post(body, headers)[1] for _ in range(3)] == ["accepted", "replayed", "replayed"]
    assert ([wake.requested for wake in here.wakes.owed()], here.kept(), len(here.woken)) == ([1], 1, 1)


def test_calls_of_one_stage_are_one_run_that_is_owed(here: Receiver) -> None:
    for body in [task_ready() for _ in range(5)]:
        here.post(body, signed(body))
    assert [wake.requested for wake in here.wakes.owed()] == [5]


def test_a_bucket_event_is_kept_as_a_place_to_be_looked_up(here: Receiver) -> None:
    assert here.post(BUCKET, standard_signed(BUCKET), "bucket") == (200, "accepted")
    assert [wake.hint.place for wake in here.wakes.owed()] == [f"dataset/{STAGE}"]


def test_each_route_takes_its_own_scheme_and_secrets_only(here: Receiver) -> None:
    body = task_ready()
    assert here.post(BUCKET, signed(BUCKET), "bucket") == (401, "refused")
    assert here.post(body, standard_signed(body)) == (401, "refused")


def test_forged_and_unusable_calls_store_nothing(here: Receiver) -> None:
    body = task_ready()
    assert here.post(body, {}) == here.post(body, signed(body, OTHER_SECRET)) == (401, "refused")
    assert here.post(body + b" ", signed(body)) == (401, "refused")
    assert here.post(b"[]", signed(b"[]")) == (400, "refused")
    assert (here.kept(), here.wakes.owed(), here.woken) == (0, [], [])


def test_other_events_and_other_projects_are_acknowledged_and_ignored(here: Receiver) -> None:
    for body in (event("task_submitted_event", {}), task_ready(project=STAGE)):
        assert here.post(body, signed(body)) == (200, "ignored")
    assert (here.kept(), here.woken) == (0, [])


def test_a_route_without_a_secret_never_accepts(tmp_path: Path) -> None:
    with receiver(tmp_path, secrets(encord=None, bucket=None)) as here:
        body = task_ready()
        assert here.post(body, signed(body, "")) == (503, "refused")
        assert here.post(BUCKET, standard_signed(BUCKET), "bucket") == (503, "refused")


def test_more_than_64_kib_are_refused_by_the_declared_length_and_while_they_come(here: Receiver) -> None:
    most = b" " * MAX_BODY_BYTES
    assert here.post(most, signed(most)) == (400, "refused")
    assert here.post(most + b" ", signed(most + b" ")) == (413, "refused")

    def parts() -> Iterator[bytes]:
        yield from [most[: 1 << 14]] * 5

    answer = here.client.post("/webhooks/encord", content=parts(), headers=signed(most))
    assert answer.status_code == 413


@pytest.mark.parametrize("length", ["70000", "9" * 5000, "1" + "0" * 30])
def test_no_byte_of_a_body_that_says_it_is_too_large_is_read(here: Receiver, length: str) -> None:
    async def receive() -> dict[str, object]:
        raise AssertionError("read")

    assert asyncio.run(status_of(here, receive, [(b"content-length", length.encode())])) == 413


def test_a_body_that_breaks_off_is_refused_and_no_error(here: Receiver) -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    assert asyncio.run(status_of(here, receive, [])) == 400


def test_a_body_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    async def receive() -> dict[str, object]:
        await asyncio.sleep(60)
        raise AssertionError

    with receiver(tmp_path, patience=Patience(body_s=0.01)) as here:
        assert asyncio.run(status_of(here, receive, [])) == 408


async def status_of(here: Receiver, receive: object, headers: list[tuple[bytes, bytes]]) -> int:
    """Over ASGI itself, since a client would not send such a request."""
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/webhooks/encord", "query_string": b"", "headers": headers}
    await here.app(scope | {"http_version": "1.1", "scheme": "http"}, receive, send)
    return int(str(sent[0]["status"]))


def test_what_could_not_be_kept_is_not_acknowledged(here: Receiver) -> None:
    body = task_ready()
    with here.database.write() as db:
        db.exec_driver_sql("ALTER TABLE inbox RENAME TO away")
    assert here.post(body, signed(body)) == (503, "refused")
    with here.database.write() as db:
        db.exec_driver_sql("ALTER TABLE away RENAME TO inbox")
    assert here.post(body, signed(body)) == (200, "accepted")


def test_a_ledger_that_is_locked_for_too_long_is_told_and_not_waited_for(tmp_path: Path) -> None:
    body = task_ready()
    headers = signed(body)
    with receiver(tmp_path, patience=Patience(ledger_s=0.2)) as here:
        with locked(tmp_path / "ledger.sqlite"):
            assert here.post(body, headers) == (503, "refused")
            assert here.client.get("/readyz").status_code == 503
        while here.post(body, headers)[0] == 503:
            pass
        assert here.kept() == 1


@contextmanager
def locked(ledger: Path) -> Iterator[None]:
    with closing(sqlite3.connect(ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_it_is_ready_while_it_can_keep_calls_and_runs_are_carried_out(tmp_path: Path) -> None:
    troubles: list[str | None] = [None, "the dispatcher has died"]
    with receiver(tmp_path, is_ready=lambda: troubles.pop(0)) as here:
        answers = [here.client.get("/readyz") for _ in range(2)]
        assert here.client.get("/healthz").json() == {"status": "alive"}
    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (200, {"status": "ready"}),
        (503, {"status": "not_ready", "why": "the dispatcher has died"}),
    ]


def test_calls_are_counted_by_route_and_outcome(here: Receiver) -> None:
    body = task_ready()
    for headers in (signed(body), signed(body), {}):
        here.post(body, headers)
    assert here.calls.snapshot() == {
        ("encord", "accepted"): 1,
        ("encord", "replayed"): 1,
        ("encord", "refused_401"): 1,
    }


def test_a_flood_of_refused_calls_fills_no_log_and_accepted_ones_are_all_told(here: Receiver) -> None:
    with capture_logs() as logs:
        for body in [task_ready() for _ in range(LINES + 5)]:
            here.post(body, {})
            here.post(body, signed(body))
    told = [line["outcome"] for line in logs]
    assert (told.count("refused_401"), told.count("accepted")) == (LINES, LINES + 5)


def test_what_was_left_out_of_the_log_is_counted_there_later() -> None:
    now_s = [0.0]
    calls = Calls(lambda: now_s[0])
    with capture_logs() as logs:
        for _ in range(LINES + 3):
            calls.tell("encord", "refused_401")
        now_s[0] += WINDOW_S
        calls.tell("encord", "refused_401")
    assert len(logs) == LINES + 2
    assert logs[LINES] == {
        "event": "webhooks not logged",
        "log_level": "warning",
        "outcome": "refused_401",
        "calls": 3,
    }


def test_no_secret_or_signature_is_in_any_answer_or_line(here: Receiver) -> None:
    body = task_ready()
    headers = signed(body)
    with capture_logs() as logs:
        answers = [
            here.client.post("/webhooks/encord", content=content, headers=headers).text
            for content in (body, body, body + b" ", b"[]")
        ]
    told = json.dumps([logs, answers])
    assert SECRET not in told
    assert headers["X-Encord-Signature"] not in told

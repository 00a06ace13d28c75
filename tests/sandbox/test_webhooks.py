"""The receiver as others meet it: by its own OpenAPI (T16), and over sockets that do what no client does.

T14, T15, T17, kills and rotation are in `torture.receiving`; `test_torture` runs them.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs

from torture import receivers
from torture.receivers import Service
from webhooks import Receiver, receiver, signed, standard_signed, task_ready

EXAMPLES = 50  # of each operation and way of making them
UNHURRIED = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Receiver]:
    with capture_logs(), receiver(tmp_path) as here:
        yield here


class Signing:
    """Signs whatever is posted, as the route wants it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            message = await receive()
            sign = signed if scope["path"].endswith("encord") else standard_signed
            headers = [(name.lower().encode(), value.encode()) for name, value in sign(message["body"]).items()]
            scope = {**scope, "headers": [*scope["headers"], *headers]}
            receive = _again(message)
        await self._app(scope, receive, send)


def _again(message: Message) -> Receive:
    async def receive() -> Message:
        return message

    return receive


def answers(app: Any, openapi: dict[str, Any]) -> Counter[tuple[str, str, int]]:
    """(path, how it was made, status) -> how often; raises what any check of schemathesis finds."""
    schema, seen = schemathesis.openapi.from_dict(openapi), Counter[tuple[str, str, int]]()
    schema.app = app

    def call(case: Case, mode: GenerationMode) -> None:
        seen[case.path, mode.value, case.call_and_validate().status_code] += 1

    for operation in (found.ok() for found in schema.get_all_operations()):
        modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
        for mode in modes if operation.method == "post" else modes[:1]:
            UNHURRIED(given(operation.as_strategy(generation_mode=mode), st.just(mode))(call))()
    return seen


def test_unsigned_calls_of_any_form_are_answered_as_the_openapi_says(here: Receiver) -> None:
    """T16."""
    seen = answers(here.app, here.app.openapi())
    print(f"T16 unsigned, {seen.total()} calls: {dict(seen)}")
    assert {status for (path, _, status) in seen if path.startswith("/webhooks")} <= {400, 401}
    assert here.kept() == 0


def test_signed_calls_of_any_form_are_answered_as_the_openapi_says(here: Receiver) -> None:
    """T16: what fits the schema is taken, what does not is a 400."""
    unsigned = deepcopy(here.app.openapi())
    for path in unsigned["paths"].values():
        path.get("post", {}).pop("parameters", None)
    seen = answers(Signing(here.app), unsigned)
    print(f"T16 signed, {seen.total()} calls: {dict(seen)}")
    told = {(mode, status) for (path, mode, status) in seen if path.startswith("/webhooks")}
    assert told == {("positive", 200), ("negative", 400)}
    assert here.kept()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with receivers.serving(str(tmp_path)) as service:
        yield service


def talk(service: Service, *parts: bytes) -> bytes:
    """The answer to what is sent as it is; the connection is left open on this side."""
    with closing(socket.create_connection(("127.0.0.1", service.port), timeout=30)) as wire:
        for part in parts:
            wire.sendall(part)
        return wire.recv(1 << 16)


POST = b"POST /webhooks/encord HTTP/1.1\r\nHost: x\r\n"


def head(*lines: str, body: bytes = b"") -> bytes:
    return POST + "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + body


def test_a_body_that_says_it_is_too_large_is_refused_before_a_byte_of_it_came(service: Service) -> None:
    assert talk(service, head("Content-Length: 65537")).startswith(b"HTTP/1.1 413 ")
    assert talk(service, head(f"Content-Length: {10**15}", "Expect: 100-continue")).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_is_refused_when_it_has_become_too_large(service: Service) -> None:
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    assert talk(service, head("Transfer-Encoding: chunked"), chunk, chunk, b"1\r\n \r\n").startswith(b"HTTP/1.1 413 ")


def test_a_chunked_call_is_taken(service: Service) -> None:
    body = task_ready()
    lines = [f"{name}: {value}" for name, value in signed(body, "secret").items()]
    sent = head(*lines, "Transfer-Encoding: chunked"), f"{len(body):x}\r\n".encode(), body, b"\r\n0\r\n\r\n"
    assert talk(service, *sent).startswith(b"HTTP/1.1 200 ")


def test_headers_that_no_client_sends_are_refused_and_no_error(service: Service) -> None:
    body = task_ready()
    right = signed(body, "secret")
    stamp, mac = (f"{name}: {value}" for name, value in right.items())
    length = f"Content-Length: {len(body)}"
    for lines in ([stamp, stamp, mac], [stamp, mac, mac], [stamp, mac[:-64] + "\xff" * 64], [stamp + "9" * 400, mac]):
        assert talk(service, head(*lines, length, body=body)).startswith(b"HTTP/1.1 401 "), lines
    assert talk(service, head(stamp, mac, length, body=body)).startswith(b"HTTP/1.1 200 ")


def test_callers_that_go_away_in_the_middle_leave_no_trace_in_the_log(service: Service) -> None:
    for _ in range(20):
        with closing(socket.create_connection(("127.0.0.1", service.port), timeout=30)) as wire:
            wire.sendall(head("Content-Length: 100", body=b"half"))
    assert talk(service, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert "Traceback" not in (Path(service.home) / "log").read_text()

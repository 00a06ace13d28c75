"""The deadline, against servers on loopback that drip, and the four forms of Retry-After."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate

import pytest
import requests
from encord import exceptions as sdk

from autolabel.errors import TransientLedgerError
from autolabel.remote.wire import Line, install, installed, retry_after_s

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n"


@contextmanager
def dripping(first: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers `first` and then a byte now and then, for ever; its URL, and what it was sent."""
    asked: list[bytes] = []

    def serve() -> None:
        while not ended.is_set():
            with suppress(OSError), listener.accept()[0] as one:
                asked.append(one.recv(1000))
                one.sendall(first)
                while not ended.wait(0.02):
                    one.sendall(b"x")

    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", asked
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def ask(url: str, retries: int) -> None:
    line = Line(deadline_s=0.3)
    with line.session(retries, 0.01, 0) as session:
        session.post(url, data=b"body", timeout=5)


@pytest.mark.parametrize("first", [b"", HEAD, HEAD + b"\r\n"], ids=["status", "headers", "body"])
@pytest.mark.parametrize("retries", [0, 3])
def test_an_answer_that_drips_for_ever_ends_at_the_deadline(first: bytes, retries: int) -> None:
    with dripping(first) as (url, _), pytest.raises(sdk.TimeOutError, match=r"no complete answer within 0\.3 s"):
        ask(url, retries)


def test_after_the_deadline_nothing_is_sent_any_more() -> None:
    with dripping(HEAD) as (url, asked):
        with pytest.raises(sdk.TimeOutError):
            ask(url, retries=50)
        assert len(asked) == 1


def test_what_fails_before_the_deadline_says_why_itself() -> None:
    with pytest.raises(requests.ConnectionError):
        ask("http://127.0.0.1:9/", retries=0)


@contextmanager
def counted(line: Line) -> Iterator[Line]:
    before = installed()
    install(line)
    yield line
    install(before)


def test_each_request_is_counted_by_its_status_also_those_that_are_sent_again() -> None:
    answers = ["503 Busy", "503 Busy", "200 OK", "404 Gone"]

    def serve() -> None:
        for answer in answers:
            with listener.accept()[0] as one:
                one.recv(1000)
                one.sendall(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    with socket.create_server(("127.0.0.1", 0)) as listener, counted(Line()) as line:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        for _ in range(2):
            with line.session(3, 0.0, 0) as session:
                session.get(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()
    assert line.calls() == {"200": 1, "404": 1, "503": 2}


def test_nothing_is_sent_where_the_guard_forbids_it() -> None:
    def lost() -> None:
        raise TransientLedgerError("the locks of this run are lost")

    line = Line()
    line.guard = lost
    with counted(line), pytest.raises(TransientLedgerError), line.session(0, 0.0, 0):
        pass
    assert line.calls() == {}


def test_a_request_that_nobody_answers_is_counted_as_such() -> None:
    with counted(Line()) as line, line.session(0, 0.0, 0) as session, suppress(requests.ConnectionError):
        session.get("http://127.0.0.1:9/")
    assert line.calls() == {"none": 1}


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        (formatdate(1060, usegmt=True), 60),
        (formatdate(900, usegmt=True), 0),
        ("9" * 400, int("9" * 18)),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_a_wait_is_read_off_seconds_and_dates_and_garbage_is_none(header: str, seconds: int | None) -> None:
    assert retry_after_s(header, now_s=1000.0) == seconds

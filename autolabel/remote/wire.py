"""How the SDK's requests travel: paced, each under a deadline, as many times as the client's settings allow."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

import requests
from encord import exceptions as sdk
from encord.http import querier
from encord.http.v2 import api_client
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from autolabel.errors import Interrupted
from autolabel.remote.pace import Circuit, Pace

REQUEST_DEADLINE_S = 150.0
"""For one request with all that the SDK does to send it again; the platform itself gives up after 180 s."""
LONGEST_BACK_OFF_S = 8.0
NO_ANSWER = "none"


class Deadline:
    """Ends every connection that one piece of work opened on this thread, once its time is up.

    `requests` bounds only the wait for the next bytes, so an answer that drips would never end. Closing the socket
    below it makes the request fail on the thread that waits for it: nothing goes on behind anyone's back, and after
    the deadline no connection is opened any more. What was sent before may have been carried out all the same: of a
    write that was given up nothing is known until it is read back. Looking up a host's name is not covered.
    """

    _of_thread = threading.local()

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.passed = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Deadline:
        self._of_thread.now = self
        _keeper.add(self, time.monotonic() + self.limit_s)
        return self

    def __exit__(self, *_: object) -> None:
        self._of_thread.now = None
        _keeper.drop(self)
        with self._lock:
            for watched in self._sockets:
                watched.close()
            self._sockets.clear()

    @classmethod
    def watch(cls, opened: socket.socket) -> None:
        """Called with each connection before anything is sent. Raises HTTPError after the deadline."""
        deadline = getattr(cls._of_thread, "now", None)
        if deadline is None:
            return
        with deadline._lock:
            if deadline.passed:
                opened.close()
                raise HTTPError("the deadline has passed")  # of the kind that nobody repeats
            deadline._sockets.append(socket.socket(fileno=os.dup(opened.fileno())))  # TLS takes the original over

    def end(self) -> None:
        with self._lock:
            self.passed = True
            for watched in self._sockets:
                with suppress(OSError):  # the other side was quicker
                    watched.shutdown(socket.SHUT_RDWR)


class Keeper:
    """The thread that ends deadlines when they are due: one for all, since a start takes longer than a request."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ends_s: dict[Deadline, float] = {}
        self._wakes_s = 0.0
        self._thread: threading.Thread | None = None

    def add(self, deadline: Deadline, ends_s: float) -> None:
        with self._changed:
            self._ends_s[deadline] = ends_s
            if self._thread is None or not self._thread.is_alive():  # a fork leaves it behind
                self._thread = threading.Thread(target=self._keep, name="deadlines", daemon=True)
                self._thread.start()
            elif ends_s < self._wakes_s:
                self._changed.notify()

    def drop(self, deadline: Deadline) -> None:
        with self._changed:
            self._ends_s.pop(deadline, None)

    def _keep(self) -> None:
        while True:
            with self._changed:
                self._wakes_s = min(self._ends_s.values(), default=math.inf)
                if (left_s := self._wakes_s - time.monotonic()) > 0:
                    self._changed.wait(None if left_s == math.inf else left_s)
                due = [one for one, ends_s in self._ends_s.items() if ends_s <= time.monotonic()]
                for one in due:
                    del self._ends_s[one]
            for one in due:
                one.end()


_keeper = Keeper()


class WatchedConnection(HTTPConnection):
    """Under the deadline of its thread from the first packet on, or from the request on where it is used again."""

    def _new_conn(self) -> socket.socket:
        opened = super()._new_conn()
        Deadline.watch(opened)
        return opened

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            Deadline.watch(self.sock)
        super().request(*args, **kwargs)


class WatchedTlsConnection(WatchedConnection, HTTPSConnection):
    pass


class CountedPool(HTTPConnectionPool):
    """Counts every request as it leaves, also those that urllib3 sends again by itself."""

    def _make_request(self, *args: Any, **kwargs: Any) -> BaseHTTPResponse:
        try:
            answer = super()._make_request(*args, **kwargs)
        except Exception:
            _line.count(NO_ANSWER)
            raise
        _line.count(str(answer.status))
        return answer


class HttpPool(CountedPool):
    ConnectionCls = WatchedConnection


class TlsPool(CountedPool, HTTPSConnectionPool):
    ConnectionCls = WatchedTlsConnection


class WatchedAdapter(HTTPAdapter):
    """Opens watched connections, to a proxy as well. `last` is what the wire answered last."""

    POOLS: ClassVar[dict[str, type[HTTPConnectionPool]]] = {"http": HttpPool, "https": TlsPool}

    last: requests.Response | None = None

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self.POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = WatchedAdapter.POOLS
        return manager

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        self.last = None
        self.last = super().send(*args, **kwargs)
        return self.last


class Line:
    """The way to the platform that all requests of a run share.

    `guard` is asked just before each request, also one that is repeated: it raises TransientError where the run has
    lost what allows it to send, its locks.
    """

    guard: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, pace: Pace | None = None, deadline_s: float = REQUEST_DEADLINE_S) -> None:
        self.abandoned = threading.Event()
        self.pace = pace or Pace(sleep=self.wait)
        self.circuit = Circuit()
        self._deadline_s = deadline_s
        self._counting = threading.Lock()
        self._calls: dict[str, int] = {}

    def count(self, status: str) -> None:
        with self._counting:
            self._calls[status] = self._calls.get(status, 0) + 1

    def calls(self) -> dict[str, int]:
        """Requests and downloads so far, by HTTP status, or NO_ANSWER."""
        with self._counting:
            return dict(sorted(self._calls.items()))

    def wait(self, duration_s: float) -> None:
        """Raises Interrupted once the run is abandoned."""
        if self.abandoned.wait(duration_s):
            raise Interrupted

    @contextmanager
    def session(
        self, max_retries: int | None, backoff_factor: float, connect_retries: int, backoff_jitter: float = 0.0
    ) -> Iterator[requests.Session]:
        """What the SDK's own `create_new_session` makes, less what an unattended run cannot have.

        It re-sends after a 5xx or a broken connection, as often as the client's settings say. It never obeys a
        Retry-After: urllib3 sleeps up to 6 hours for it, and setting its class attribute for that changes nothing,
        since that is bound as a default when the class is made. A 429 goes to our own retries, which slow down the
        whole run, and a 413 comes back at once, since the same body cannot fit the next time.

        Raises TransientOutageError where the circuit is open, else exceptions of the SDK.
        """
        retries = Retry(
            connect=connect_retries,
            read=max_retries,
            status=max_retries,
            other=max_retries,
            allowed_methods=["GET", "POST", "PUT"],  # the SDK asks by POST too; what must go out once comes with 0
            status_forcelist=[500, 502, 503, 504],
            backoff_factor=backoff_factor,
            backoff_max=LONGEST_BACK_OFF_S,
            backoff_jitter=backoff_jitter,
            respect_retry_after_header=False,
            raise_on_status=False,
        )
        self.circuit.check()
        self.pace.take()
        self.guard()
        adapter = WatchedAdapter(max_retries=retries)
        with requests.Session() as made, Deadline(self._deadline_s) as deadline:
            made.mount("https://", adapter)
            made.mount("http://", adapter)
            try:
                yield made
            except Exception as error:
                if deadline.passed:
                    raise sdk.TimeOutError(f"no complete answer within {deadline.limit_s:g} s") from error
                _raise_plainly(adapter.last, error)
                raise


def _raise_plainly(answer: requests.Response | None, error: Exception) -> None:
    """Older SDKs take these two for broken answers, and none reads a Retry-After that is a date."""
    if answer is not None and answer.status_code == 429:
        wait_s = retry_after_s(answer.headers.get("Retry-After", ""), time.time())
        raise sdk.RateLimitExceededError(retry_after=wait_s) from error
    if answer is not None and answer.status_code == 413:
        raise sdk.PayloadTooLargeError("the request is too large") from error


def retry_after_s(header: str, now_s: float) -> int | None:
    """The wait that a Retry-After header asks for, in seconds or as a date; None where it says neither."""
    if (digits := header.strip()).isdecimal():
        return int(digits[:18])
    with suppress(ValueError, OverflowError):
        return max(0, round(parsedate_to_datetime(header).timestamp() - now_s))
    return None


_line = Line()


def install(line: Line) -> None:
    """Let all requests of the SDK in this process go by `line`.

    The SDK makes a session for each request and takes none of ours, hence this way.
    """
    global _line  # as wide as what it stands for: the SDK's own function
    _line = line
    for module in (querier, api_client):
        names = vars(module)
        if "create_new_session" not in names:
            raise AssertionError(f"{module.__name__} makes its sessions in some other way")
        names["create_new_session"] = line.session


def installed() -> Line:
    return _line

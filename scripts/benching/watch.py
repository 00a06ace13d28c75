"""Counts commits and requests of a process while it works, and samples where its time goes."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import requests
import sqlalchemy as sa

SAMPLE_EVERY_S = 0.002
PARTS = {"/requests/": "SDK", "/encord/": "SDK", "/sqlalchemy/": "SQL", "/autolabel/": "own", "/benching/": "own"}
WAITING = {("/socket.py", "readinto"), ("/socket.py", "create_connection")}
"""Where the SDK does nothing but wait for the server."""


@dataclass
class Seen:
    """`samples`: by part of the program, of every thread that was at work in one."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    commits: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    samples: Counter[str] = field(default_factory=Counter)

    def described(self) -> dict[str, Any]:
        total = sum(self.samples.values()) or 1
        return {
            "wall_s": self.wall_s,
            "cpu_s": self.cpu_s,
            "commits": self.commits,
            "requests": dict(self.requests),
            "shares": {part: count / total for part, count in self.samples.items()},
        }


@contextmanager
def watch() -> Iterator[Seen]:
    """Fills what it yields until the block ends. Of the ledger, transactions that write are counted."""
    seen, over = Seen(), threading.Event()
    send = requests.Session.send

    def counted_send(session: requests.Session, request: requests.PreparedRequest, **how: Any) -> requests.Response:
        seen.requests[_name(request)] += 1
        return send(session, request, **how)

    def count_commit(connection: sa.Connection) -> None:
        seen.commits += bool(connection.get_execution_options().get("writes"))

    sampler = threading.Thread(target=_sample, args=(seen.samples, over), daemon=True)
    requests.Session.send = counted_send  # type: ignore[assignment, method-assign]
    sa.event.listen(sa.Engine, "commit", count_commit)
    sampler.start()
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    try:
        yield seen
    finally:
        seen.wall_s, seen.cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        over.set()
        sampler.join()
        sa.event.remove(sa.Engine, "commit", count_commit)
        requests.Session.send = send  # type: ignore[method-assign]


def _name(request: requests.PreparedRequest) -> str:
    path = str(request.path_url).partition("?")[0]
    if path == "/public" and isinstance(request.body, str | bytes):
        body = request.body.encode() if isinstance(request.body, str) else request.body
        return next((name for name in ("labelrowmetadata", "labelrow") if f'"{name}"'.encode() in body), "legacy")
    return path.rsplit("/", 1)[-1]


def _sample(samples: Counter[str], over: threading.Event) -> None:
    own = threading.get_ident()
    while not over.wait(SAMPLE_EVERY_S):
        for thread, frame in sys._current_frames().items():
            if thread != own and (part := _part(frame)):
                samples[part] += 1


def _part(frame: FrameType | None) -> str:
    """The innermost part of the program that the frame belongs to; none for a thread that waits for another."""
    waits, innermost = False, frame
    while frame is not None:
        code = frame.f_code
        if frame is innermost and code.co_filename.endswith(("/threading.py", "/queue.py", "/selectors.py")):
            return ""
        waits = waits or any(code.co_filename.endswith(file) and code.co_name == name for file, name in WAITING)
        for folder, part in PARTS.items():
            if folder in code.co_filename:
                return "server" if waits and part == "SDK" else part
        frame = frame.f_back
    return ""

"""Named moments in the life of a push, before and after each commit and each request, and what is done there.

They are found from outside, at the seams of SQLAlchemy and requests: the product does not know that it is watched.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests.adapters
import sqlalchemy as sa
from requests import PreparedRequest, Response

Order = tuple[str, int, str]
"""At which point, at which time that it is reached, and what then: `kill`, `stop`, `sleep SECONDS`, or `hold FILE`:
until there is such a file."""

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
WRITTEN = re.compile(r"\s*(?:INSERT INTO|UPDATE|DELETE FROM|CREATE TABLE|ALTER TABLE) \"?(\w+)")
STATES = frozenset({"found", "leased", "inferred", "intent", "written", "done", "left_alone", "set_aside"})


class _Watch:
    def __init__(self) -> None:
        self.orders: dict[tuple[str, int], str] = {}
        self.trace: Path | None = None
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()


_watch = _Watch()


def arm(orders: tuple[Order, ...], trace: Path | None) -> None:
    """From now on, in this process."""
    _watch.orders = {(name, time_): what for name, time_, what in orders}
    _watch.trace = trace
    sa.event.listen(sa.engine.Engine, "before_cursor_execute", _on_statement)
    sa.event.listen(sa.engine.Engine, "commit", _on_commit)
    sa.event.listen(sa.pool.Pool, "checkin", _on_checkin)
    requests.adapters.HTTPAdapter.send = _watched_send(requests.adapters.HTTPAdapter.send)


def reach(name: str) -> None:
    with _watch.lock:
        _watch.seen[name] += 1
        what = _watch.orders.get((name, _watch.seen[name]))
        _note(name)
    if what is not None:
        act(what)


def _note(line: str) -> None:
    if _watch.trace is not None:
        with _watch.trace.open("a") as file:
            file.write(f"{line}\n")


def act(what: str) -> None:
    match what.split(maxsplit=1):
        case ["kill"]:
            os._exit(9)
        case ["stop"]:
            # To this thread: one that is sent to the process may take effect when this thread is already further on.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        case ["sleep", seconds]:
            time.sleep(float(seconds))
        case ["hold", file]:
            while not Path(file).exists():
                time.sleep(0.01)
        case _:
            raise ValueError(what)


def read(trace: Path) -> Counter[str]:
    """How often each point was reached so far."""
    lines = trace.read_text().splitlines() if trace.exists() else []
    return Counter(line for line in lines if not line.startswith("sent "))


def sent_rows(trace: Path, request: str) -> list[int]:
    """How many rows each request of this name carried, in order."""
    lines = (line.split(maxsplit=2) for line in trace.read_text().splitlines() if line.startswith("sent "))
    return [int(rows) for _, rows, name in lines if name == request]


# ---------------------------------------------------------------------------------------------- seams


def _on_statement(
    connection: sa.Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
) -> None:
    if found := WRITTEN.match(statement):
        connection.info.setdefault("writes", set()).add("".join(_label(found[1], parameters)))


def _label(table: str, parameters: Any) -> Iterator[str]:
    yield table
    if table == "event":
        values = parameters.values() if isinstance(parameters, dict) else parameters
        yield from (f" {value}" for value in values if isinstance(value, str) and value in STATES)


def _on_commit(connection: sa.Connection) -> None:
    if writes := connection.info.get("writes"):
        reach(f"before commit of {_name(writes)}")


def _on_checkin(_connection: Any, record: Any) -> None:
    if writes := record.info.pop("writes", None):
        reach(f"after commit of {_name(writes)}")


def _name(writes: set[str]) -> str:
    """What a transaction is about: its steps, else its tables."""
    return ", ".join(sorted({one for one in writes if one.startswith("event")} or writes))


def _watched_send(send: Any) -> Any:
    def watched(self: Any, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        name, rows = _told(request)
        _note(f"sent {rows} {name}")
        reach(f"before {name}")
        answer: Response = send(self, request, *args, **kwargs)
        reach(f"after {name}")
        return answer

    return watched


def _told(request: PreparedRequest) -> tuple[str, int]:
    """The name of a request, and how many rows it names."""
    path = UUID.sub("*", str(request.path_url).partition("?")[0])
    if path.startswith("/public") and request.body:
        envelope = json.loads(request.body)
        uid = envelope["values"]["uid"]
        return f"{envelope['query_type']} {envelope['query_method']}", len(uid) if isinstance(uid, list) else 0
    return f"{request.method} {path.removeprefix('/v2/public')}", 0

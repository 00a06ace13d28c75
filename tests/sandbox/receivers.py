"""Something that webhooks can be sent to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

LIMIT_S = 20.0


@dataclass
class Receiver:
    """Keeps every call. `answers`: what it does about the next ones, in order; then always 200."""

    url: str
    calls: list[tuple[bytes, dict[str, str]]] = field(default_factory=list)
    answers: list[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)

    def get(self, count: int) -> list[dict[str, Any]]:
        """What the first `count` calls say, once they are there."""
        wait(lambda: len(self.calls) >= count)
        return [json.loads(body) for body, _ in self.calls[:count]]


def wait(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.01)


def say(status: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            request.send_header(name, value)
        request.end_headers()

    return answer


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver as long as the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.calls.append((body, dict(self.headers)))
            with suppress(OSError):
                (kept.answers.pop(0) if kept.answers else say(200))(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept = Receiver(f"http://127.0.0.1:{server.server_port}/webhooks/encord")
        Thread(target=server.serve_forever, daemon=True).start()
        yield kept
        server.shutdown()

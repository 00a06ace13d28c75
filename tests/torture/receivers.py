"""A receiver in its own process, for load and kills: the product's application on uvicorn. It runs nothing."""

from __future__ import annotations

import http.client
import logging
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import structlog
import uvicorn

from autolabel.database import Database
from autolabel.service.app import make_app
from torture import pushes, receiver_doubles
from webhooks import PROJECT, secrets

START_S = 30.0


@dataclass(frozen=True)
class Service:
    """Where it keeps its ledger, listens, and reads its secrets; and the part that is broken on purpose."""

    home: str
    port: int
    double: str | None = None

    @property
    def secrets(self) -> Path:
        return Path(self.home) / "secrets"

    @property
    def ledger(self) -> Path:
        return Path(self.home) / "ledger.sqlite"


def serve(service: Service) -> None:
    """What is accepted is logged as JSON, as by a service that nobody looks at."""
    sys.stdout = sys.stderr = (Path(service.home) / "log").open("a")
    structlog.configure(
        processors=[structlog.processors.TimeStamper(), structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
    )
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of a loop that is killed
    wakes = receiver_doubles.WAKES[service.double](Database(service.ledger), time.time)
    app = make_app(wakes, secrets(encord=None, file=service.secrets), [PROJECT], lambda: None)
    uvicorn.run(app, host="127.0.0.1", port=service.port, log_level="error", access_log=False)


def free_port() -> int:
    with closing(socket.socket()) as any_:
        any_.bind(("127.0.0.1", 0))
        return int(any_.getsockname()[1])


def start(service: Service) -> ForkServerProcess:
    """One that answers."""
    pushes.prepare()
    process = pushes.forked(serve, service)
    ends_s = time.monotonic() + START_S
    while time.monotonic() < ends_s and process.is_alive():
        with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=START_S)) as wire:
            try:
                wire.request("GET", "/readyz")
                if wire.getresponse().status == 200:
                    return process
            except OSError:
                time.sleep(0.02)
    raise AssertionError(f"the receiver does not begin: {(Path(service.home) / 'log').read_text()}")


@contextmanager
def serving(folder: str) -> Iterator[Service]:
    """One whose secret is `secret`, for a while."""
    service = Service(folder, free_port())
    service.secrets.write_text("secret\n")
    process = start(service)
    try:
        yield service
    finally:
        process.kill()
        process.join()

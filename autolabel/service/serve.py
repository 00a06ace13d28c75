"""`autolabel serve`: the web application and the dispatcher, in one process on one address."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from signal import SIGINT, SIGTERM

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from autolabel.bootstrap import ssh_key
from autolabel.errors import PermanentUsageError, TransientBusyError, TransientError
from autolabel.home import make_private, open_overview, open_wakes
from autolabel.locks import hold
from autolabel.logs import install, keep
from autolabel.recipe import load_config
from autolabel.service.app import make_app
from autolabel.service.calls import Calls
from autolabel.service.child import SyncChild
from autolabel.service.dispatch import Dispatcher
from autolabel.service.page import operator_router
from autolabel.service.secrets import Secrets, open_secrets
from autolabel.settings import Settings

LOOPBACK = "127.0.0.1"
BACKLOG = 2048
MOST_CONNECTIONS = 256
MOST_HEADER_BYTES = 16 << 10
KEEP_ALIVE_S = 15
LAST_ANSWERS_S = 3

Say = Callable[[str], None]


def serve(settings: Settings, host: str, port: int, say: Say, warn: Say) -> None:
    """Serve until SIGTERM or SIGINT; `say` gets the one line that tells where.

    Raises PermanentUsageError for settings with which nothing could be served and for an address that is not to be
    had, TransientError where another one serves from the same AUTOLABEL_HOME.
    """
    secrets = check(settings)
    make_private(settings.home)
    with (
        _alone(settings.home),
        closing(_bound(host, port)) as listener,
        closing(_bound(LOOPBACK, port + 1 if port else 0)) as page,
    ):
        install(logging.INFO)  # only now: an error that ends a command stands on stderr once
        keep(settings.home)
        if not _is_loopback(host):
            warn(
                f"warning: whoever reaches {host} can send here, and read what /metrics tells of projects; put a "
                "proxy with TLS in front that lets /webhooks/ alone through"
            )
        here, page_port = (socket_.getsockname()[1] for socket_ in (listener, page))
        where = f"http://{f'[{host}]' if ':' in host else host}:{here}"
        told = f"serving on {where}; the operator's page, for this machine alone: http://{LOOPBACK}:{page_port}"
        with _application(settings, secrets, page_port) as app:
            asyncio.run(_Server(config_for(app), lambda: say(told)).serve(sockets=[listener, page]))
            for number in (SIGTERM, SIGINT):  # a second one must not break into the giving back of rows
                signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _application(settings: Settings, secrets: Secrets, page_port: int) -> Iterator[FastAPI]:
    """With what carries out the runs that it is asked for."""
    stopping, calls = threading.Event(), Calls()
    with (
        closing(open_wakes(settings)) as wakes,
        closing(open_overview(settings)) as overview,
        Dispatcher(wakes, SyncChild(settings, stopping), settings.projects, settings.idle_s, stopping) as dispatcher,
    ):
        operator = operator_router(overview, settings.home, dispatcher.state, calls.snapshot, page_port)
        receive = partial(make_app, wakes, secrets, settings.projects, dispatcher.wake)
        yield receive(calls=calls, is_ready=dispatcher.is_ready, routers=[operator])


def check(settings: Settings) -> Secrets:
    """Raises PermanentUsageError, before anything listens, for what every webhook or every run would fail over."""
    from autolabel.remote.client import make_client

    if not settings.projects:
        raise PermanentUsageError("no projects to serve: name them in AUTOLABEL_PROJECTS (hashes or URLs)")
    secrets = open_secrets(settings)
    if not (secrets.encord.current() or secrets.bucket.current()):
        raise PermanentUsageError(
            "no secret, so no webhook could be told from a forged one: set ENCORD_WEBHOOK_SECRET_FILE or "
            "ENCORD_WEBHOOK_SECRET, for bucket events AUTOLABEL_BUCKET_SECRET_FILE or AUTOLABEL_BUCKET_SECRET"
        )
    make_client(settings.domain, ssh_key(settings))
    load_config(settings.config)
    return secrets


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold(home / "locks" / "serve.lock", "autolabel serve"))
        except TransientBusyError as error:
            raise TransientError(f"{error.holder} runs for {home} already, so nothing was started") from None
        yield


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise PermanentUsageError(
            f"{host} port {port} is not to be had ({error}); give another --host or --port"
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def config_for(app: FastAPI) -> uvicorn.Config:
    """Peers are taken for what they are: no header of theirs says where they come from."""
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=LAST_ANSWERS_S,
    )


class _Protocol(H11Protocol):
    """HTTP/1.1 whose keep-alive time also holds for a new connection, and until the whole head of a request is there.

    Else connections that say nothing, or next to nothing, would take the room of those that do.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        timer, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self.timeout_keep_alive_task = timer
        elif timer is not None:
            timer.cancel()


class _Server(uvicorn.Server):
    """uvicorn, telling when it answers, and ending normally on a signal instead of raising it again."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (SIGTERM, SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.handle_exit, number, None)
        yield

"""Ledgers opened by a test, in a file or, with LEDGER=postgres, on a server; the unit tests' conftest closes them."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from pydantic import SecretStr

import postgres_servers
from autolabel.advisory import AdvisoryLocks
from autolabel.database import Database
from autolabel.ledger import Ledger
from autolabel.locks import FileLocks, Locks
from autolabel.postgres import PostgresServer
from postgres_servers import INITDB, MISSING, Server, serving

ON_POSTGRES = os.environ.get("LEDGER") == "postgres"
OPEN: list[Ledger] = []


@cache
def server() -> Server:
    """The session's, started at its first mention."""
    if INITDB is None and not os.environ.get("CI"):
        pytest.skip(MISSING)
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(serving())


def on_server(folder: Path) -> PostgresServer:
    """A database that belongs to a test's folder."""
    return PostgresServer(SecretStr(server().database(postgres_servers.name_of(folder))))


def open_database(folder: Path) -> Database:
    return Database(on_server(folder) if ON_POSTGRES else folder / "ledger.sqlite")


def open_ledger(folder: Path, *, alive: bool = False, clock: Callable[[], float] = lambda: 12.0) -> Ledger:
    """`alive`: whether runs that have not ended still live."""
    OPEN.append(Ledger(open_database(folder), clock, lambda run_id: alive))
    return OPEN[-1]


def open_locks(folder: Path) -> Locks:
    """The locks of a test's folder, as a host of its own has them; the ledger is there already."""
    return AdvisoryLocks(on_server(folder)) if ON_POSTGRES else FileLocks(folder)

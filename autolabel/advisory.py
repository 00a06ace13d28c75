"""Locks for several hosts: session advisory locks of a Postgres server, gone with the connection that took them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from autolabel.database import Database
from autolabel.errors import TransientBusyError, TransientLedgerError
from autolabel.locks import HOLDER_LOOKS, HOLDER_PAUSE_S
from autolabel.postgres import PostgresServer, lock_key

CHECK_S = 20
HAS_IDLE_TIMEOUT = 140000

_HELD = """FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
_KEY = "(classid::bigint << 32 | objid::bigint)"
_HOLDERS = f"SELECT pid {_HELD} AND {_KEY} = %(key)s"
_MINE = f"SELECT {_KEY} {_HELD} AND pid = pg_backend_pid()"
_WORDS = f"SELECT words FROM lock_holder WHERE lock = %(key)s AND pid IN ({_HOLDERS}) ORDER BY pid LIMIT 1"
_FORGET = f"DELETE FROM lock_holder WHERE lock = %(key)s AND pid NOT IN ({_HOLDERS})"
_TELL = """INSERT INTO lock_holder VALUES (%(key)s, pg_backend_pid(), %(words)s)
ON CONFLICT (lock, pid) DO UPDATE SET words = excluded.words"""


def is_alive(database: Database, run_id: str) -> bool:
    """Whether a run holds the lock of its life."""
    with database.read() as db:
        return db.exec_driver_sql(_HOLDERS, {"key": lock_key(_life(run_id))}).first() is not None


def _life(run_id: str) -> str:
    return f"run {run_id}"


class AdvisoryLocks:
    """See `locks.Locks`. One connection holds them all, opened with the first; its ledger is there already."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._held: set[int] = set()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @contextmanager
    def project(self, project_hash: str, holder: str, *, shared: bool = False) -> Iterator[None]:
        since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        words = f"{holder} (process {os.getpid()} on {socket.gethostname()}, since {since})"
        with self._holding(lock_key(f"project {project_hash}"), words, "_shared" if shared else ""):
            yield

    @contextmanager
    def life(self, run_id: str) -> Iterator[None]:
        with self._holding(lock_key(_life(run_id)), run_id, ""):
            yield

    @contextmanager
    def _holding(self, key: int, words: str, kind: str) -> Iterator[None]:
        try:
            db = self._connection = self._connection or self._connect()
            if not self._ask(db, f"SELECT pg_try_advisory_lock{kind}(%(key)s)", key)[0][0]:
                raise TransientBusyError(self._holder(db, key))
            db.execute(_FORGET, {"key": key})
            db.execute(_TELL, {"key": key, "words": words})
        except psycopg.Error as error:
            raise self._server.explain(error) from error
        self._held.add(key)
        try:
            yield
        finally:
            self._held.discard(key)
            with suppress(psycopg.Error):  # it is gone with its connection
                db.execute("DELETE FROM lock_holder WHERE lock = %(key)s AND pid = pg_backend_pid()", {"key": key})
                db.execute(f"SELECT pg_advisory_unlock{kind}(%(key)s)", {"key": key})

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        db = self._server.connect()
        db.execute(f"SET statement_timeout = '{CHECK_S}s'")
        if db.info.server_version >= HAS_IDLE_TIMEOUT:
            db.execute("SET idle_session_timeout = 0")  # a lock is idle for as long as the models are busy
        return db

    def _ask(self, db: psycopg.Connection[tuple[Any, ...]], query: str, key: int) -> list[tuple[Any, ...]]:
        return db.execute(query.encode(), {"key": key}).fetchall()

    def _holder(self, db: psycopg.Connection[tuple[Any, ...]], key: int) -> str:
        """Who holds a lock. Whoever took it just now says so a moment later."""
        for _ in range(HOLDER_LOOKS):
            if found := self._ask(db, _WORDS, key):
                return str(found[0][0])
            time.sleep(HOLDER_PAUSE_S)
        return "another run"

    def check(self) -> None:
        """Asks the very connection that took them."""
        if self._connection is None:
            return
        try:
            held = {key for (key,) in self._connection.execute(_MINE)}
        except psycopg.Error:
            held = set()
        if not self._held <= held:
            raise TransientLedgerError(
                f"the connection to the ledger {self._server} was lost, and with it the locks of this run; nothing "
                "was sent after that"
            )

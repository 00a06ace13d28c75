"""A Postgres server of the tests' own, on a free port of this machine; databases are made as they are needed."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

PASSWORD = "canary-of-the-ledger"
START_S = 60.0
INITDB = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), None)
MISSING = "initdb of Debian's package postgresql is not here"
needs_server = pytest.mark.skipif(INITDB is None and not os.environ.get("CI"), reason=MISSING)


@dataclass
class Server:
    """A server that can be stopped as by a power cut, and started again on the same port."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    made: set[str] = field(default_factory=set)

    def start(self) -> None:
        assert INITDB is not None, MISSING
        own = ("-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder), "-h", "127.0.0.1")
        command = [*_AS_POSTGRES, "--pdeathsig", "QUIT", str(INITDB.with_name("postgres")), *own]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end_s = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                if time.monotonic() > end_s:
                    raise
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """At once, as a crash would: `pg_ctl stop -m immediate`."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
            self.process = None

    def url(self, database: str) -> str:
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def database(self, name: str) -> str:
        """The address of a database that is made at its first mention."""
        if name not in self.made:
            self.sql("postgres", f'CREATE DATABASE "{name}"')
            self.made.add(name)
        return self.url(name)

    def sql(self, database: str, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as db:
            done = db.execute(statement)  # type: ignore[call-overload]
            return done.fetchall() if done.description else []


_AS_POSTGRES = ["setpriv"]
if os.geteuid() == 0:
    _AS_POSTGRES += ["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]


@contextmanager
def serving() -> Iterator[Server]:
    """A server with fsync on; it dies with whoever started it."""
    assert INITDB is not None, MISSING
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", "postgres:", name], check=True)
        how = ("--auth", "scram-sha-256", "--pwfile", str(folder / "password"), "-U", "postgres", "--no-sync")
        own = [str(INITDB), "-D", str(folder / "data"), "-E", "UTF8", "--locale", "C", *how]
        subprocess.run([*_AS_POSTGRES, *own], check=True, stdout=subprocess.DEVNULL, cwd=name)
        server = Server(folder, _free_port())
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def name_of(folder: Path) -> str:
    """The name of a database that belongs to a test's folder."""
    return f"t{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"

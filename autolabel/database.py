"""The ledger's file: under which rules it is opened and trusted, and its transactions."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psutil
import sqlalchemy as sa

from autolabel.errors import AutolabelError, PermanentDiskError, PermanentLedgerError, TransientLedgerError
from autolabel.schema import META, MIGRATIONS, VERSION

BUSY_TIMEOUT_S = 30
MIN_FREE_BYTES = 64 << 20
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "fuse.glusterfs", "lustre", "gpfs", "beegfs"}
)


class Database:
    """A file of the present schema, made or brought up to date. Safe between threads.

    Raises PermanentLedgerError for a file that cannot be trusted, TransientLedgerError where another process does
    not let go of it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = threading.Lock()  # SQLite itself lets a writer sleep, for up to 0.1 s, and look again
        self._engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S})
        sa.event.listen(self._engine, "connect", on_connect)
        sa.event.listen(self._engine, "begin", on_begin)
        try:
            self._open()
        except AutolabelError:
            self.close()
            raise

    def _open(self) -> None:
        check_place(self._path, psutil.disk_partitions(all=True))
        with self.read() as db:
            version = checked_version(db, self._path)
        if version == VERSION:
            return
        with self.write() as db:
            version = checked_version(db, self._path)  # another process may have been first
            if version == 0:
                META.create_all(db)
            for step in range(version or VERSION, VERSION):
                db.exec_driver_sql(MIGRATIONS[step])
            db.exec_driver_sql(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        self._engine.dispose()

    def check_room(self) -> None:
        """Raises PermanentDiskError where the disk has no room for what a run will keep."""
        check_room(self._path)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent look that no writer waits for."""
        with self._trusted(), self._engine.connect() as db, db.begin():
            yield db

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction, alone from its beginning, on the disk when the block ends."""
        with self._trusted(), self._writing, self._engine.connect().execution_options(writes=True) as db, db.begin():
            yield db

    @contextmanager
    def _trusted(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise TransientLedgerError(f"another process keeps the ledger {self._path} locked") from error
            raise PermanentLedgerError(
                f"the ledger {self._path} cannot be used ({error.orig}), so nothing more is written to the platform; "
                "free the disk or restore the file, then run again"
            ) from error


class Mount(Protocol):
    @property
    def mountpoint(self) -> str: ...

    @property
    def fstype(self) -> str: ...


def on_connect(raw: sqlite3.Connection, _record: object) -> None:
    """WAL, and every commit on the disk before it returns."""
    raw.isolation_level = None  # the driver must not begin transactions behind SQLAlchemy's back
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = FULL")  # NORMAL may roll an acknowledged commit back after a power cut


def on_begin(connection: sa.Connection) -> None:
    """Writers take the lock at once: a lock taken later can be refused in the middle of a transaction."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def check_place(path: Path, mounts: Sequence[Mount]) -> None:
    """Raises PermanentLedgerError where the file lies on a network: its locks cannot be relied on there."""
    kind = file_system(path, mounts)
    if kind in NETWORK or kind.startswith(("fuse.sshfs", "fuse.s3", "fuse.gcs", "fuse.rclone")):
        raise PermanentLedgerError(
            f"the ledger {path} would lie on a network file system ({kind}), where locks cannot be relied on; "
            "nothing was written. Set AUTOLABEL_HOME to a folder on a local disk"
        )


def file_system(path: Path, mounts: Sequence[Mount]) -> str:
    """The kind of file system on which a path lies: that of the deepest mount above it; "" if none is known."""
    whole = path.resolve()
    above = [mount for mount in mounts if whole.is_relative_to(mount.mountpoint)]
    # Of mounts in one place the latest hides the others; `max` takes the first of those that are equal.
    return max(reversed(above), key=lambda mount: len(mount.mountpoint)).fstype if above else ""


def check_room(path: Path, needed: int = MIN_FREE_BYTES) -> None:
    """Raises PermanentDiskError where fewer bytes are free beside the file."""
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise PermanentDiskError(
            f"the disk of the ledger {path} has {free >> 20} MB free and {needed >> 20} are needed; "
            "nothing was written"
        )


def checked_version(db: sa.Connection, path: Path) -> int:
    """The file's schema version, 0 for a new one. Raises PermanentLedgerError for a newer or damaged file."""
    version = int(db.exec_driver_sql("PRAGMA user_version").scalar_one())
    if version > VERSION:
        raise PermanentLedgerError(
            f"the ledger {path} was written by a newer release (schema {version}, this one reads {VERSION}); "
            "nothing was written. Install the newer release"
        )
    verdict = str(db.exec_driver_sql("PRAGMA quick_check").scalar_one()).splitlines()[0]
    if verdict != "ok":
        raise PermanentLedgerError(f"the ledger {path} is damaged ({verdict}); nothing was written. Restore a copy")
    return version

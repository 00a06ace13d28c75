"""The ledger's database: how it is opened and brought up to date, its transactions; and the rules of its file."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
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


class Place(Protocol):
    """Where a ledger is kept: all in which a file differs from a server. `__str__` names it, without a secret."""

    def engine(self) -> sa.Engine:
        """Every transaction of it is durable when its commit returns; one with the option `writes` is alone."""

    def check(self) -> None:
        """Raises PermanentLedgerError where no ledger can be kept."""

    def check_room(self) -> None:
        """Raises PermanentDiskError where there is no room for what a run will keep."""

    def version(self, db: sa.Connection) -> int:
        """The schema version, 0 for a new ledger. Raises PermanentLedgerError for one that is damaged."""

    def set_version(self, db: sa.Connection) -> None:
        """Note that the schema is the present one."""

    def clock(self) -> float:
        """Seconds since 1970 by the one clock that all who use this ledger go by."""

    def explain(self, error: BaseException | None) -> AutolabelError:
        """What an error of the driver means."""


class Database:
    """A ledger of the present schema, made or brought up to date: a file, or another place. Safe between threads.

    Raises PermanentLedgerError for one that cannot be trusted, TransientLedgerError where another process does not
    let go of it, or a server is away.
    """

    def __init__(self, place: Path | Place) -> None:
        self._place = SqliteFile(place) if isinstance(place, Path) else place
        self.clock = self._place.clock
        self.check_room = self._place.check_room
        self._writing = threading.Lock()  # SQLite itself lets a writer sleep, for up to 0.1 s, and look again
        self._engine = self._place.engine()
        try:
            self._open()
        except AutolabelError:
            self.close()
            raise

    def _open(self) -> None:
        self._place.check()
        with self.read() as db:
            version = self._checked_version(db)
        if version == VERSION:
            return
        with self.write() as db:
            version = self._checked_version(db)  # another process may have been first
            if version == 0:
                META.create_all(db)
            for step in range(version or VERSION, VERSION):
                db.exec_driver_sql(MIGRATIONS[step])
            self._place.set_version(db)

    def _checked_version(self, db: sa.Connection) -> int:
        version = self._place.version(db)
        if version > VERSION:
            raise PermanentLedgerError(
                f"the ledger {self._place} was written by a newer release (schema {version}, this one reads "
                f"{VERSION}); nothing was written. Install the newer release"
            )
        return version

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent look that no writer waits for."""
        with self._explained(), self._engine.connect() as db, db.begin():
            yield db

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction, alone from its beginning, on the disk when the block ends."""
        with (
            self._explained(),
            self._writing,
            self._engine.connect().execution_options(writes=True) as db,
            db.begin(),
        ):
            yield db

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise self._place.explain(error.orig) from error


class SqliteFile:
    """A file of this machine, in WAL mode."""

    clock = staticmethod(time.time)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def engine(self) -> sa.Engine:
        engine = sa.create_engine(f"sqlite:///{self._path}", connect_args={"timeout": BUSY_TIMEOUT_S})
        sa.event.listen(engine, "connect", on_connect)
        sa.event.listen(engine, "begin", on_begin)
        return engine

    def check(self) -> None:
        check_place(self._path, psutil.disk_partitions(all=True))

    def check_room(self) -> None:
        check_room(self._path)

    def version(self, db: sa.Connection) -> int:
        version = int(db.exec_driver_sql("PRAGMA user_version").scalar_one())
        if version <= VERSION:
            check_whole(db, self._path)
        return version

    def set_version(self, db: sa.Connection) -> None:
        db.exec_driver_sql(f"PRAGMA user_version = {VERSION}")

    def explain(self, error: BaseException | None) -> AutolabelError:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            return TransientLedgerError(f"another process keeps the ledger {self} locked")
        return PermanentLedgerError(
            f"the ledger {self} cannot be used ({error}), so nothing more is written to the platform; "
            "free the disk or restore the file, then run again"
        )


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


def check_whole(db: sa.Connection, path: Path) -> None:
    """Raises PermanentLedgerError for a damaged file."""
    verdict = str(db.exec_driver_sql("PRAGMA quick_check").scalar_one()).splitlines()[0]
    if verdict != "ok":
        raise PermanentLedgerError(f"the ledger {path} is damaged ({verdict}); nothing was written. Restore a copy")

"""The ledger's tables, and the rules under which its file is opened and trusted."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from autolabel.errors import PermanentDiskError, PermanentLedgerError

VERSION = 5
MIN_FREE_BYTES = 64 << 20
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "fuse.glusterfs", "lustre", "gpfs", "beegfs"}
)

META = sa.MetaData()
RUN = sa.Table(
    "run",
    META,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("project_hash", sa.Text, nullable=False),
    sa.Column("project_title", sa.Text, nullable=False),
    sa.Column("recipe_id", sa.Text, nullable=False),
    sa.Column("recipe", sa.Text, nullable=False),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("lease_until", sa.Float),  # what it has claimed is its own until then, or until it ends
    sa.Column("finished_at", sa.Float),
    sa.Column("summary", sa.Text),
)
ROW = sa.Table(
    "row",
    META,
    sa.Column("project_hash", sa.Text, primary_key=True),
    sa.Column("recipe_id", sa.Text, primary_key=True),
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("data_hash", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("message", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("failed_downloads", sa.Integer, nullable=False, default=0),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("intent_digest", sa.Text),
)
DETECTIONS = sa.Table(
    "detections",
    META,
    sa.Column("recipe_id", sa.Text, primary_key=True),
    sa.Column("data_hash", sa.Text, primary_key=True),
    sa.Column("chunk", sa.Integer, primary_key=True),  # its first frame index
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("ends_row", sa.Boolean, nullable=False),
)
RECEIPT = sa.Table(
    "receipt",
    META,
    sa.Column("project_hash", sa.Text, primary_key=True),
    sa.Column("recipe_id", sa.Text, primary_key=True),
    sa.Column("data_hash", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, primary_key=True),
    sa.Column("label_hash", sa.Text, nullable=False),
    sa.Column("objects", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("edited_at", sa.Float),
)
EVENT = sa.Table(
    "event",
    META,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("data_hash", sa.Text, nullable=False),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
)


MIGRATIONS = {
    1: "ALTER TABLE detections ADD COLUMN ends_row BOOLEAN NOT NULL DEFAULT 1",
    2: "ALTER TABLE row ADD COLUMN failed_downloads INTEGER NOT NULL DEFAULT 0",
    3: "ALTER TABLE run ADD COLUMN lease_until FLOAT",
    4: "ALTER TABLE receipt ADD COLUMN edited_at FLOAT",
}
"""From each schema version to the next."""


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
    return max(above, key=lambda mount: len(mount.mountpoint)).fstype if above else ""


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
    verdict = db.exec_driver_sql("PRAGMA quick_check").scalar_one()
    if verdict != "ok":
        raise PermanentLedgerError(f"the ledger {path} is damaged ({verdict}); nothing was written. Restore a copy")
    return version

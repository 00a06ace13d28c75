"""The ledger's file: every commit on the disk, each released schema taken over, a bad one refused."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from autolabel.core.detections import FrameLabels
from autolabel.database import Database, check_place, check_room, file_system
from autolabel.errors import PermanentDiskError, PermanentLedgerError, TransientLedgerError
from autolabel.ledger import Ledger
from autolabel.schema import MIGRATIONS, VERSION
from autolabel.states import Chunk, Job, State

JOB = Job("project", "recipe", "main")
FRAMES = [FrameLabels(0, 10, 10, (), {}, "digest")]


def on_file(folder: Path) -> Ledger:
    return Ledger(Database(folder / "ledger.sqlite"), lambda: 12.0, lambda run_id: False)


def keep_one_row(folder: Path) -> None:
    """A ledger in which a row's detections are kept."""
    with closing(on_file(folder)) as ledger:
        ledger.start_run("run", JOB, "Title", {})
        ledger.claim(JOB, "run", ["a"], {})
        ledger.put_detections(JOB, "run", [Chunk("a", FRAMES, ends_row=True)])


UNDO = {
    1: "ALTER TABLE detections DROP COLUMN ends_row",
    2: "ALTER TABLE row DROP COLUMN failed_downloads",
    3: "ALTER TABLE run DROP COLUMN lease_until",
    4: "ALTER TABLE receipt DROP COLUMN edited_at",
    5: "ALTER TABLE receipt DROP COLUMN samples_per_second",
    6: "DROP TABLE undo",
    7: "DROP TABLE inbox",
    8: "DROP TABLE wake",
    9: "DROP TABLE look",
}
"""What takes each schema version back to the one before, as it was released."""


def test_every_migration_has_its_test() -> None:
    assert UNDO.keys() == MIGRATIONS.keys()


@pytest.mark.parametrize("released", list(UNDO))
def test_a_ledger_of_each_released_schema_is_taken_over_with_its_detections(tmp_path: Path, released: int) -> None:
    keep_one_row(tmp_path)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as raw:
        for version in range(released, VERSION):
            raw.execute(UNDO[version])
        raw.execute(f"PRAGMA user_version = {released}")
    raw.close()
    with closing(on_file(tmp_path)) as ledger:
        assert (ledger.stored("recipe"), ledger.records(JOB)["a"].state) == (frozenset({"a"}), State.INFERRED)
        ledger.start_run("next", JOB, "Title", {})
        assert set(ledger.claim(JOB, "next", ["a"], ledger.records(JOB)).taken) == {"a"}
        assert (ledger.receipts(), ledger.undo_marks("project", "recipe")) == ([], {})


def test_two_processes_may_bring_a_ledger_up_to_date_at_once(tmp_path: Path) -> None:
    keep_one_row(tmp_path)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as raw:
        for version in sorted(UNDO, reverse=True):
            raw.execute(UNDO[version])
        raw.execute("PRAGMA user_version = 1")
    raw.close()
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: Database(tmp_path / "ledger.sqlite"), range(4)))
    for database in opened:
        database.close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite") as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(PermanentLedgerError, match="newer release"):
        on_file(tmp_path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    keep_one_row(tmp_path)
    path = tmp_path / "ledger.sqlite"
    body = bytearray(path.read_bytes())
    body[100:4000] = b"\xff" * 3900
    path.write_bytes(body)
    with pytest.raises(PermanentLedgerError, match=r"nothing (more is|was) written"):
        on_file(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("hello" * 100)
    with pytest.raises(PermanentLedgerError, match=r"nothing (more is|was) written"):
        on_file(tmp_path)


def test_a_ledger_that_another_process_keeps_locked_is_a_matter_for_later(tmp_path: Path) -> None:
    keep_one_row(tmp_path)
    with (
        closing(Database(tmp_path / "ledger.sqlite")) as database,
        closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with database.read() as db:
            db.exec_driver_sql("PRAGMA busy_timeout = 10")
        with pytest.raises(TransientLedgerError, match=r"keeps the ledger .* locked"), database.write():
            pass


class Mount(NamedTuple):
    mountpoint: str
    fstype: str


def test_the_file_system_is_that_of_the_deepest_mount() -> None:
    kinds = {"/": "ext4", "/mnt/share": "nfs4", "/mnt/share/disk": "xfs", "/mnt/sh": "tmpfs"}
    mounts = [Mount(*item) for item in kinds.items()]
    places = ("/home/me", "/mnt/share/autolabel/ledger.sqlite", "/mnt/share/disk/x", "/mnt/shared")
    assert [file_system(Path(place), mounts) for place in places] == ["ext4", "nfs4", "xfs", "ext4"]


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_ledger_on_a_network_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(PermanentLedgerError, match=rf"network file system \({kind}\).*nothing was written"):
        check_place(tmp_path / "ledger.sqlite", [Mount("/", "ext4"), Mount(str(tmp_path), kind)])


def test_a_run_does_not_start_on_a_disk_without_room(tmp_path: Path) -> None:
    check_room(tmp_path / "ledger.sqlite")
    with pytest.raises(PermanentDiskError, match="nothing was written"):
        check_room(tmp_path / "ledger.sqlite", needed=1 << 60)


def test_a_commit_is_on_disk_before_the_call_returns(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "ledger.sqlite")) as database, database.read() as db:
        assert db.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert db.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"

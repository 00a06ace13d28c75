"""What lies under AUTOLABEL_HOME: locks, reports, spooled media, and the ledger, where that is not on a server."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from autolabel.database import Database
from autolabel.errors import PermanentDiskError, PermanentUsageError
from autolabel.ledger import Ledger
from autolabel.locks import hold, is_held
from autolabel.looks import Looks
from autolabel.overview import Overview
from autolabel.settings import Settings
from autolabel.wakes import Wakes


def report_folder(settings: Settings) -> Path:
    return settings.home / "reports"


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise PermanentUsageError(
            f"there can be no folder {folder} ({error.strerror}); set AUTOLABEL_HOME to a place that is yours"
        ) from None


def open_database(settings: Settings) -> Database:
    """The ledger's: on the server that the settings name, else a file under AUTOLABEL_HOME."""
    _make_private(settings.home)
    if not settings.ledger:
        return Database(settings.home / "ledger.sqlite")
    from autolabel.postgres import PostgresServer

    return Database(PostgresServer(settings.ledger))


def open_ledger(settings: Settings) -> Ledger:
    return ledger_on(settings, open_database(settings))


def ledger_on(settings: Settings, database: Database) -> Ledger:
    return Ledger(database, database.clock, partial(_is_alive, settings))


def _is_alive(settings: Settings, run_id: str) -> bool:
    return is_held(_life(settings.home, run_id))


def open_overview(settings: Settings) -> Overview:
    return Overview(open_database(settings), partial(_is_alive, settings))


def open_looks(settings: Settings) -> Looks:
    database = open_database(settings)
    return Looks(database, database.clock)


def open_wakes(settings: Settings) -> Wakes:
    database = open_database(settings)
    return Wakes(database, database.clock)


def _life(home: Path, name: str) -> Path:
    """Held for as long as the process lives that has this spool folder, and the run of this name."""
    return home / "spool" / f"{name}.lock"


@contextmanager
def spooling(home: Path, name: str) -> Iterator[Path]:
    """A folder for media, empty and private; what killed processes left of theirs goes away.

    Raises PermanentDiskError where whoever uses it finds the disk full: that is no row's fault.
    """
    _make_private(home / "spool")
    for left in (home / "spool").iterdir():
        if left.suffix != ".lock" and not is_held(_life(home, left.name)):
            shutil.rmtree(left, ignore_errors=True)
            _life(home, left.name).unlink(missing_ok=True)
    folder = home / "spool" / name
    try:
        with hold(_life(home, name), name):
            folder.mkdir(mode=0o700)
            yield folder
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise PermanentDiskError(f"the disk under AUTOLABEL_HOME ({home}) is full: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _life(home, name).unlink(missing_ok=True)

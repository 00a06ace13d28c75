"""What lies under AUTOLABEL_HOME: locks, reports, spooled media, and the ledger, where that is not on a server."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from autolabel.database import Database
from autolabel.errors import PermanentDiskError, PermanentUsageError
from autolabel.ledger import Ledger
from autolabel.locks import FileLocks, Locks, hold, is_held
from autolabel.looks import Looks
from autolabel.overview import Overview
from autolabel.settings import Settings
from autolabel.wakes import Wakes

if TYPE_CHECKING:
    from autolabel.postgres import PostgresServer


def report_folder(settings: Settings) -> Path:
    return settings.home / "reports"


def make_private(folder: Path) -> None:
    """Make a folder for its owner alone, where it is not there yet. Raises PermanentUsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise PermanentUsageError(
            f"there can be no folder {folder} ({error.strerror}); set AUTOLABEL_HOME to a place that is yours"
        ) from None


def open_database(settings: Settings) -> Database:
    """The ledger's: on the server that the settings name, else a file under AUTOLABEL_HOME."""
    make_private(settings.home)
    return Database(_server(settings.ledger) if settings.ledger else settings.home / "ledger.sqlite")


def _server(url: SecretStr) -> PostgresServer:
    from autolabel.postgres import PostgresServer

    return PostgresServer(url)


def open_locks(settings: Settings) -> Locks:
    """The locks of all that share the ledger, which is open already."""
    if not settings.ledger:
        return FileLocks(settings.home)
    from autolabel.advisory import AdvisoryLocks

    return AdvisoryLocks(_server(settings.ledger))


def lives(settings: Settings, database: Database) -> Callable[[str], bool]:
    """What tells whether a run's process lives."""
    if not settings.ledger:
        return lambda run_id: is_held(_life(settings.home, run_id))
    from autolabel.advisory import is_alive

    return partial(is_alive, database)


def open_ledger(settings: Settings) -> Ledger:
    return ledger_on(settings, open_database(settings))


def ledger_on(settings: Settings, database: Database) -> Ledger:
    return Ledger(database, database.clock, lives(settings, database))


def open_overview(settings: Settings) -> Overview:
    database = open_database(settings)
    return Overview(database, lives(settings, database))


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
    make_private(home / "spool")
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

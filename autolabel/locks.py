"""Locks that die with the process that holds them, however it ends; here the kernel's, on files of this machine."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Protocol

from autolabel.errors import TransientBusyError, TransientError

HOLDER_LOOKS, HOLDER_PAUSE_S = 100, 0.02
DEVICES = {"auto": "cuda:0", "cuda": "cuda:0"}
"""Other names of a device, as far as two runs could meet on it."""


@contextmanager
def hold(path: Path, holder: str, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock while the block lasts, alone or beside others that share it.

    Raises TransientBusyError where it cannot be had, naming whoever took it last.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TransientBusyError(_holder(file)) from None
        file.truncate(0)
        file.write(f"{holder} (process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')})\n")
        file.flush()
        yield


def _holder(file: IO[str]) -> str:
    """Who took a lock last. Whoever took it just now says so a moment later."""
    for _ in range(HOLDER_LOOKS):
        file.seek(0)
        if text := file.read().strip():
            return text
        time.sleep(HOLDER_PAUSE_S)
    return "another run"


class Locks(Protocol):
    """Where commands that work on a project keep out of each other's way: this machine, or all that share a ledger.

    Locks die with the process that holds them. What they are kept in may be lost before that: see `check`.
    """

    def project(self, project_hash: str, holder: str, *, shared: bool = False) -> AbstractContextManager[None]:
        """Shared by runs that may overlap, held alone by whoever writes straight to `main`.

        Raises TransientBusyError where it cannot be had, naming whoever took it last.
        """

    def life(self, run_id: str) -> AbstractContextManager[None]:
        """Tells others that a run lives."""

    def check(self) -> None:
        """Raises TransientLedgerError where locks that were taken are not held any more."""

    def close(self) -> None: ...


class FileLocks:
    """Files of this machine, under AUTOLABEL_HOME. The lock of its spool folder tells that a run lives."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def project(self, project_hash: str, holder: str, *, shared: bool = False) -> AbstractContextManager[None]:
        return hold(self._home / "locks" / f"{project_hash}.lock", holder, shared=shared)

    def life(self, run_id: str) -> AbstractContextManager[None]:
        return nullcontext()

    def check(self) -> None:
        """The kernel takes no lock back."""

    def close(self) -> None:
        pass


def device_lock(home: Path, project_hash: str, device: str) -> Path:
    """Of a project on a device of this machine."""
    name = re.sub(r"[^-.\w]", "_", DEVICES.get(device, device))
    return home / "locks" / f"{project_hash}-{name}.lock"


@contextmanager
def hold_for(work: str, *locks: AbstractContextManager[None]) -> Iterator[None]:
    """Hold locks for a run that does some work.

    Raises TransientBusyError where another run does the same work, TransientError where it does something else.
    """
    with ExitStack() as stack:
        try:
            for lock in locks:
                stack.enter_context(lock)
        except TransientBusyError as error:
            if work.startswith("run") and error.holder.startswith(work):
                raise
            raise TransientError(f"{error.holder} holds the project, so nothing was done") from None
        yield


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock alone. Those who ask do not see each other."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False

"""Locks that die with the process that holds them, however it ends: the kernel's, on files of this machine."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autolabel.errors import TransientBusyError


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
            file.seek(0)
            raise TransientBusyError(file.read().strip() or "another run") from None
        file.truncate(0)
        file.write(f"{holder} (process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')})\n")
        file.flush()
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

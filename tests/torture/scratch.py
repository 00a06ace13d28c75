"""Where the harness keeps its files: in memory, if there is room. What it kills are processes, which leave that as
they leave a disk, and the pace of a disk would decide how long it takes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

MEMORY = Path("/dev/shm")
ROOM_BYTES = 2 << 30


def folder(prefix: str) -> TemporaryDirectory[str]:
    """One that goes away when it is left."""
    has_room = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM_BYTES
    return TemporaryDirectory(prefix=prefix, dir=MEMORY if has_room else None)

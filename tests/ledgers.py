"""Ledgers opened by a test; the unit tests' conftest closes them after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from autolabel.database import Database
from autolabel.ledger import Ledger

OPEN: list[Ledger] = []


def open_ledger(folder: Path, *, alive: bool = False, clock: Callable[[], float] = lambda: 12.0) -> Ledger:
    """`alive`: whether runs that have not ended still live."""
    OPEN.append(Ledger(Database(folder / "ledger.sqlite"), clock, lambda run_id: alive))
    return OPEN[-1]

"""Ledgers opened by a test; the unit tests' conftest closes them after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from autolabel.ledger import Ledger

OPEN: list[Ledger] = []


def open_ledger(folder: Path, clock: Callable[[], float] = lambda: 12.0) -> Ledger:
    OPEN.append(Ledger(folder / "ledger.sqlite", clock))
    return OPEN[-1]

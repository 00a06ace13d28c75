"""Ledgers opened by a test; the unit tests' conftest closes them after it."""

from __future__ import annotations

from pathlib import Path

from autolabel.ledger import Ledger

OPEN: list[Ledger] = []


def open_ledger(folder: Path) -> Ledger:
    OPEN.append(Ledger(folder / "ledger.sqlite", clock=lambda: 12.0))
    return OPEN[-1]

"""What every unit test gets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import ledgers


@pytest.fixture(autouse=True)
def _close_ledgers() -> Iterator[None]:
    yield
    while ledgers.OPEN:
        ledgers.OPEN.pop().close()

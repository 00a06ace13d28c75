"""Parts that are broken on purpose: each shows that a test of the harness can turn red."""

from __future__ import annotations

from autolabel.bootstrap import Session
from autolabel.sync import Ports


def swapped(name: str | None, ports: Ports, session: Session) -> Ports:
    return ports

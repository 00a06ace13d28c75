"""T3: a push stands still just before it sends, for longer than any lease; others work on meanwhile, then it goes on.

Random kills do not find what this finds: a writer that wakes up long after it lost its rows.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerProcess

import psutil

from torture import pushes
from torture.arena import Match, arena_for
from torture.kills import undisturbed

LEASE_S = 0.4
SENDS = (
    "before labelrow PUT",
    "before labelrow POST",
    "before POST /projects/*/labels/copy-branch",
    "before POST /projects/*/workflow/stages/*/actions",
)
LATEST = 3
STOP_LIMIT_S = 60.0


@dataclass(frozen=True)
class Stall:
    """Where the first run stands still, how (`stop`: the process, `sleep`: its thread), and for how many leases."""

    point: str
    time: int
    is_stop: bool
    leases: float

    @property
    def order(self) -> tuple[str, int, str]:
        return self.point, self.time, "stop" if self.is_stop else f"sleep {self.leases * LEASE_S:.3f}"


def before_sending(seed: int, amount: int, *, destination: str = "main", double: str | None = None) -> list[str]:
    """`amount` stalls; a second run comes when the lease is over, and people edit what it has written."""
    found: list[str] = []
    dice = random.Random(seed)
    with arena_for("T3", 2 + amount) as ground:
        expected = undisturbed(ground, agent=True, destination=destination)[1]
        sends = [name for name in SENDS if name in expected]
        for number in range(amount):
            name = sends[number % len(sends)]
            time_ = dice.randint(1, min(LATEST, expected[name]))
            stall = Stall(name, time_, dice.random() < 0.7, dice.uniform(2, 5))
            match = ground.take(agent=True)
            match = replace(match, job=replace(match.job, destination=destination, double=double, lease_s=LEASE_S))
            found += [f"{stall}: {one}" for one in _stalled(match, stall, dice)]
    return found


def _stalled(match: Match, stall: Stall, dice: random.Random) -> list[str]:
    first = pushes.start(replace(match.job, points=(stall.order,)))
    began_s = time.monotonic()
    _wait(lambda: _is_stalled(first, stall, match, began_s))
    time.sleep(stall.leases * LEASE_S if stall.is_stop else LEASE_S)
    codes = [pushes.run(replace(match.job, device="second"))]
    _edit(match, dice)
    if stall.is_stop and first.is_alive():
        os.kill(first.pid or 0, signal.SIGCONT)
    codes.append(pushes.finish(first))
    codes.append(pushes.run(match.job))
    wrong = [f"exit codes {codes}"] if any(codes) else []
    return wrong + match.violations(settled=True)


def _is_stalled(process: ForkServerProcess, stall: Stall, match: Match, began_s: float) -> bool:
    """A sleeping thread cannot be seen from here: what it did before its sleep is soon over."""
    if not process.is_alive():
        return True
    if stall.is_stop:
        return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
    return time.monotonic() - began_s > 2 * LEASE_S


def _wait(is_over: Callable[[], bool]) -> None:
    limit_s = time.monotonic() + STOP_LIMIT_S
    while not is_over():
        if time.monotonic() > limit_s:
            raise TimeoutError("the push does not come to its stall")
        time.sleep(0.01)


def _edit(match: Match, dice: random.Random) -> None:
    """What people do with what was handed to them: draw here, correct there, empty a row."""
    platform = match.platform()
    at = {change.after["data_hash"]: platform.stages[change.after["stage_uuid"]] for change in platform.tasks}
    rows = {c.after["data_hash"]: c.after for c in platform.rows if c.after["branch"] == "main"}
    for data_hash, row in sorted(rows.items()):
        if at[data_hash] != "ANNOTATION" or dice.random() < 0.3:
            continue
        match.person_somehow(row, dice)

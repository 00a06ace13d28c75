"""T3: a push stands still just before it sends, for longer than any lease; others work on meanwhile, then it goes on.

Random kills do not find what this finds: a writer that wakes up long after it lost its rows.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import psutil

from torture import points, pushes
from torture.arena import Match, arena_for
from torture.kills import undisturbed

LEASE_S = 0.2
SAVE = "before labelrow POST"
SENDS = (
    "before labelrow PUT",
    SAVE,
    "before POST /projects/*/labels/copy-branch",
    "before POST /projects/*/workflow/stages/*/actions",
)
LATEST = 3
STOP_SHARE = 0.7
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Stall:
    """Where the first run stands still, and until when: until the second has come to a point, or (None) has ended.

    One that waits for the end is stopped whole; else the thread that sends is held, and the others go on.
    """

    point: str
    time: int
    until: str | None

    def order(self, gate: Path) -> points.Order:
        return self.point, self.time, "stop" if self.until is None else f"hold {gate}"


def before_sending(
    seed: int,
    amount: int,
    *,
    destination: str = "main",
    sends: Sequence[str] = SENDS,
    stop_share: float = STOP_SHARE,
    double: str | None = None,
) -> list[str]:
    """`amount` stalls; a second run comes when the lease is over, and people edit what it has written."""
    found: list[str] = []
    dice = random.Random(seed)
    with arena_for("T3", 2 + amount) as ground:
        expected = undisturbed(ground, agent=True, destination=destination)[1]
        names = [name for name in sends if name in expected]
        for number in range(amount):
            name = names[number % len(names)]
            time_ = dice.randint(1, min(LATEST, expected[name]))
            stall = Stall(name, time_, None if dice.random() < stop_share else dice.choice(sorted(expected)))
            match = ground.take(agent=True)
            match = replace(match, job=replace(match.job, destination=destination, double=double, lease_s=LEASE_S))
            found += [f"{stall}: {one}" for one in _stalled(match, stall, dice)]
    return found


def _stalled(match: Match, stall: Stall, dice: random.Random) -> list[str]:
    """Every step waits for what can be seen of the one before it, so that the machine's pace decides nothing."""
    gate, *traces = (match.arena.folder / f"{name}-{match.home.name}" for name in ("gate", "first", "second"))
    first = pushes.start(replace(match.job, points=(stall.order(gate),), trace=str(traces[0])))
    _wait(first, lambda: _stands_still(first, stall, traces[0]))
    if not first.is_alive():
        return [f"the first run never came to its stall: exit code {pushes.finish(first)}"]
    time.sleep(LEASE_S)
    second = pushes.start(replace(match.job, device="second", trace=str(traces[1])))
    try:
        _wait(second, lambda: stall.until is not None and points.read(traces[1])[stall.until] > 0)
        _edit(match, dice)
    finally:
        gate.touch()
        os.kill(first.pid or 0, signal.SIGCONT)
    codes = [pushes.finish(first), pushes.finish(second), pushes.run(match.job)]
    wrong = [f"exit codes {codes}"] if any(codes) else []
    return wrong + match.violations(settled=True)


def _stands_still(process: ForkServerProcess, stall: Stall, trace: Path) -> bool:
    """A point is noted in the trace just before a thread is held there."""
    if stall.until is None:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
    return points.read(trace)[stall.point] >= stall.time


def _wait(process: ForkServerProcess, is_met: Callable[[], bool]) -> None:
    """Until the condition is met or the process has ended."""
    limit_s = time.monotonic() + PATIENCE_S
    while process.is_alive() and not is_met():
        if time.monotonic() > limit_s:
            raise TimeoutError("a push does not come to its point")
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

"""Brings owed runs to the process that carries them out: one at a time, and each project in its turn."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Any, Protocol

from autolabel.errors import AutolabelError, Interrupted
from autolabel.logs import get_logger
from autolabel.redaction import redact
from autolabel.wakes import Hint, Wake, Wakes

logger = get_logger(__name__)

POLL_S = 2.0
"""How often the ledger is looked at unasked: for what other hosts stored there, and what is to be tried again."""
FIRST_DELAY_S, LONGEST_DELAY_S = 30.0, 900.0
MOST_DOUBLINGS = 8
LONGEST_RUN_S = 12 * 3600.0
"""A run that is under way for longer is told as trouble."""


class Verdict(StrEnum):
    """What becomes of the wakes that a run was for."""

    DONE = "done"  # they are settled
    AGAIN = "again"  # its time was up while rows waited: another run is owed, after the other projects'
    LATER = "later"  # they stay owed, and are tried again after ever longer waits
    BUSY = "busy"  # another run holds the project: they stay owed, and are tried again after a short wait


@dataclass(frozen=True)
class Outcome:
    """How the answer to a hint ended. `projects`: those that hold the place of a hint without a project."""

    verdict: Verdict
    message: str = ""
    projects: tuple[str, ...] = ()


class Runner(Protocol):
    """What answers hints. For one thread, but for `pid`."""

    @property
    def pid(self) -> int | None:
        """Of its process, None while it has none."""
        ...

    def ask(self, hint: Hint) -> Outcome:
        """Run a hint's project, or find the projects that hold its place. Raises Interrupted when it is to stop."""
        ...

    def close(self) -> None:
        """End its process; the next hint starts another."""
        ...


@dataclass(frozen=True)
class _Delay:
    """After so many failures in a row, nothing is tried before a moment."""

    failures: int = 0
    until_s: float = 0.0


class Dispatcher:
    """A thread that serves what is owed, between `with` and its end.

    Wakes are by project and place, runs by project: one run settles all wakes of its project that were owed when it
    began, and what is asked for meanwhile is still owed afterwards. The project comes first that was served longest
    ago, so that none waits behind another that is asked for all the time, or that fails again and again; looking up
    places takes turns with them as one project would.

    - `allowed`: the projects that may be served.
    - `idle_s`: how long the runner keeps its process, with its models, without anything to do.
    - `stopping`: set at the end; the runner gives up then what it is at.
    - `clock`: seconds since 1970.
    """

    def __init__(
        self,
        wakes: Wakes,
        runner: Runner,
        allowed: Collection[str],
        idle_s: float,
        stopping: threading.Event,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._wakes, self._runner, self._allowed, self._idle_s = wakes, runner, frozenset(allowed), idle_s
        self._stopping, self._clock = stopping, clock
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._work, name="dispatcher", daemon=True)
        self._running: tuple[str, float] | None = None
        self._trouble: str | None = None
        self._delays: dict[str, _Delay] = {}
        self._turns: dict[str, int] = {}
        self._turn = count(1)
        self._served_s = clock()

    def __enter__(self) -> Dispatcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """A run that is under way gives its rows back; its wakes stay owed."""
        self._stopping.set()
        self._woken.set()
        self._thread.join()

    def wake(self) -> None:
        """Something may be owed: look now. From any thread."""
        self._woken.set()

    def state(self) -> dict[str, Any]:
        """`running`: a project's hash or None; `since_s`: since 1970; `child_pid`; `queued`: wakes that are owed."""
        project_hash, since_s = self._running or (None, None)
        queued = self._wakes.depth()
        return {"running": project_hash, "since_s": since_s, "child_pid": self._runner.pid, "queued": queued}

    def is_ready(self) -> str | None:
        """Why nothing is being served, in one line; None where all is well."""
        if not self._thread.is_alive():
            return "no thread serves what is owed"
        running = self._running
        if running is not None and self._clock() - running[1] > LONGEST_RUN_S:
            return f"a run has been under way for more than {LONGEST_RUN_S / 3600:.0f} hours"
        return self._trouble

    def _work(self) -> None:
        try:
            while not self._stopping.is_set():
                self._woken.clear()
                if not self._try_step():
                    self._woken.wait(POLL_S)
        except Interrupted:
            logger.info("stopped in the middle of a run; it is still owed")
        finally:
            self._runner.close()

    def _try_step(self) -> bool:
        try:
            found, trouble = self.step(), None
        except Exception as error:  # noqa: BLE001 # the thread's last resort: it must outlive a ledger that is locked
            words = str(error) if isinstance(error, AutolabelError) else f"{type(error).__name__}: {error}"
            found, trouble = False, redact(words)
        if trouble is not None and trouble != self._trouble:
            logger.error("nothing can be served", error=trouble)
        self._trouble = trouble
        return found

    def step(self) -> bool:
        """Serve the project whose turn it is. False where there is none; the runner's process may end then."""
        due = self._due()
        if not due:
            if self._runner.pid is not None and self._clock() - self._served_s >= self._idle_s:
                self._runner.close()
            return False
        key = min(due, key=lambda key: [self._turns.get(of, 0) for of in (due[key][0].hint.project_hash, key)])
        self._serve(key, due[key])
        return True

    def _due(self) -> dict[str, list[Wake]]:
        """What is owed and not to be tried later, by `_key`, the longest owed first."""
        due = defaultdict(list)
        for wake in self._wakes.owed():
            due[_key(wake.hint)].append(wake)
        now_s = self._clock()
        return {key: wakes for key, wakes in due.items() if self._delays.get(key, _Delay()).until_s <= now_s}

    def _serve(self, key: str, wakes: Sequence[Wake]) -> None:
        hint = wakes[0].hint
        if hint.project_hash and hint.project_hash not in self._allowed:
            logger.warning("a wake is dropped: AUTOLABEL_PROJECTS names its project no more", project=key)
            self._settle(wakes)
            return
        self._turns[hint.project_hash] = self._turns[key] = next(self._turn)
        self._running = (hint.project_hash, self._clock()) if hint.project_hash else None
        try:
            outcome = self._runner.ask(hint)
        finally:
            self._running, self._served_s = None, self._clock()
        logger.info("served", project=hint.project_hash, place=hint.place, **vars(outcome))
        self._follow(key, wakes, outcome)

    def _follow(self, key: str, wakes: Sequence[Wake], outcome: Outcome) -> None:
        if outcome.verdict in (Verdict.LATER, Verdict.BUSY):
            self._put_off(key, wakes, outcome.verdict)
            return
        self._delays.pop(key, None)
        hint = wakes[0].hint
        if not hint.project_hash and not outcome.projects:
            logger.info("a hint is ignored: no project of ours holds its place", place=hint.place)
        for project_hash in outcome.projects:
            self._wakes.request(Hint(project_hash, hint.place))
        if outcome.verdict == Verdict.AGAIN:
            self._wakes.request(hint)
        self._settle(wakes)

    def _put_off(self, key: str, wakes: Sequence[Wake], verdict: Verdict) -> None:
        """That another run holds the project is no failure."""
        failures, delay_s = self._delays.get(key, _Delay()).failures, FIRST_DELAY_S
        if verdict == Verdict.LATER:
            delay_s = min(FIRST_DELAY_S * 2 ** min(failures, MOST_DOUBLINGS), LONGEST_DELAY_S)
            failures += 1
        self._delays[key] = _Delay(failures, self._clock() + delay_s)
        for wake in wakes:
            self._wakes.put_off(wake, delay_s)

    def _settle(self, wakes: Sequence[Wake]) -> None:
        for wake in wakes:
            self._wakes.settle(wake)


def _key(hint: Hint) -> str:
    """Hints with the same are served together."""
    return hint.project_hash or hint.place
